"""Open vSwitch through the sidecar and the command line: its daemons, ports, drift, restarts."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from actuators.ovs_daemons import Place
from model.ovs import SBIN
from observers.namespaces import inside
from observers.ovs_facts import datapath
from tests.kernel.lab import Lab, sh
from tests.kernel.test_forward import TCP, UDP, talk
from tests.lab.features import guest
from tests.lab.ovs import DAEMONS, Tools, load_tun, start_theirs

NET = """
bridges: [{bridge: s1, mode: ovs}]
links:
- {service: node, bridge: s1, ip: 10.0.0.1/16, mtu: 1500}
- {container: server, bridge: s1, ip: 10.0.255.1/16, mtu: 1500}
"""
CONNECTED = "All links connected"
KERNEL, USERSPACE = pytest.mark.needs("openvswitch"), pytest.mark.lacks("openvswitch")
proves = pytest.mark.proves
LONG = 40 if guest() == "uml" else 15  # seconds


@pytest.fixture
def tools(lab: Lab) -> Iterator[Tools]:
    """The standard place, which is private to the tests and empty; afterwards again."""
    load_tun()
    made = Tools(Place())
    assert lab.names == []
    assert list(made.place.run.iterdir()) == []
    yield made
    made.end()


def reach(lab: Lab) -> bool:
    return lab.pings("node_1", "10.0.255.1")


@contextmanager
def running(lab: Lab, *words: str, text: str = NET) -> Iterator[Any]:
    """A sidecar that nothing but doorbells wakes, once it has connected everything."""
    lab.config(text)
    with lab.sidecar("--interval", "3600", *words) as process:
        lab.until_log(CONNECTED, LONG)
        yield process


def preview(lab: Lab, *words: str) -> Any:
    file = str(lab.directory / "net.yaml")
    answer = lab.reconcile("--network-file", file, "--output", "json", *words)
    return json.loads(answer.stdout)


def events(lab: Lab, name: str) -> list[dict[str, Any]]:
    return [event for event in lab.events() if event["event"] == name]


def states(lab: Lab) -> dict[str, tuple[str, str]]:
    answer = lab.reconcile("status", "--output", "json").stdout
    links = json.loads(answer)["links"] if answer else ()  # it does not listen yet
    return {link["key"]: (link["state"], link["message"]) for link in links}


# ------------------------------------------------------------------ the daemons


@USERSPACE
@proves("bridge ovs userspace datapath")
def test_the_sidecar_starts_the_daemons_and_stops_them(lab: Lab, tools: Tools) -> None:
    """The same with the kernel's: test_auto_is_open_vswitch_where_the_kernel_has_it."""
    lab.add("node_1", "server")
    with running(lab, "--dataplane", "pinned") as sidecar:
        plane = Path("/run/netns/relink-lab").stat().st_ino
        assert [Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in tools.pids()] == [plane] * 2
        assert reach(lab)
        lab.config(NET.replace("10.0.255.1", "10.0.255.2"))
        lab.wait_for(lambda: lab.pings("node_1", "10.0.255.2"))
        assert len(events(lab, "userspace_datapath")) == 1
        assert [e["daemon"] for e in events(lab, "daemon_started")] == list(DAEMONS)
        sidecar.send_signal(signal.SIGTERM)
        assert sidecar.wait(20) == 0
    assert tools.pids() == [0, 0]
    assert list(tools.place.run.iterdir()) == []
    assert not Path("/run/netns/relink-lab").exists()


def test_the_daemons_of_somebody_else_go_on(lab: Lab, tools: Tools) -> None:
    lab.add("node_1", "server")
    start_theirs(tools.place)
    tools.vsctl("add-br", "theirs", "--", "set", "bridge", "theirs", "datapath_type=netdev")
    before, pids = tools.rows("Bridge"), tools.pids()
    with running(lab):
        assert reach(lab)
        assert tools.names("Bridge") == {"s1", "theirs"}
    assert tools.pids() == pids
    assert tools.rows("Bridge") == before


