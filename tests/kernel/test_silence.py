"""What we make says nothing of its own: whatever is heard is from the containers themselves."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from actuators.ovs_daemons import Place
from tests.kernel.lab import Lab, sh
from tests.kernel.test_patch import sniffer
from tests.lab.ovs import Tools, load_tun

NET = """
bridges: [{bridge: p1, mode: patch}, {bridge: s1, mode: linux}, {bridge: s2, mode: ovs}]
tunnels:
- {type: vxlan, bridge: s1, vni: 1, remote: 192.0.2.2}
- {type: vxlan, bridge: s2, vni: 2, remote: 192.0.2.2}
links:
- {container: left, bridge: p1, ip: [10.0.0.1/24, "fd00::1/64"]}
- {container: right, bridge: p1, ip: [10.0.0.2/24, "fd00::2/64"]}
- {service: node, bridge: s1, ip: [10.1.0.1/24, "fd01::1/64"]}
- {service: box, bridge: s2, ip: [10.2.0.1/24, "fd02::1/64"]}
"""
CONTAINERS = ("left", "right", "node_1", "node_2", "box_1", "box_2")


@pytest.fixture
def tools() -> Iterator[Tools]:
    load_tun()
    made = Tools(Place())
    yield made
    made.end()


@pytest.mark.proves("bridge linux", "bridge patch")
def test_nobody_of_us_says_anything_for_30_seconds(lab: Lab, tools: Tools) -> None:
    """On a patch, on bridges of both kinds, in tunnels that are plugged into them, and inside."""
    lab.add(*CONTAINERS, "far")
    _wire(lab)
    with ExitStack() as stack:
        here = stack.enter_context(sniffer(""))
        lab.config(NET)
        stack.enter_context(lab.sidecar("--interval", "3600"))
        lab.until_log("All links connected", 40)
        assert all(tools.pids())
        inside = [stack.enter_context(sniffer(ns, "eth0")) for ns in CONTAINERS]
        over = [stack.enter_context(sniffer("far", dev)) for dev in ("over1", "over2")]
        ours = _macs(lab, "")
        wire = {ours.pop("under")}  # the other host's; it sends what is in the tunnels
        theirs = {_macs(lab, ns)["eth0"] for ns in CONTAINERS}
        outer = {f"{name}-eth0" for name in CONTAINERS}
        # Open vSwitch's userspace datapath has an interface of its own beside the bridge's.
        assert ours.keys() - {"ovs-netdev"} == {*outer, "s1", "s2", "vxlan-1", "vxlan-2"}
        end = time.monotonic() + 30
        while (left := end - time.monotonic()) > 0:
            lab.monitor.wait(left)
            lab.monitor.heard()
        tunnelled = [_sources(ear) for ear in over]
        sources = set().union(_sources(here), *map(_sources, inside), *tunnelled)
    assert all(found & theirs for found in tunnelled), "solicitations show that the capture works"
    assert {name for name, mac in ours.items() if mac in sources} == set()
    assert sources <= theirs | wire | set(_macs(lab, "far").values())


def _wire(lab: Lab) -> None:
    """Another host, whose ends of the tunnels are made by ip(8)."""
    sh("ip", "link", "add", "under", "type", "veth", "peer", "under", "netns", "far")
    for ns, address in (("", "192.0.2.1"), ("far", "192.0.2.2")):
        lab.ip(ns, "addr", "add", f"{address}/24", "dev", "under")
        lab.ip(ns, "link", "set", "under", "up")
    for vni in ("1", "2"):
        words = ("vxlan", "id", vni, "remote", "192.0.2.1", "dstport", "4789")
        lab.ip("far", "link", "add", f"over{vni}", "type", *words)
        lab.ip("far", "link", "set", f"over{vni}", "up")


def _macs(lab: Lab, ns: str) -> dict[str, bytes]:
    rows = lab.show(ns, "link")
    found = {row["ifname"]: bytes.fromhex(row["address"].replace(":", "")) for row in rows}
    return {name: mac for name, mac in found.items() if any(mac)}


def _sources(sock: socket.socket) -> set[bytes]:
    """Return who has sent what was heard."""
    sock.settimeout(0)
    found = set()
    while True:
        try:
            found.add(sock.recv(2048)[6:12])
        except BlockingIOError:
            return found - {bytes(6)}  # the loopback's
