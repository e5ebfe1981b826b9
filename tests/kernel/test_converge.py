"""What is declared comes to be, on the real kernel."""

from __future__ import annotations

import json

import pytest

from model import netlink as nl
from reconciler.render import change_data
from tests.kernel.lab import Lab, sh

TWO = """
links:
- {service: node, bridge: s1, ip: [10.0.0.1/16, "fd00::1/64"], mac: "02:00:00:00:00:01", mtu: 9000,
   route: [default via 10.0.255.1, "fd01::/64 via fd00::ffff metric 7", blackhole 192.0.2.0/24]}
- {container: server, bridge: s1, ip: 10.0.255.1/16, dev: lan0}
- {container: server, bridge: s2, ip: 172.16.0.1/24, dev: lan1, outer-dev: uplink}
"""


def test_a_declared_topology_is_there_with_every_attribute(lab: Lab) -> None:
    lab.add("node_1", "node_2", "server")
    lab.converge(TWO)
    # The kernel's linkwatch takes its time.
    for ns, dev in (("node_2", "eth0"), ("", "node_2-eth0")):
        lab.wait_for(lambda ns=ns, dev=dev: (lab.link(ns, dev) or {})["operstate"] == "UP")  # type: ignore[misc]

    second = lab.link("node_2", "eth0")
    assert second is not None
    assert second["address"] == "02:00:00:00:00:02"
    assert second["mtu"] == 9000
    assert lab.addresses("node_2", "eth0") == {"10.0.0.2/16", "fd00::2/64"}
    routes = {r["dst"]: r for r in lab.show("node_2", "route")}
    assert routes["default"]["gateway"] == "10.0.255.1"
    assert routes["192.0.2.0/24"]["type"] == "blackhole"
    six = {r["dst"]: r for r in lab.show("node_2", "-6", "route")}
    assert (six["fd01::/64"]["gateway"], six["fd01::/64"]["metric"]) == ("fd00::ffff", 7)

    outer = lab.link("", "node_2-eth0")
    assert outer is not None
    assert (outer["master"], outer["mtu"]) == ("s1", 9000)
    assert (lab.link("", "uplink") or {})["master"] == "s2"
    assert not outer["addr_info"], "an outer end has no address, not even a link-local one"
    assert not (lab.link("", "s1") or {})["addr_info"]
    for source, target in (("node_1", "10.0.0.2"), ("node_2", "10.0.255.1"), ("node_1", "fd00::2")):
        assert lab.pings(source, target), f"{source} -> {target}"