def test_half_of_somebody_elses_daemons_is_not_completed(lab: Lab, tools: Tools) -> None:
    """A server of ours would tell their switch that it has no bridges."""
    lab.add("node_1", "server")
    start_theirs(tools.place)
    tools.vsctl("add-br", "theirs", "--", "set", "bridge", "theirs", "datapath_type=netdev")
    index, switch = lab.index("", "theirs"), tools.pid("ovs-vswitchd")
    tools.kill("ovsdb-server")
    lab.config(NET)
    done = lab.reconcile("--network-file", str(lab.directory / "net.yaml"), "--once")
    assert done.returncode == 1
    assert "somebody's ovs-vswitchd runs without its ovsdb-server" in done.stderr
    assert tools.pids() == [0, switch]
    assert lab.index("", "theirs") == index
    assert lab.link("", "node_1-eth0") is None


def test_a_restart_of_the_sidecar_leaves_flows_and_ports_untouched(lab: Lab, tools: Tools) -> None:
    lab.add("node_1", "server")

    def everything() -> object:
        interfaces = [
            (row["name"], row["_uuid"], row["ofport"], row["ifindex"])
            for row in tools.rows("Interface")
        ]
        flows = tools.ofctl("dump-flows", "s1", "--no-stats")
        # Numbers, names and addresses; that a carrier has come is told a little later.
        ports = re.findall(r"(\S+)\((\S+)\): addr:(\S+)", tools.ofctl("dump-ports-desc", "s1"))
        assert len(ports) == 3
        return sorted(map(str, interfaces)), flows, ports, tools.configuration()

    def received() -> list[int]:
        """Packets that each port has counted since it was plugged in."""
        return [int(n) for n in re.findall(r"rx pkts=(\d+)", tools.ofctl("dump-ports", "s1"))]

    with running(lab) as first:
        tools.ofctl("add-flow", "s1", "cookie=0x7,priority=7,icmp,actions=normal")
        assert reach(lab)
        before, pids, counted = everything(), tools.pids(), received()
        first.kill()
        first.wait()
    assert tools.pids() == pids
    with lab.untouched(), running(lab) as second:
        second.kill()
        second.wait()
    with lab.untouched(), running(lab, "--on-exit", "keep"):
        pass
    assert everything() == before
    assert tools.pids() == pids
    assert len(counted) == 3
    assert all(now >= then for now, then in zip(received(), counted, strict=True))
    assert "cookie=0x7" in tools.ofctl("dump-flows", "s1", "--no-stats")
    with running(lab):  # and this one knows that they are to be stopped
        assert reach(lab)
    assert tools.pids() == [0, 0]


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_is_killed(lab: Lab, tools: Tools, daemon: str) -> None:
    """Somebody kills it: it is started again because its end rang, an hour before the next tick."""
    lab.add("node_1", "server")
    with running(lab):
        before = lab.index("node_1", "eth0"), lab.index("", "node_1-eth0")
        took = []
        for number in (1, 2):
            tools.kill(daemon)
            took.append(lab.wait_for(lambda: all(tools.pids()) and reach(lab), LONG))
            told = [(e["daemon"], e["reason"]) for e in events(lab, "daemon_ended")]
            assert told == [(daemon, "ended by signal 9")] * number
            started = [*DAEMONS, *[daemon] * number]  # told once the program says that it serves
            lab.wait_for(
                lambda s=started: [e["daemon"] for e in events(lab, "daemon_started")] == s
            )
        print(f"{daemon} killed: connected again after {min(took):.2f} to {max(took):.2f} s")
        assert (lab.index("node_1", "eth0"), lab.index("", "node_1-eth0")) == before
        lab.wait_for(lambda: preview(lab, "--dry-run")["changes"] == [], LONG)
        lab.add("node_2")  # what comes later is plugged in
        lab.wait_for(lambda: lab.addresses("node_2", "eth0"), LONG)
        lab.wait_for(lambda: lab.pings("node_2", "10.0.0.1"), LONG)
    assert tools.pids() == [0, 0]
    assert list(tools.place.run.iterdir()) == [], "nor anything of those that were killed"
    assert len(events(lab, "daemon_ended")) == 2, "an orderly stop is none"


