"""What we did not make is byte for byte the same, whatever we do beside it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping, Sequence

from actuators.requests import Request
from actuators.transport import Answer, send
from model.keys import NsKey
from reconciler.apply import Hands
from reconciler.passes import run
from tests.kernel.lab import Lab, sh
from tests.kernel.test_drift import DRIFTS, NET


def _foreign(lab: Lab, ns: str) -> None:
    """Put things of all kinds into a namespace, some of them close to ours."""
    for words in (
        "link add mine0 type bridge",
        "link add mine1 type veth peer name mine2",
        "link set mine1 master mine0 up",
        "link set mine2 up mtu 1300 alias somebody",
        "link set mine0 up",
        "addr add 10.200.0.1/16 dev mine0",
        "addr add fd00:9::1/64 dev mine0 nodad",
        "addr add 172.31.0.1/32 dev mine2",
        "route add 198.51.100.0/24 via 10.200.0.9",
        "route add blackhole 203.0.113.0/24 proto static",
        "route add 192.0.2.128/25 dev mine2 table 100 metric 5",
        "-6 route add fd02::/64 via fd00:9::2",
    ):
        lab.ip(ns, *words.split())


def _state(lab: Lab, ns: str) -> str:
    """All that there is of them, as the kernel tells it; no counters, no timers."""
    parts = [
        lab.ip(ns, "-d", "link", "show", name).replace("qdisc noop", "qdisc noqueue")
        for name in ("mine0", "mine1", "mine2")
    ]
    text = "".join(line for part in parts for line in part.splitlines() if "_timer" not in line)
    for name in ("mine0", "mine1", "mine2"):
        text += lab.ip(ns, "addr", "show", "dev", name)
        for family in ("-4", "-6"):
            text += lab.ip(ns, family, "route", "show", "table", "all", "dev", name)
    blackholes = lab.ip(ns, "route", "show", "type", "blackhole", "proto", "static")
    return text + blackholes


def test_foreign_things_stay_through_converge_drift_crash_and_destroy(lab: Lab) -> None:
    lab.add("node_1", "node_2", "other")
    places = ("", "node_1", "node_2")
    for ns in places:
        _foreign(lab, ns)
    lab.monitor.settle()
    # The kernel is still asking about link-local addresses of theirs.
    lab.wait_for(lambda: not any("tentative" in lab.ip(ns, "addr") for ns in places))
    before = {ns: _state(lab, ns) for ns in places}
    lab.config(NET)

    with lab.sidecar("--interval", "3600") as sidecar:
        lab.wait_for(lambda: "All links connected" in lab.log())
        for name in ("inner end deleted", "bridge deleted", "route changed", "MTU changed",
                     "addresses flushed", "inner end down"):  # fmt: skip
            DRIFTS[name](lab)
            lab.wait_for(lambda: lab.preview(NET).plan.steps == (), why=name)
        sidecar.send_signal(signal.SIGKILL)
        sidecar.wait()
    lab.converge("links: []")
    file = str(lab.config(NET.replace("10.0.0.1/16", "10.3.0.1/16").replace(" via 10.0.255.1", "")))
    once = lab.reconcile("--network-file", file, "--once")
    assert once.returncode == 0, once.stdout + once.stderr + lab.ip("node_2", "route")
    assert lab.reconcile("--network-file", file, "--destroy").returncode == 0

    assert {ns: _state(lab, ns) for ns in places} == before


def test_a_taken_name_is_a_conflict_and_the_rest_converges(lab: Lab) -> None:
    lab.add("node_1", "node_2", "node_3")
    lab.ip("node_1", "link", "add", "eth0", "type", "bridge")
    lab.ip("", "link", "add", "node_2-eth0", "type", "bridge")
    before = lab.ip("node_1", "-d", "addr"), lab.ip("", "-d", "link", "show", "node_2-eth0")

    done = lab.reconcile("--network-file", str(lab.config(NET)), "--once")

    assert done.returncode == 1
    assert (
        "node_1:eth0: Conflict: the name is taken by a bridge link that is not ours" in done.stderr
    )
    assert "node_2:eth0: Conflict" in done.stderr
    assert lab.addresses("node_3", "eth0") == {"10.0.0.3/16", "fd00::3/64"}
    assert (
        lab.ip("node_1", "-d", "addr"),
        lab.ip("", "-d", "link", "show", "node_2-eth0"),
    ) == before


def test_a_foreign_bridge_of_our_name_is_a_conflict(lab: Lab) -> None:
    lab.add("node_1")
    lab.ip("", "link", "add", "s1", "type", "bridge")
    done = lab.reconcile("--network-file", str(lab.config(NET)), "--once")
    assert done.returncode == 1
    assert "self:s1" in done.stderr
    assert lab.show("", "link", "show", "master", "s1") == []
    assert lab.link("node_1", "eth0") is None, "a link without its bridge is not half made"


def test_an_equal_address_or_route_of_somebody_else_satisfies_and_stays_theirs(lab: Lab) -> None:
    lab.add("node_1")
    lab.converge(NET)
    lab.ip("node_1", "route", "replace", "default", "via", "10.0.255.1", "proto", "static")
    assert lab.converge(NET).plan.steps == ()
    lab.converge("links: [{service: node, bridge: s1, ip: 10.0.0.1/16}]")
    assert "proto static" in lab.ip("node_1", "route", "show", "default")


def test_another_route_to_the_same_destination_is_a_conflict(lab: Lab) -> None:
    lab.add("node_1")
    lab.ip("node_1", "link", "add", "mine0", "type", "bridge")
    lab.ip("node_1", "link", "set", "mine0", "up")
    lab.ip("node_1", "route", "add", "default", "dev", "mine0")
    done = lab.reconcile("--network-file", str(lab.config(NET)), "--once")
    assert done.returncode == 1
    assert "somebody else has a route to there" in done.stderr
    assert lab.addresses("node_1", "eth0") == {"10.0.0.1/16", "fd00::1/64"}
    assert (
        sh("ip", "-n", "node_1", "route", "show", "default").strip().startswith("default dev mine0")
    )


def test_an_alternative_name_of_a_foreign_link_is_taken_too(lab: Lab) -> None:
    """The kernel resolves `altname` like a name; what it leads to is not ours to write to."""
    lab.add("node_1", "node_2", "node_3")
    lab.ip("", "link", "add", "mine0", "type", "bridge")
    lab.ip("", "link", "property", "add", "dev", "mine0", "altname", "node_1-eth0")
    lab.ip("node_2", "link", "add", "mine0", "type", "bridge")
    lab.ip("node_2", "link", "property", "add", "dev", "mine0", "altname", "eth0")
    before = [lab.ip(ns, "-d", "link", "show", "mine0") for ns in ("", "node_2")]

    done = lab.reconcile("--network-file", str(lab.config(NET)), "--once")

    assert done.returncode == 1
    assert "node_1:eth0: Conflict" in done.stderr
    assert "node_2:eth0: Conflict: it is another name of mine0" in done.stderr
    assert lab.addresses("node_3", "eth0") == {"10.0.0.3/16", "fd00::3/64"}
    assert [lab.ip(ns, "-d", "link", "show", "mine0") for ns in ("", "node_2")] == before


def test_whoever_takes_a_name_between_look_and_write_is_not_written_to(lab: Lab) -> None:
    lab.add("node_1")
    world = lab.roster(NET).world()
    taken = False

    def slow(requests: Sequence[Request], sockets: Mapping[NsKey, socket.socket]) -> list[Answer]:
        nonlocal taken
        if not taken:
            taken = True
            lab.ip("", "link", "add", "s1", "type", "bridge")
            lab.ip("node_1", "link", "add", "eth0", "type", "bridge")
        return send(requests, sockets)

    done = run(world, decide=lambda plan, _desired: plan, hands=Hands(send=slow))

    assert done.outcome is not None
    assert done.outcome.failures
    for ns, name in (("", "s1"), ("node_1", "eth0")):
        link = lab.link(ns, name) or {}
        assert (link["operstate"], link.get("ifalias"), link["group"]) == ("DOWN", None, "default")
    assert lab.addresses("node_1", "eth0") == set()


def test_a_foreign_veth_whose_indexes_happen_to_fit_is_no_end_of_ours(lab: Lab) -> None:
    """Docker's own eth0 has its peer in the host's namespace; its index says nothing about ours."""
    lab.add("node_1", "elsewhere", "node_2")
    lab.converge(NET)
    outer, inner = lab.index("", "node_1-eth0"), lab.index("node_1", "eth0")
    words = f"link add foreign index {inner} netns node_2 type veth peer name mine index {outer}"
    lab.ip("node_2", "link", "del", "eth0")
    lab.ip("elsewhere", *words.split())
    lab.ip("node_2", "link", "set", "foreign", "name", "eth7")

    steps = lab.preview(NET).plan.steps

    assert {s.key.ns.name for s in steps if s.key.ns.kind == "container"} == {"node_2"}
    assert "self:node_1-eth0" not in {str(s.key) for s in steps}


def test_a_next_hop_that_somebody_adds_to_our_ipv6_route_stays(lab: Lab) -> None:
    lab.add("node_1")
    lab.converge(NET)
    lab.ip("node_1", "-6", "route", "append", "fd01::/64", "via", "fd00::77")
    before = lab.ip("node_1", "-6", "route", "show", "fd01::/64")
    assert "fd00::77" in before
    assert lab.converge(NET).plan.steps == ()
    assert lab.ip("node_1", "-6", "route", "show", "fd01::/64") == before


def test_a_blackhole_waits_for_the_link_that_declares_it(lab: Lab) -> None:
    lab.add("node_1")
    lab.ip("node_1", "link", "add", "eth0", "type", "bridge")
    lab.converge(NET)
    assert "blackhole" not in lab.ip("node_1", "route")


def test_a_route_that_somebody_appends_to_ours_does_not_hide_it(lab: Lab) -> None:
    declared = "links: [{container: a, bridge: s1, ip: [10.0.0.1/16, 'fd00::1/64'], route: ROUTES}]"
    routes = "['10.9.0.0/16 via 10.0.0.254', 'fd09::/64 via fd00::5']"
    lab.add("a")
    lab.converge(declared.replace("ROUTES", routes))
    lab.ip("a", "route", "append", "10.9.0.0/16", "via", "10.0.0.77")
    lab.ip("a", "-6", "route", "append", "fd09::/64", "via", "fd00::6")
    done = lab.converge(declared.replace("ROUTES", routes))
    assert (done.plan.steps, done.plan.obstacles) == ((), ())
    lab.converge(declared.replace("ROUTES", "[]"))
    left = lab.ip("a", "route", "show", "10.9.0.0/16")
    assert "10.0.0.77" in left
    assert "10.0.0.254" not in left
