"""Whatever is changed behind our back is put right, because the kernel said so."""

from __future__ import annotations

import itertools
import json
import re
import signal
import statistics
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from reconciler.control import ask, fetch
from reconciler.retries import FIGHT, FIRST, MANY
from tests.kernel.lab import Lab, settings, sh

HELD = 6  # tries
NET = """
links:
- {service: node, bridge: s1, ip: [10.0.0.1/16, "fd00::1/64"], mtu: 1500,
   route: [default via 10.0.255.1, "fd01::/64 via fd00::ffff", blackhole 192.0.2.0/24]}
"""
# What an administrator, or another program, might do to a live link.
DRIFTS: dict[str, Callable[[Lab], object]] = {
    "inner end deleted": lambda lab: lab.ip("node_2", "link", "del", "eth0"),
    "outer end deleted": lambda lab: lab.ip("", "link", "del", "node_2-eth0"),
    "inner end renamed": lambda lab: (
        lab.ip("node_2", "link", "set", "eth0", "down"),
        lab.ip("node_2", "link", "set", "eth0", "name", "mine"),
    ),
    "outer end renamed": lambda lab: (
        lab.ip("", "link", "set", "node_2-eth0", "down"),
        lab.ip("", "link", "set", "node_2-eth0", "name", "mine"),
    ),
    "outer end moved away": lambda lab: lab.ip("", "link", "set", "node_2-eth0", "netns", "other"),
    "inner end moved away": lambda lab: lab.ip("node_2", "link", "set", "eth0", "netns", "other"),
    "address deleted": lambda lab: lab.ip("node_2", "addr", "del", "10.0.0.2/16", "dev", "eth0"),
    "addresses flushed": lambda lab: lab.ip("node_2", "addr", "flush", "dev", "eth0"),
    "IPv6 address deleted": lambda lab: lab.ip(
        "node_2", "addr", "del", "fd00::2/64", "dev", "eth0"
    ),
    "route to the prefix deleted": lambda lab: lab.ip("node_2", "route", "del", "10.0.0.0/16"),
    "IPv6 route to the prefix deleted": lambda lab: lab.ip(
        "node_2", "-6", "route", "del", "fd00::/64"
    ),
    "route deleted": lambda lab: lab.ip("node_2", "route", "del", "default"),
    "route changed": lambda lab: lab.ip(
        "node_2", "route", "replace", "default", "via", "10.0.0.9", "proto", "158"
    ),
    "blackhole deleted": lambda lab: lab.ip("node_2", "route", "del", "blackhole", "192.0.2.0/24"),
    "IPv6 route deleted": lambda lab: lab.ip("node_2", "-6", "route", "del", "fd01::/64"),
    "bridge membership removed": lambda lab: lab.ip("", "link", "set", "node_2-eth0", "nomaster"),
    "plugged into another bridge": lambda lab: (
        lab.ip("", "link", "add", "foreign0", "type", "bridge"),
        lab.ip("", "link", "set", "node_2-eth0", "master", "foreign0"),
    ),
    "bridge deleted": lambda lab: lab.ip("", "link", "del", "s1"),
    "bridge down": lambda lab: lab.ip("", "link", "set", "s1", "down"),
    "inner end down": lambda lab: lab.ip("node_2", "link", "set", "eth0", "down"),
    "outer end down": lambda lab: lab.ip("", "link", "set", "node_2-eth0", "down"),
    "MTU changed": lambda lab: lab.ip("node_2", "link", "set", "eth0", "mtu", "1400"),
    "outer MTU changed": lambda lab: lab.ip("", "link", "set", "node_2-eth0", "mtu", "1400"),
    "MAC changed": lambda lab: lab.ip(
        "node_2", "link", "set", "eth0", "address", "02:00:00:00:00:99"
    ),
    "offload switched on": lambda _lab: sh(
        "ip", "netns", "exec", "node_2", "ethtool", "-K", "eth0", "tx", "on"
    ),
    "outer end no longer silent": lambda lab: (
        lab.ip("", "link", "set", "node_2-eth0", "addrgenmode", "eui64"),
        lab.ip("", "link", "set", "node_2-eth0", "alias", "x"),  # the mode rings no bell
    ),
    "alias changed": lambda lab: lab.ip("node_2", "link", "set", "eth0", "alias", "mine"),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_drift_is_repaired_and_neighbours_do_not_notice(
    lab: Lab, name: str, record_property: Callable[[str, object], None]
) -> None:
    lab.add("node_1", "node_2", "other")
    lab.config(NET)
    # The tick is an hour away: whatever is repaired is repaired because the kernel rang.
    with lab.sidecar("--interval", "3600"):
        lab.wait_for(lambda: "All links connected" in lab.log())
        neighbour = settings(lab.link("node_1", "eth0") or {})
        good = _state(lab)
        took: list[float] = []
        for _ in range(3):
            DRIFTS[name](lab)
            took.append(lab.wait_for(lambda: _state(lab) == good, why=f"{name} not repaired"))
            lab.ip("", "link", "del", "foreign0", check=False)
        assert settings(lab.link("node_1", "eth0") or {}) == neighbour
        assert lab.preview(NET).plan.steps == ()
        record_property("seconds", [round(t, 4) for t in took])
        print(
            f"{name}: repaired in {statistics.median(took) * 1e3:.1f} ms (median), "
            f"{max(took) * 1e3:.1f} ms (worst), looking with ip(8)"
        )


def _state(lab: Lab) -> object:
    """What an administrator sees of node_2's link, without numbers that a new one has anew."""
    inner, outer = lab.link("node_2", "eth0"), lab.link("", "node_2-eth0")
    bridge = lab.link("", "s1")
    if not inner or not outer or not bridge:
        return None
    routes = [
        sorted(
            f"{r['dst']} {r.get('gateway')} {r.get('type')}"
            for r in lab.show("node_2", *words)
            if not r["dst"].startswith(("fe80", "ff00"))
        )
        for words in (("route",), ("-6", "route"))
    ]
    offload = sh("ip", "netns", "exec", "node_2", "ethtool", "-k", "eth0", check=False)
    return (
        inner["address"], inner["mtu"], "UP" in inner["flags"], inner.get("ifalias"),
        lab.addresses("node_2", "eth0"), routes, "tx-checksumming: off" in offload,
        outer.get("master"), outer["mtu"], "UP" in outer["flags"], outer.get("ifalias"),
        outer.get("inet6_addr_gen_mode"), "UP" in bridge["flags"],
        [a for a in outer["addr_info"] if a["family"] == "inet6"],
    )  # fmt: skip


def test_what_others_add_to_our_link_stays(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    lab.config(NET)
    with lab.sidecar("--interval", "3600"):
        lab.wait_for(lambda: "All links connected" in lab.log())
        lab.ip("node_2", "addr", "add", "10.7.0.1/24", "dev", "eth0")
        lab.ip("node_2", "route", "add", "10.8.0.0/24", "via", "10.7.0.2")
        lab.ip("node_2", "link", "set", "eth0", "mtu", "1400")
        lab.wait_for(lambda: (lab.link("node_2", "eth0") or {})["mtu"] == 1500)
        assert "10.7.0.1/24" in lab.addresses("node_2", "eth0")
        assert "10.8.0.0/24" in {r["dst"] for r in lab.show("node_2", "route")}


@pytest.mark.proves("state down")
def test_a_link_that_is_declared_down_stays_down(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    down = NET.replace("mtu: 1500", "mtu: 1500, state: down")
    wanted = {"10.0.0.2/16", "fd00::2/64"}

    def is_up() -> bool:
        return "UP" in (lab.link("node_2", "eth0") or {})["flags"]

    lab.config(down)
    with lab.sidecar("--interval", "3600"):
        lab.wait_for(lambda: "All links connected" in lab.log())
        assert not is_up()
        assert lab.addresses("node_2", "eth0") == wanted
        index = lab.index("node_2", "eth0")
        for _ in range(2):
            lab.ip("node_2", "link", "set", "eth0", "up")
            lab.wait_for(lambda: not is_up() and lab.addresses("node_2", "eth0") == wanted)
        lab.wait_for(lambda: lab.preview(down).plan.steps == ())
        for text, state in ((NET, True), (down, False), (NET, True)):
            lab.config(text)
            # The kernel takes IPv6 addresses with it when a link goes down; the next look sees it.
            lab.wait_for(
                lambda s=state: (
                    is_up() == s
                    and lab.addresses("node_2", "eth0") == wanted
                    and _state_of(lab, "node_2") == "Ready"
                )
            )
            assert ("default via 10.0.255.1" in lab.ip("node_2", "route")) == state
            assert "blackhole 192.0.2.0/24" in lab.ip("node_2", "route")
        assert lab.index("node_2", "eth0") == index
        assert not [e for e in lab.events() if e["event"] in ("fighting", "step_failed")]


def test_what_somebody_holds_is_tried_ever_more_seldom_and_at_once_when_it_is_let_go(
    lab: Lab,
) -> None:
    """Who has a macvlan on an outer end receives for it, so that no bridge can (EBUSY)."""
    lab.add("node_1", "node_2")
    lab.config(NET)
    with lab.sidecar("--interval", "3600") as sidecar:
        lab.wait_for(lambda: "All links connected" in lab.log())
        sidecar.send_signal(signal.SIGSTOP)
        lab.ip("", "link", "set", "node_2-eth0", "nomaster")
        lab.ip("", "link", "add", "theirs", "link", "node_2-eth0", "type", "macvlan")
        sidecar.send_signal(signal.SIGCONT)
        started = time.monotonic()
        lab.wait_for(lambda: _failures(lab) == HELD, 60)
        assert time.monotonic() - started >= FIRST * (2 ** (HELD - 1) - 1), "it was tried too often"
        lab.ip("", "link", "del", "theirs")
        let_go = time.monotonic()
        lab.wait_for(lambda: _state_of(lab, "node_2") == "Ready", 60)
        assert time.monotonic() - let_go < FIRST * 2 ** (HELD - 1) / 2, "it waited for its time"
        assert (lab.link("", "node_2-eth0") or {})["master"] == "s1"


def _failures(lab: Lab) -> int:
    told = (fetch(lab.instance, "/metrics") or b"").decode()
    return sum(int(float(n)) for n in re.findall(r"relink_failures_total\{.*\} (\S+)", told))


@pytest.mark.parametrize(
    ("reacts", "writes"),
    [
        pytest.param("at once", ["1400", "1300"], id="at once, two values in turn"),
        pytest.param("when it is in place", ["1400", "1300", "1200"], id="later, three values"),
    ],
)
def test_another_actor_is_reported_once_with_its_values_and_slowed(
    lab: Lab, reacts: str, writes: list[str]
) -> None:
    lab.add("node_1", "node_2")
    lab.config(NET)
    turn = itertools.cycle(writes)
    with lab.sidecar("--interval", "3600"):
        lab.wait_for(lambda: "All links connected" in lab.log())
        index = lab.index("node_2", "eth0")

        def is_ours() -> bool:
            (row,) = json.loads(sh("ip", "-n", "node_2", "-j", "link", "show", "eth0"))
            return bool(row["mtu"] == 1500)

        def changes() -> list[datetime]:
            found = (e for e in lab.events() if e["event"] == "changed" and "mtu" in e)
            return [datetime.fromisoformat(e["timestamp"]) for e in found]

        def is_slow() -> bool:
            if is_ours() and (reacts == "at once" or _state_of(lab, "node_2") == "Ready"):
                lab.ip("node_2", "link", "set", "eth0", "mtu", next(turn))
            at = changes()
            gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(at)]
            return bool(gaps) and gaps[-1] > 1.5

        lab.wait_for(is_slow, 40)
        assert _state_of(lab, "node_2") in ("Fighting", "Ready")
        (fight,) = [e for e in lab.events() if e["event"] == "fighting"]
        told = [f"mtu {value} -> 1500" in fight["reason"] for value in writes]
        assert all(told), fight
        # 3 or 10 until it is told, and five until more than 1.5 s lie between two: 100 ms, doubled.
        assert len(changes()) <= (FIGHT if reacts == "at once" else MANY) + 6
        assert lab.index("node_2", "eth0") == index
        # Nobody is let down for it: what the actor leaves alone lasts.
        lab.wait_for(is_ours, 20)


def _state_of(lab: Lab, name: str) -> str:
    links = {link["key"]: link["state"] for link in (ask(lab.instance) or {})["links"]}
    return links[f"{name}:eth0"]