def test_what_killed_daemons_left_is_removed_with_the_rest(lab: Lab, tools: Tools) -> None:
    """Nobody is there to start them again, and the next who comes has nothing left to stop."""
    lab.add("node_1", "server")
    with running(lab, "--on-exit", "keep"):
        pass
    for daemon in DAEMONS:
        tools.kill(daemon)
    with running(lab):
        assert reach(lab)
    assert list(tools.place.run.iterdir()) == []


def test_a_data_plane_that_comes_anew_has_its_switch(lab: Lab, tools: Tools) -> None:
    lab.add("node_1", "server")
    lab.config(NET)
    with lab.sidecar("--dataplane", "pinned", "--interval", "1"):
        lab.until_log(CONNECTED, LONG)
        lab.ip("", "netns", "del", "relink-lab")
        lab.wait_for(lambda: lab.link("relink-lab", "node_1-eth0") and reach(lab), LONG)
        plane = Path("/run/netns/relink-lab").stat().st_ino
        assert [Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in tools.pids()] == [plane] * 2
    assert tools.pids() == [0, 0]


# ----------------------------------------------------------------------- ports


def test_200_ports_take_two_transactions_at_most(lab: Lab, tools: Tools) -> None:
    lab.add("a")
    links = [f"{{container: a, bridge: s1, dev: e{n}, ip: 10.{n}.0.1/24}}" for n in range(200)]
    lab.config("bridges: [{bridge: s1, mode: ovs}]\nlinks:\n- " + "\n- ".join(links))
    started = time.perf_counter()
    done = lab.reconcile("--network-file", str(lab.directory / "net.yaml"), "--once")
    assert done.returncode == 0, done.stderr
    took, sent = time.perf_counter() - started, tools.configuration()
    print(f"200 links on Open vSwitch, its start included: {took:.2f} s, {sent} transactions")
    assert len(tools.rows("Port")) == 201
    assert 1 <= sent <= 2


DRIFTS: dict[str, Callable[[Lab, Tools], object]] = {
    "veth deleted": lambda lab, _: lab.ip("", "link", "del", "node_1-eth0"),
    "container's end deleted": lambda lab, _: lab.ip("node_1", "link", "del", "eth0"),
    "port deleted": lambda _, tools: tools.vsctl("del-port", "node_1-eth0"),
    "bridge deleted": lambda _, tools: tools.vsctl("del-br", "s1"),
    "fail mode": lambda _, tools: tools.vsctl("set-fail-mode", "s1", "secure"),
    "snooping": lambda _, tools: tools.vsctl("set", "bridge", "s1", "mcast_snooping_enable=true"),
    "lowered": lambda lab, _: lab.ip("", "link", "set", "s1", "down"),
}


def test_what_somebody_changes_is_put_right(lab: Lab, tools: Tools) -> None:
    lab.add("node_1", "server")
    if datapath() == "netdev":  # the kernel's datapath refuses it
        DRIFTS["bridge's interface deleted"] = lambda lab, _: lab.ip("", "link", "del", "s1")

    def good() -> object:
        bridges = [(r["fail_mode"], r["mcast_snooping_enable"]) for r in tools.rows("Bridge")]
        own = lab.link("", "s1") or {}
        return (
            bridges, tools.names("Port"), "UP" in own.get("flags", ()), own.get("group"),
            own.get("ifalias"), own.get("address"), lab.addresses("node_1", "eth0"),
        )  # fmt: skip

    with running(lab):
        server, right = lab.index("server", "eth0"), good()
        for name, drift in DRIFTS.items():
            drift(lab, tools)
            took = lab.wait_for(lambda: good() == right and reach(lab), LONG, name)
            print(f"{name}: put right after {took * 1e3:.0f} ms, looking with ovs-vsctl and ping")
        assert lab.index("server", "eth0") == server
        lab.wait_for(lambda: preview(lab, "--dry-run")["changes"] == [], LONG)


def test_a_container_restarted_again_and_again_receives_each_time(lab: Lab, tools: Tools) -> None:
    lab.add("node_1", "server")
    with running(lab):
        for _ in range(5):
            lab.restart("node_1")
            lab.wait_for(lambda: lab.addresses("node_1", "eth0"), LONG)
            lab.wait_for(lambda: lab.pings("server", "10.0.0.1"), LONG)
        lab.remove("node_1")
        lab.wait_for(lambda: tools.names("Port") == {"s1", "server-eth0"}, LONG)
        lab.add("node_1")
        lab.wait_for(lambda: lab.pings("server", "10.0.0.1"), LONG)


