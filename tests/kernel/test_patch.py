"""Patches as they are declared: two containers, a cable between them, and nothing else on it."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from observers.namespaces import inside
from reconciler.passes import run
from tests.kernel.lab import Lab, container_key, sh
from tests.kernel.test_redirect import FRAMES, SOURCE

NET = """
bridges: [{bridge: p1, mode: patch}]
links:
- {container: left, bridge: p1, ip: [10.0.0.1/24, "fd00::1/64"]}
- {container: right, bridge: p1, ip: [10.0.0.2/24, "fd00::2/64"]}
"""
THIRD = "- {container: third, bridge: p1, ip: 10.0.0.3/24}\n"
QUIET = ("--interval", "3600")  # no tick: what is repaired, was heard
OURS = "dev left-eth0 ingress pref 1505 handle 800::5e1"
OUTER = ("left-eth0", "right-eth0")


@pytest.fixture
def patch(lab: Lab) -> Lab:
    lab.add("left", "right")
    lab.converge(NET)
    both_ways()  # the kernel lets frames out a moment after the carrier
    return lab


@contextmanager
def sniffer(ns: str, dev: str = "", protocol: int = 3) -> Iterator[socket.socket]:
    """A packet socket of a namespace; protocol 3 (ETH_P_ALL) hears everything, 0 nothing."""
    with ExitStack() as stack:
        if ns:
            stack.enter_context(inside(f"/run/netns/{ns}"))
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        if dev:
            sock.bind((dev, protocol))
        yield sock


def arrives(sender: str, receiver: str, frame: bytes, dev: str = "eth0") -> bool:
    with sniffer(receiver, dev) as rx, sniffer(sender, dev, 0) as tx:
        rx.settimeout(1)
        tx.send(frame)
        try:
            while rx.recv(2048) != frame:
                pass
        except TimeoutError:
            return False
        return True


def reaches(ns: str, target: str) -> float:
    """Ping until the first answer; return the seconds that it took."""
    began = time.perf_counter()
    sh("ip", "netns", "exec", ns, "ping", "-c1", "-i0.02", "-w5", target)
    return time.perf_counter() - began


def both_ways() -> None:
    reaches("left", "10.0.0.2")
    reaches("right", "fd00::1")


def filters(dev: str) -> str:
    """What tc shows, without the number that the kernel gives each new action."""
    shown = sh("tc", "filter", "show", "dev", dev, "ingress", check=False)
    return re.sub(r"\n\s*index .*", "", shown)


def patched() -> bool:
    return all("Egress Redirect to device" in filters(dev) for dev in OUTER)


@pytest.mark.proves("bridge patch")
@pytest.mark.usefixtures("patch")
@pytest.mark.parametrize("name", ["STP", "PAUSE", "LACP", "802.1X", "LLDP", "ARP", "IPv6"])
def test_what_a_bridge_keeps_for_itself_passes_in_both_directions(name: str) -> None:
    destination, rest = FRAMES[name].split(" ", 1)
    frame = bytes.fromhex(destination) + SOURCE + bytes.fromhex(rest) + bytes(46)
    assert arrives("left", "right", frame)
    assert arrives("right", "left", frame)


@pytest.mark.proves("bridge patch")
def test_two_containers_talk_and_there_is_no_bridge(patch: Lab) -> None:
    both_ways()
    assert patch.show("", "link", "show", "type", "bridge") == []
    assert "mirred" in sh("tc", "filter", "show", "dev", "left-eth0", "parent", "ffff:")
    assert patch.converge(NET).plan.steps == ()
    patch.converge("links: []")
    assert patch.link("", "left-eth0") is None
    assert patch.link("left", "eth0") is None


@pytest.mark.parametrize("who", ["left", "right"])
def test_either_side_may_restart_again_and_again(patch: Lab, who: str) -> None:
    other = "right" if who == "left" else "left"
    with patch.sidecar(*QUIET):
        patch.until_log("All links connected")
        index = patch.index(other, "eth0")
        for _ in range(10):
            patch.restart(who)
            patch.wait_for(lambda: len(patch.addresses(who, "eth0")) == 2 and patched())
            both_ways()
        assert patch.index(other, "eth0") == index
    assert "step_failed" not in patch.log()


@pytest.mark.proves("bridge patch")
def test_a_third_link_is_refused_and_the_first_two_work_on(patch: Lab) -> None:
    with patch.sidecar(*QUIET):
        patch.until_log("All links connected")
        before = [patch.index("", dev) for dev in OUTER]
        patch.add("third")
        patch.config(NET + THIRD)
        patch.until_log("not_ready")
        status = json.loads(patch.reconcile("status", "--output", "json").stdout)
        states = {link["key"]: (link["state"], link["message"]) for link in status["links"]}
        words = "patch p1 joins two links, and has left:eth0 and right:eth0"
        assert states.pop("third:eth0") == ("Refused", words)
        assert {state for state, _ in states.values()} == {"Ready"}
        both_ways()
        assert [patch.index("", dev) for dev in OUTER] == before
        assert patch.link("third", "eth0") is None
        # When one of the two goes, there is a place.
        patch.remove("left")
        patch.wait_for(lambda: patch.link("third", "eth0"))
        reaches("third", "10.0.0.2")


@pytest.mark.parametrize(
    "harm",
    [
        "tc filter del dev left-eth0 ingress",
        "tc qdisc del dev left-eth0 ingress",
        f"tc filter replace {OURS} protocol all u32 action mirred egress redirect dev left-eth0",
        "ip link del right-eth0",
        "ip link set left-eth0 down",
    ],
)
def test_what_somebody_does_to_a_patch_is_put_right_at_once(patch: Lab, harm: str) -> None:
    with patch.sidecar(*QUIET):
        patch.until_log("All links connected")
        patch.monitor.settle()
        shown = [filters(dev) for dev in OUTER]
        sh(*harm.split())
        took = patch.wait_for(lambda: [filters(dev) for dev in OUTER] == shown, 5)
        print(f"\n{harm}: as it was after {took:.3f} s")
        both_ways()
        assert patch.reconcile("status").returncode == 0


CHAIN = """
bridges: [{bridge: p1, mode: patch}, {bridge: p2, mode: patch}]
links:
- {container: left, bridge: p1, ip: 10.0.0.1/24}
- {container: right, bridge: p1, ip: 10.0.0.2/24}
- {container: right, bridge: p2, dev: eth1, ip: 10.1.0.2/24}
- {container: third, bridge: p2, ip: 10.1.0.3/24}
"""
FORWARD = """\
- {container: third, bridge: s1, dev: eth1, ip: 10.2.0.3/24, forward: ["80:80/tcp"]}
"""


def test_a_look_at_one_end_of_a_chain_finds_all_of_it_in_place(lab: Lab) -> None:
    """Right has two patches: one that looks at left, and so at right, has to know of third."""
    lab.add("left", "right", "third")
    lab.converge(CHAIN)
    scope = frozenset({container_key("left")})
    assert run(lab.roster(CHAIN).world(), scope).plan.steps == ()
    # That third shares the data plane's table makes it a look at everything.
    assert lab.roster(CHAIN + FORWARD).is_about_all(scope)


def test_a_mode_changes_in_the_file_and_the_ends_in_the_containers_stay(patch: Lab) -> None:
    with patch.sidecar(*QUIET):
        patch.until_log("All links connected")
        ends = [patch.index(ns, "eth0") for ns in ("left", "right")]
        for mode in ("linux", "patch", "linux", "patch"):
            patch.config(NET.replace("mode: patch", f"mode: {mode}"))
            patch.wait_for(lambda m=mode: patched() == (m == "patch"))
            patch.wait_for(lambda m=mode: bool(patch.link("", "p1")) == (m == "linux"))
            both_ways()
        assert [patch.index(ns, "eth0") for ns in ("left", "right")] == ends
        assert [(patch.link("", dev) or {}).get("master") for dev in OUTER] == [None, None]


@pytest.mark.parametrize("qdisc", ["ingress", "clsact"])
def test_a_filter_of_somebody_else_on_our_outer_end_stays(patch: Lab, qdisc: str) -> None:
    patch.converge(NET.replace("mode: patch", "mode: linux"))
    sh("tc", "qdisc", "add", "dev", "left-eth0", qdisc)
    match = ("u32", "match", "ip", "dst", "192.0.2.1/32", "flowid", ":1")
    where = ("dev", "left-eth0", "ingress", "pref", "7", "protocol", "all")
    sh("tc", "filter", "add", *where, *match)
    theirs = filters("left-eth0")
    patch.converge(NET)
    assert theirs in filters("left-eth0")
    both_ways()
    assert patch.converge(NET).plan.steps == ()
    with patch.sidecar(*QUIET, "--on-exit", "keep") as sidecar:
        patch.until_log("All links connected")
        patch.restart("right")
        patch.wait_for(lambda: len(patch.addresses("right", "eth0")) == 2 and patched())
        both_ways()
        assert theirs in filters("left-eth0")
        sidecar.send_signal(signal.SIGTERM)
        sidecar.wait(10)
    patch.converge(NET.replace("mode: patch", "mode: linux"))
    assert filters("left-eth0") == theirs
