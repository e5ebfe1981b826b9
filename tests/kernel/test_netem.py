"""netem as it is declared, changed and removed in the file; and put right when somebody meddles."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model import netlink as nl
from tests.kernel.lab import Lab, sh

pytestmark = pytest.mark.needs("netem")

TC = (nl.RTM_NEWQDISC, nl.RTM_DELQDISC)
STRING = (
    "limit 500 delay 20ms 5ms 10% loss 1% 5% duplicate 2% corrupt 0.5% reorder 25% 50% rate 5mbit"
)
LIST = (
    '["limit 500", "delay 20ms 5ms 10%", "loss 1% 5%", "duplicate 2%", "corrupt 0.5%", '
    '"reorder 25% 50%", "rate 5mbit"]'
)
MAPPING = (
    "{limit: 500, delay: 20ms, jitter: 5ms, delay-correlation: 10%, loss: 1%, "
    "loss-correlation: 5%, duplicate: 2%, corrupt: 0.5%, reorder: 25%, "
    "reorder-correlation: 50%, rate: 5mbit}"
)


def _net(netem: str = "") -> str:
    words = f", netem: {netem}" if netem else ""
    return f"links: [{{service: node, bridge: s1, ip: 10.0.0.1/24{words}}}]"


def _qdisc(ns: str, dev: str = "eth0") -> dict[str, Any]:
    """What tc(8) shows of the root of an interface, with its counters."""
    rows = json.loads(sh("tc", "-n", ns, "-s", "-j", "qdisc", "show", "dev", dev, "root"))
    found: dict[str, Any] = rows[0] if rows else {}
    return found


def _shown(ns: str, dev: str = "eth0") -> tuple[str, str, object]:
    row = _qdisc(ns, dev)
    return row["kind"], row["handle"], row.get("options")


def _milliseconds(ns: str, target: str) -> float:
    """The fastest of three round trips."""
    words = sh("ip", "netns", "exec", ns, "ping", "-c3", "-i0.2", target)
    return float(words.rpartition("= ")[2].partition("/")[0])


def test_each_form_is_what_tc_makes_of_the_same_words(lab: Lab) -> None:
    lab.add("node_1", "node_2", "other")
    lab.ip("other", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
    sh("tc", "-n", "other", "qdisc", "add", "dev", "eth0", "root", "netem", *STRING.split())
    kind, _handle, options = _shown("other")
    for form in (STRING, LIST, MAPPING):
        done = lab.converge(_net(form))
        assert done.outcome
        assert (done.plan.obstacles, done.outcome.failures) == ((), ())
        for ns in ("node_1", "node_2"):
            assert (_shown(ns)[0], _shown(ns)[2]) == (kind, options), form
    assert lab.converge(_net(STRING)).plan.steps == (), "three ways to say one thing"


def test_two_replicas_with_40_ms_each_are_80_ms_apart(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    lab.converge(_net("delay 40ms"))
    apart = _milliseconds("node_1", "10.0.0.2")
    print(f"round trip of two ends with 40 ms each: {apart} ms")
    assert 80 <= apart < 80 * 1.25


@pytest.mark.proves("netem distribution uniform")
def test_a_change_in_the_file_keeps_the_queue(lab: Lab) -> None:
    """Its counters go on; and other tables, which the kernel cannot exchange, are another queue."""
    lab.add("node_1", "node_2")
    lab.converge(_net("delay 1ms"))
    assert lab.pings("node_1", "10.0.0.2")
    before = _qdisc("node_1")
    assert before["packets"] > 0
    index = lab.index("node_1", "eth0")

    lab.converge(_net("delay 2ms loss 0.1%"))
    after = _qdisc("node_1")
    assert after["handle"] == before["handle"]
    assert after["packets"] >= before["packets"]
    assert after["options"]["delay"]["delay"] == 0.002

    handles = {after["handle"]}
    for distribution in ("normal", "pareto", "paretonormal", "uniform"):
        net = _net(f"delay 2ms 1ms distribution {distribution}")
        lab.converge(net)
        handles.add(_qdisc("node_1")["handle"])
        assert lab.converge(net).plan.steps == (), distribution
    assert len(handles) >= 4, "what tables a queue has is told by its handle alone"
    assert lab.index("node_1", "eth0") == index

    lab.converge(_net())
    assert _qdisc("node_1")["kind"] == "noqueue"
    assert lab.converge(_net()).plan.steps == ()


def test_a_queue_of_somebody_else_is_a_conflict_and_stays(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    lab.converge(_net())
    for kind in ("1: pfifo limit 7", "2: netem delay 3ms"):
        words = ("qdisc", "replace", "dev", "eth0", "root", "handle", *kind.split())
        sh("tc", "-n", "node_1", *words)
        before = _shown("node_1")
        assert lab.converge(_net()).plan.steps == (), "nothing is declared: nothing is removed"
        done = lab.converge(_net("delay 5ms"))
        assert [(str(o.key), o.state) for o in done.plan.obstacles] == [
            ("node_1:eth0 qdisc root", "conflict")
        ]
        assert _shown("node_1") == before
        assert _shown("node_2")[2]["delay"]["delay"] == 0.005  # type: ignore[index]
        lab.converge(_net())
        assert _shown("node_1") == before
    sh("tc", "-n", "node_1", "qdisc", "del", "dev", "eth0", "root")
    lab.converge(_net("delay 5ms"))
    assert _shown("node_1")[2]["delay"]["delay"] == 0.005  # type: ignore[index]


@pytest.mark.needs("vxlan")
def test_whoever_meddles_rings_the_bell(lab: Lab) -> None:
    """In containers, and on a tunnel in the data plane; the next tick would be in an hour."""
    lab.add("node_1", "node_2")
    tunnel = "{type: vxlan, vni: 5, bridge: s1, remote: 192.0.2.1, netem: delay 6ms}"
    lab.config(f"{_net('delay 5ms')}\ntunnels: [{tunnel}]")
    took: dict[str, float] = {}

    def put_right(ns: str, dev: str, delay: float) -> bool:
        where = ("-n", ns) if ns else ()
        rows = json.loads(sh("tc", *where, "-j", "qdisc", "show", "dev", dev, "root"))
        options = rows[0].get("options", {}) if rows else {}
        return bool(options.get("delay", {}).get("delay") == delay)

    with lab.sidecar("--interval", "3600"):
        lab.until_log("All links connected", 20)
        handle = _qdisc("node_1")["handle"]
        for words in (
            f"change dev eth0 root handle {handle} netem delay 9ms",
            "del dev eth0 root",
        ):
            sh("tc", "-n", "node_1", "qdisc", *words.split())
            took[words.split()[0]] = lab.wait_for(lambda: put_right("node_1", "eth0", 0.005))
        sh("tc", "qdisc", "del", "dev", "vxlan-5", "root")
        took["tunnel"] = lab.wait_for(lambda: put_right("", "vxlan-5", 0.006))

        # Somebody else's in its place is theirs, and said; until they take it away.
        sh(
            "tc",
            "-n",
            "node_1",
            *["qdisc", "replace", "dev", "eth0", "root", "handle", "1:", "pfifo", "limit", "7"],
        )
        lab.until_log("node_1:eth0 qdisc root")
        answer = lab.reconcile("status", "--output", "json")
        states = {row["key"]: row["state"] for row in json.loads(answer.stdout)["links"]}
        assert (states["node_1:eth0"], states["node_2:eth0"]) == ("Conflict", "Ready")
        assert _shown("node_1")[:2] == ("pfifo", "1:")
        sh("tc", "-n", "node_1", *["qdisc", "del", "dev", "eth0", "root"])
        took["freed"] = lab.wait_for(lambda: put_right("node_1", "eth0", 0.005))

        lab.config(f"{_net('delay 7ms')}\ntunnels: [{tunnel}]")
        took["file"] = lab.wait_for(lambda: put_right("node_2", "eth0", 0.007))
        lab.config(_net())
        lab.wait_for(lambda: _qdisc("node_2")["kind"] == "noqueue")
    print({why: f"{seconds * 1000:.0f} ms" for why, seconds in took.items()})


def test_what_the_bell_of_queues_costs(lab: Lab) -> None:
    """Nothing for links without netem.

    With it each queue is told that is made, changed or removed, and the kernel's own, which it
    replaces. All of that comes with what the same pass does to the link, and is one look more.
    """
    names = [f"node_{number}" for number in range(1, 11)]
    lab.add(*names)

    def events(net: str) -> int:
        lab.monitor.heard()
        lab.converge(net)
        return len([heard for heard in lab.monitor.heard() if heard.kind in TC])

    told = {words: events(_net(words)) for words in ("", "delay 1ms", "delay 2ms")}
    told["gone"] = events(_net())
    print(f"events of queues of {len(names)} links: {told}")
    assert told == {"": 0, "delay 1ms": 20, "delay 2ms": 10, "gone": 10}