def test_ports_of_what_vanished_while_nobody_looked_are_removed(lab: Lab, tools: Tools) -> None:
    lab.add("node_1", "node_2", "server")
    with running(lab, "--on-exit", "keep"):
        assert tools.names("Port") == {"s1", "server-eth0", "node_1-eth0", "node_2-eth0"}
    lab.remove("node_1")
    lab.restart("node_2")
    done = lab.reconcile("--network-file", str(lab.directory / "net.yaml"), "--once")
    assert done.returncode == 0, done.stderr
    assert tools.names("Port") == {"s1", "server-eth0", "node_2-eth0"}
    assert lab.pings("server", "10.0.0.2")


def test_a_bridge_of_somebody_else_that_has_our_name_is_a_conflict(lab: Lab, tools: Tools) -> None:
    lab.add("node_1", "server", "other")
    start_theirs(tools.place)
    tools.vsctl("add-br", "s1", "--", "set", "bridge", "s1", "datapath_type=netdev")
    before = tools.rows("Bridge"), tools.rows("Port"), lab.link("", "s1")
    lab.config(NET + "- {container: other, bridge: s2, ip: 10.2.0.1/24}\n")
    with lab.sidecar("--interval", "3600", "--default-bridge-mode", "ovs"):
        lab.wait_for(lambda: states(lab).get("other:eth0") == ("Ready", ""), LONG)
        told = states(lab)
        assert told["self:s1"] == ("Conflict", "somebody else has another Open vSwitch bridge s1")
        assert told["node_1:eth0"][0] == "Blocked"
        assert "s1" in told["node_1:eth0"][1]
        assert lab.link("node_1", "eth0") is None
        assert [r for r in tools.rows("Bridge") if r["name"] == "s1"] == before[0]
        tools.vsctl("del-br", "s1")  # it goes, and everything that waited for it is made
        lab.until_log(CONNECTED, LONG)
        assert reach(lab)
        tools.vsctl("del-br", "s1")


@proves("bridge linux", "bridge patch")
@pytest.mark.parametrize(
    "ovs",
    [
        pytest.param("openvswitch", marks=[KERNEL, proves("bridge ovs kernel datapath")]),
        pytest.param("tun", marks=[USERSPACE, proves("bridge ovs userspace datapath")]),
    ],
)
def test_a_bridge_changes_its_mode_and_the_containers_ends_stay(
    lab: Lab, tools: Tools, ovs: str
) -> None:
    """`ovs`: the kind of interface that its bridge has, by its datapath."""
    lab.add("node_1", "server")
    ends = ("node_1", "server")

    def same() -> object:
        rows = [lab.link(ns, "eth0") or {} for ns in ends]
        return [(row.get("ifindex"), row.get("address"), row.get("link_index")) for row in rows]

    def switched(mode: str) -> bool:
        """Nothing of another mode is left."""
        own = (lab.link("", "s1") or {}).get("linkinfo", {}).get("info_kind")
        kinds = {"linux": "bridge", "ovs": ovs}
        filters = sh("tc", "filter", "show", "dev", "node_1-eth0", "ingress", check=False)
        ports = tools.names("Bridge") if tools.place.socket.exists() else set()
        return (
            own == kinds.get(mode)
            and bool(filters) == (mode == "patch")
            and ports == ({"s1"} if mode == "ovs" else set())
        )

    with running(lab, text=NET.replace("ovs", "linux")):
        before = same()
        assert reach(lab)
        for mode in ("ovs", "patch", "ovs", "linux", "ovs"):
            lab.config(NET.replace("mode: ovs", f"mode: {mode}"))
            lab.wait_for(lambda mode=mode: switched(mode) and reach(lab), LONG, mode)
            assert same() == before
            assert preview(lab, "--dry-run")["changes"] == []


# ------------------------------------------------------------- tunnels, forwards