def test_tx_offload_is_off_unless_kept(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.converge(TWO)
    features = _ethtool("node_1", "eth0")
    assert features["tx-checksumming"] == "off"

    lab.restart("node_1")
    kept = lab.reconcile("--network-file", str(lab.config(TWO)), "--once", "--keep-veth-offload")
    assert kept.returncode == 0, kept.stderr
    assert _ethtool("node_1", "eth0")["tx-checksumming"] == "on"


def _ethtool(ns: str, dev: str) -> dict[str, str]:
    text = sh("ip", "netns", "exec", ns, "ethtool", "-k", dev)
    lines = (line.strip().partition(":") for line in text.splitlines())
    return {name: value.split()[0] for name, _, value in lines if value.split()}


def test_a_second_pass_finds_nothing_and_writes_nothing(lab: Lab) -> None:
    lab.add("node_1", "node_2", "server")
    lab.converge(TWO)
    with lab.untouched():
        assert lab.converge(TWO).plan.steps == ()


def test_a_preview_writes_nothing_and_names_exactly_what_is_then_done(lab: Lab) -> None:
    lab.add("node_1", "node_2", "server")
    file = str(lab.config(TWO))
    for disturb in (
        lab.monitor.settle,
        lambda: lab.ip("node_1", "link", "del", "eth0"),
        lambda: lab.ip("", "link", "del", "s1"),
        lambda: lab.ip("node_2", "link", "set", "eth0", "down"),
    ):
        disturb()
        with lab.untouched():
            dry = lab.reconcile("--network-file", file, "--dry-run", "--output", "json")
            assert dry.returncode == 2, dry.stderr
        once = lab.reconcile("--network-file", file, "--once", "--output", "json")
        assert once.returncode == 0, once.stderr
        assert json.loads(dry.stdout)["changes"] == json.loads(once.stdout)["changes"]
        assert lab.monitor.heard(), "nothing was done"
        with lab.untouched():
            again = lab.reconcile("--network-file", file, "--once", "--output", "json")
            assert json.loads(again.stdout)["changes"] == []


def test_scaling_gives_each_replica_its_own_and_touches_no_other(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    lab.converge(TWO)
    before = {n: lab.index(n, "eth0") for n in ("node_1", "node_2")}

    lab.add("node_3", "node_4", "node_5")
    lab.monitor.heard()
    lab.converge(TWO)
    names = {h.name for h in lab.monitor.heard() if h.kind == nl.RTM_NEWLINK and h.name}
    assert not names & {"node_1-eth0", "node_2-eth0"}
    assert [lab.addresses(f"node_{i}", "eth0") for i in range(1, 6)] == [
        {f"10.0.0.{i}/16", f"fd00::{i}/64"} for i in range(1, 6)
    ]

    lab.remove("node_2", "node_3", "node_4", "node_5")
    lab.wait_for(lambda: lab.link("", "node_5-eth0") is None)
    assert lab.converge(TWO).plan.steps == ()
    assert lab.index("node_1", "eth0") == before["node_1"]
    outers = [r["ifname"] for r in lab.show("", "link") if r["ifname"].startswith("node")]
    assert outers == ["node_1-eth0"]


def test_a_change_of_the_file_touches_only_what_changed(lab: Lab) -> None:
    lab.add("node_1", "node_2", "server")
    lab.converge(TWO)
    done = lab.converge(TWO.replace("172.16.0.1/24", "172.16.0.9/24"))
    assert [(s.action, str(s.key)) for s in done.plan.steps] == [
        ("create", "server:lan1 172.16.0.9/24"),
        ("delete", "server:lan1 172.16.0.1/24"),
    ]
    assert lab.addresses("server", "lan1") == {"172.16.0.9/24"}

    removed = "\n".join(line for line in TWO.splitlines() if "uplink" not in line)
    done = lab.converge(removed)
    assert [(s.action, str(s.key)) for s in done.plan.steps] == [
        ("delete", "self:uplink"),
        ("delete", "self:s2"),
    ]
    assert lab.link("server", "lan1") is None


@pytest.mark.parametrize(
    ("ip", "route"),
    [
        ("10.0.0.77/16", "default via 10.0.255.1"),  # secondary of the old one for a moment
        ("10.9.0.1/16", "default via 10.9.255.1"),
    ],
)
def test_an_address_is_exchanged_and_no_other_route_is_lost(lab: Lab, ip: str, route: str) -> None:
    one = """
links:
- {{container: a, bridge: s1, ip: {}, route: [{}, 192.0.2.0/24]}}
"""
    lab.add("a")
    lab.converge(one.format("10.0.0.1/16", "default via 10.0.255.1"))
    lab.converge(one.format(ip, route))
    assert lab.addresses("a", "eth0") == {ip}
    assert {r["dst"] for r in lab.show("a", "route")} >= {"default", "192.0.2.0/24"}
    assert lab.converge(one.format(ip, route)).plan.steps == ()


def test_destroy_leaves_nothing(lab: Lab) -> None:
    lab.add("node_1", "server")
    before = {ns: lab.ip(ns, "addr") + lab.ip(ns, "route") for ns in ("node_1", "server", "")}
    file = str(lab.config(TWO))
    lab.reconcile("--network-file", file, "--once")
    gone = lab.reconcile("--network-file", file, "--destroy")
    assert gone.returncode == 0, gone.stderr
    assert {ns: lab.ip(ns, "addr") + lab.ip(ns, "route") for ns in before} == before


def test_the_same_input_gives_the_same_plan(lab: Lab) -> None:
    lab.add("node_1", "node_2", "server")
    plans = [[change_data(s) for s in lab.preview(TWO).plan.steps] for _ in range(2)]
    assert plans[0] == plans[1]


def test_a_pinned_plane_outlives_the_command_and_goes_with_destroy(lab: Lab) -> None:
    lab.add("node_1", "server")
    file = str(lab.config(TWO))
    words = ("--network-file", file, "--dataplane", "pinned")
    assert lab.reconcile(*words, "--dry-run").returncode == 2
    assert lab.reconcile(*words, "--once").returncode == 0
    assert lab.link("relink-lab", "node_1-eth0")
    assert lab.link("", "node_1-eth0") is None
    assert lab.pings("node_1", "10.0.255.1")
    assert lab.reconcile(*words, "--dry-run").returncode == 0
    assert lab.reconcile(*words, "--destroy").returncode == 0
    assert "relink-lab" not in lab.ip("", "netns", "list")
    assert lab.link("node_1", "eth0") is None


@pytest.mark.parametrize("ip", ["::ffff:10.0.0.1/120", "::10.0.0.2/64", "fd00::10.0.0.1/64"])
def test_an_address_is_the_same_however_it_is_spelled(lab: Lab, ip: str) -> None:
    one = f'links: [{{container: a, bridge: s1, ip: "{ip}"}}]'
    lab.add("a")
    lab.converge(one)
    assert lab.converge(one).plan.steps == ()


def test_a_container_that_is_not_there_is_named(lab: Lab) -> None:
    file = str(lab.config("links: [{container: nosuch, bridge: s1}]"))
    done = lab.reconcile("--network-file", file, "--once")
    assert "nothing runs that is container nosuch" in done.stderr
    assert (
        "nothing runs that is container nosuch"
        in lab.reconcile("--network-file", file, "status").stdout
    )


def test_what_a_broken_file_declared_can_be_removed(lab: Lab) -> None:
    lab.add("node_1", "server")
    assert lab.reconcile("--network-file", str(lab.config(TWO)), "--once").returncode == 0
    gone = lab.reconcile("--network-file", str(lab.config("links: [5]")), "--destroy")
    assert "net.yaml:1:9" in gone.stderr
    assert gone.returncode == 0, gone.stderr
    assert lab.link("node_1", "eth0") is None