def test_a_tunnel_is_plugged_into_a_bridge(lab: Lab, tools: Tools) -> None:
    """The other end is made by ip(8)."""
    lab.add("node_1", "far")
    sh("ip", "link", "add", "under", "type", "veth", "peer", "under", "netns", "far")
    lab.ip("", "addr", "add", "192.0.2.1/24", "dev", "under")
    lab.ip("", "link", "set", "under", "up")
    lab.ip("far", "addr", "add", "192.0.2.2/24", "dev", "under")
    lab.ip("far", "link", "set", "under", "up")
    lab.ip("far", "link", "add", "over", "type", "vxlan", "id", "5", "remote", "192.0.2.1",
           "dstport", "4789")  # fmt: skip
    lab.ip("far", "addr", "add", "10.0.255.1/16", "dev", "over")
    lab.ip("far", "link", "set", "over", "up")
    text = """
    bridges: [{bridge: s1, mode: ovs}]
    tunnels: [{type: vxlan, vni: 5, remote: 192.0.2.2, bridge: s1}]
    links: [{service: node, bridge: s1, ip: 10.0.0.1/16}]
    """
    with running(lab, text=text):
        assert tools.names("Port") == {"s1", "vxlan-5", "node_1-eth0"}
        assert reach(lab)
        assert (lab.link("node_1", "eth0") or {})["mtu"] == 1450
        lab.ip("", "link", "del", "vxlan-5")
        lab.wait_for(lambda: lab.link("", "vxlan-5") and reach(lab), LONG)


def test_a_forward_leads_through_a_bridge(lab: Lab, tools: Tools) -> None:
    _forward_through_a_bridge(lab, tools)


@pytest.mark.qemu  # its datapath needs NAT, which User Mode Linux lacks
def test_a_forward_leads_through_a_bridge_of_the_kernel(lab: Lab, tools: Tools) -> None:
    assert datapath() == "system"
    _forward_through_a_bridge(lab, tools)


def _forward_through_a_bridge(lab: Lab, tools: Tools) -> None:
    lab.add("node_1", "client")
    sh("ip", "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", "client")
    lab.ip("", "addr", "add", "198.51.100.1/24", "dev", "eth0")
    lab.ip("", "link", "set", "eth0", "up")
    lab.ip("client", "addr", "add", "198.51.100.2/24", "dev", "eth0")
    lab.ip("client", "link", "set", "eth0", "up")
    text = """
    bridges: [{bridge: s1, mode: ovs}]
    links: [{service: node, bridge: s1, ip: 10.0.0.1/16, forward: ["8080:80/tcp", "8080:80/udp"]}]
    """

    def forwarded() -> bool:
        for kind in (TCP, UDP):
            seen = talk("client", ("198.51.100.1", 8080), "node_1", 80, kind)
            assert seen == ("198.51.100.2", "198.51.100.1")
        return True

    with running(lab, text=text):
        assert forwarded()
        tools.vsctl("del-br", "s1")  # with it go the routes and neighbours on its interface
        lab.wait_for(lambda: tools.names("Bridge") == {"s1"} and bool(lab.link("", "s1")), LONG)
        lab.wait_for(lambda: preview(lab, "--dry-run")["changes"] == [], LONG)
        assert forwarded()


# ------------------------------------------------------------- the command line


def test_a_preview_starts_nothing_and_names_what_is_then_done(lab: Lab, tools: Tools) -> None:
    lab.add("node_1", "server")
    lab.config(NET)
    with lab.untouched():
        told = preview(lab, "--dry-run")
    assert tools.pids() == [0, 0]
    assert list(tools.place.run.iterdir()) == []
    done = preview(lab, "--once")
    assert done["changes"] == told["changes"]
    assert done["digest"] == told["digest"]
    assert reach(lab)
    pids, configuration = tools.pids(), tools.configuration()
    with lab.untouched():
        assert preview(lab, "--dry-run")["changes"] == []
        assert preview(lab, "--once")["changes"] == []
    assert tools.configuration() == configuration
    assert tools.pids() == pids
    assert len(preview(lab, "--destroy", "--dry-run")["changes"]) > 0
    assert tools.names("Bridge") == {"s1"}
    lab.reconcile("--network-file", str(lab.directory / "net.yaml"), "--destroy")
    assert tools.pids() == [0, 0]
    assert list(tools.place.run.iterdir()) == []
    assert lab.show("", "link", "show") == lab.show("", "link", "show", "lo")
    assert lab.link("node_1", "eth0") is None


# --------------------------------------------------------------- what is missing


@contextmanager
def hidden(path: str) -> Iterator[None]:
    """Nothing is at a file's place, or in a directory, nor can be made there."""
    if Path(path).is_file():
        sh("mount", "--bind", "/dev/null", path)
    else:
        sh("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", path)
    try:
        yield
    finally:
        sh("umount", path)


def program(name: str) -> str:
    return os.path.realpath(shutil.which(name, path=SBIN) or "")


def test_programs_that_are_missing_are_told(lab: Lab, tools: Tools) -> None:
    lab.add("node_1", "server")
    lab.config(NET)
    with hidden(program("ovs-vswitchd")), lab.sidecar("--interval", "3600"):
        lab.until_log("not_ready")
        told = states(lab)
        assert "ovs-vswitchd is not installed" in " ".join(m for _, m in told.values())
        assert told["node_1:eth0"][0] == "Blocked"
        assert lab.link("node_1", "eth0") is None
    assert list(tools.place.run.iterdir()) == []


@USERSPACE
def test_a_missing_tun_device_is_told(lab: Lab, tools: Tools) -> None:
    """The kernel's datapath needs none."""
    lab.add("node_1", "server")
    lab.config(NET)
    with hidden("/dev/net"), lab.sidecar("--interval", "3600"):  # nor can it be made
        lab.wait_for(lambda: "/dev/net/tun" in states(lab).get("node_1:eth0", ("", ""))[1], LONG)
        assert states(lab)["node_1:eth0"][0] in ("Unsupported", "Backoff")
    assert tools.pids() == [0, 0]


# ------------------------------------------------------------------------- auto


AUTO = NET.replace("mode: ovs", "mode: auto")


def _kind(lab: Lab, text: str = AUTO) -> str:
    lab.config(text)
    kinds = {c["type"] for c in preview(lab, "--dry-run")["changes"]}
    return "ovs" if "ovs-bridge" in kinds else "linux"


@USERSPACE
@proves("bridge auto")
@pytest.mark.usefixtures("tools")
def test_auto_is_linux_without_the_kernels_datapath(lab: Lab) -> None:
    """Where it has one: test_auto_is_open_vswitch_where_the_kernel_has_it."""
    lab.add("node_1", "server")
    assert _kind(lab) == "linux"
    assert _kind(lab, NET) == "ovs"
    with running(lab, text=AUTO):
        assert (lab.link("", "s1") or {})["linkinfo"]["info_kind"] == "bridge"
        assert reach(lab)


@proves("bridge auto", "bridge ovs kernel datapath")
@KERNEL
def test_auto_is_open_vswitch_where_the_kernel_has_it(lab: Lab, tools: Tools) -> None:
    lab.add("node_1", "server")
    with hidden(program("ovsdb-server")):
        assert _kind(lab) == "linux"
        tools.place.socket.touch()  # left behind: nobody answers there
        assert _kind(lab) == "linux"
        tools.place.socket.unlink()
    with running(lab, "--dataplane", "pinned", text=AUTO):
        with inside("/run/netns/relink-lab"):
            assert "node_1-eth0" in tools.appctl("dpctl/show", "system@ovs-system")
        plane = Path("/run/netns/relink-lab").stat().st_ino
        assert [Path(f"/proc/{pid}/ns/net").stat().st_ino for pid in tools.pids()] == [plane] * 2
        assert reach(lab)
        assert "userspace_datapath" not in lab.log()
    assert tools.pids() == [0, 0]
    assert list(tools.place.run.iterdir()) == []


@KERNEL
def test_open_vswitch_that_answers_is_enough_for_auto(lab: Lab, tools: Tools) -> None:
    """Its programs may be elsewhere, as with the host's socket in a container."""
    lab.add("node_1", "server")
    start_theirs(tools.place)
    with hidden(program("ovsdb-server")):
        assert _kind(lab) == "ovs"
