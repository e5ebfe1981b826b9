"""Forwarding and translation between real namespaces; addresses and routes are set by ip(8)."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Literal, NamedTuple

import pytest

from actuators import neighbours as write_neighbours
from actuators import nft as write_nft
from actuators import rules as write_rules
from model.keys import Key
from model.nft import Nat, Return
from model.resources import Neighbour
from model.rule import rule
from observers.namespaces import inside
from tests.kernel.lab import Lab, container_key, sh
from tests.kernel.test_codec_rules import _Numbers
from tests.kernel.test_nft import (
    GROUP,
    INSIDE,
    PLANE,
    TCP,
    UDP,
    done,
    forward,
    observed,
    put,
    replicas,
    table,
)  # fmt: skip

BRIDGE_MAC = "02:00:00:00:00:fe"
MARK = 0x9E000001
TABLE = 15800
CLIENT = {4: "198.51.100.2", 6: "2001:db8:1::2"}
DOCKER = {4: "198.51.100.1", 6: "2001:db8:1::1"}
GATEWAY = {4: "169.254.0.158", 6: "fe80::9e"}
MACS = {"n1": "02:00:00:00:00:11", "n2": "02:00:00:00:00:12"}
FAMILY_NUMBERS: tuple[Literal[4, 6], ...] = (4, 6)
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
VERSIONS = pytest.mark.parametrize("version", [4, 6])


@contextmanager
def endpoint(
    ns: str, version: int, kind: int, address: str = "", port: int = 0
) -> Iterator[socket.socket]:
    with inside(f"/run/netns/{ns}"):
        sock = socket.socket(FAMILIES[version], kind)
    with closing(sock):
        sock.settimeout(3)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address or ("0.0.0.0" if version == 4 else "::"), port))  # noqa: S104
        if kind == socket.SOCK_STREAM and port:
            sock.listen()
        yield sock


class Talk(NamedTuple):
    """What a server saw: the client's address; and where the answer came from."""

    client: str
    answered_by: str


def talk(
    client: str, target: tuple[str, int], server: str, port: int, kind: int, *, bound: str = ""
) -> Talk:
    """Send a word to `target`, and back; `server` listens on `port`, on any address or on one."""
    version = 6 if ":" in target[0] else 4
    with (
        endpoint(server, version, kind, bound, port) as there,
        endpoint(client, version, kind) as here,
    ):
        if kind == socket.SOCK_STREAM:
            here.connect(target)
            accepted, peer = there.accept()
            with accepted:
                accepted.settimeout(3)
                here.sendall(b"word")
                assert accepted.recv(10) == b"word"
                accepted.sendall(b"answer")
                assert here.recv(10) == b"answer"
            return Talk(peer[0], here.getpeername()[0])
        here.sendto(b"word", target)
        word, peer = there.recvfrom(10)
        assert word == b"word"
        there.sendto(b"answer", peer)
        answer, source = here.recvfrom(10)
        assert answer == b"answer"
        return Talk(peer[0], source[0])


def sysctl(ns: str, name: str, value: int) -> None:
    sh("ip", "netns", "exec", ns, "sysctl", "-qw", f"net.{name}={value}")


def join(lab: Lab, a: tuple[str, str], b: tuple[str, str], mac: str = "") -> None:
    """A veth pair between two namespaces, both ends up."""
    words = ["link", "add", a[1], "netns", a[0], *(["address", mac] if mac else []), "type", "veth"]
    lab.ip("", *words, "peer", "name", b[1], "netns", b[0])
    for ns, dev in (a, b):
        lab.ip(ns, "link", "set", dev, "up")


def address(lab: Lab, ns: str, dev: str, *prefixes: str) -> None:
    for prefix in prefixes:
        lab.ip(ns, "addr", "add", prefix, "dev", dev, *(["nodad"] if ":" in prefix else []))


@pytest.fixture
def world(lab: Lab) -> Lab:
    """client -- (eth0) plane (br0) -- n1, n2; the plane has no address on the bridge."""
    lab.add("client", "plane", "n1", "n2")
    for ns in ("client", "plane", "n1", "n2"):
        lab.ip(ns, "link", "set", "lo", "up")
    join(lab, ("client", "eth0"), ("plane", "eth0"))
    address(lab, "client", "eth0", f"{CLIENT[4]}/24", f"{CLIENT[6]}/64")
    address(lab, "plane", "eth0", f"{DOCKER[4]}/24", f"{DOCKER[6]}/64")
    sysctl("plane", "ipv4.ip_forward", 1)
    sysctl("plane", "ipv6.conf.all.forwarding", 1)
    words = f"link add br0 address {BRIDGE_MAC} group {GROUP} type bridge"
    lab.ip("plane", *words.split())
    lab.ip("plane", "link", "set", "br0", "addrgenmode", "none", "up")
    for ns in ("n1", "n2"):
        join(lab, (ns, "eth0"), ("plane", f"{ns}-eth0"), MACS[ns])
        lab.ip("plane", "link", "set", f"{ns}-eth0", "master", "br0", "group", str(GROUP))
        address(lab, ns, "eth0", f"{INSIDE[ns][4]}/24", f"{INSIDE[ns][6]}/64")
        _reachable(lab, ns)
    return lab


def _reachable(lab: Lab, ns: str) -> None:
    """Give the plane a way to a container, and the container a way back."""
    key = container_key(ns)
    plane_numbers = _Numbers({lab.index("plane", "br0"): "br0"})
    numbers = _Numbers({lab.index(ns, "eth0"): "eth0"})
    for version in (4, 6):
        inside_ip = INSIDE[ns][version]
        lab.ip("plane", "route", "add", inside_ip, "dev", "br0")
        there = Neighbour(key=Key(PLANE, "neighbour", "br0", inside_ip), mac=MACS[ns])
        done(PLANE, write_neighbours.create(there, plane_numbers))
        back = Neighbour(key=Key(key, "neighbour", "eth0", GATEWAY[version]), mac=BRIDGE_MAC)
        done(key, write_neighbours.create(back, numbers))
        words = f"-{version} route add default via {GATEWAY[version]} dev eth0 onlink table {TABLE}"
        lab.ip(ns, *words.split(), "src", inside_ip)


def return_through_plane(ns: str, *ports: int) -> None:
    """All that a container needs for answers to find the way back, whatever its own routes are.

    By the connection's mark for what knows its source address. Before that is chosen no packet is
    there to carry a mark: UDP prefers the plane to a default route, and TCP, which is marked if it
    has any route at all, takes it where there is none.
    """
    key = container_key(ns)
    put(table(key, Return("eth0", BRIDGE_MAC, MARK)))
    for family in FAMILY_NUMBERS:
        rules = [rule(key, family, mark=MARK, table=TABLE, priority=100)]
        for port in ports:
            udp = partial(rule, key, family, protocol="udp", sports=(port, port))
            rules += [
                udp(table=254, priority=32000, specific=True),
                udp(table=TABLE, priority=32001),
                rule(key, family, protocol="tcp", sports=(port, port), table=TABLE, priority=40000),
            ]
        done(key, (request for one in rules for request in write_rules.create(one)))


def default_elsewhere(lab: Lab, ns: str) -> None:
    """The container's default route leads to where nobody answers."""
    lab.ip(ns, "link", "add", "x0", "up", "type", "veth", "peer", "name", "x1")
    lab.ip(ns, "link", "set", "x1", "up")
    address(lab, ns, "x0", "172.31.0.2/24", "fd31::2/64")
    lab.ip(ns, "route", "add", "default", "via", "172.31.0.1")
    lab.ip(ns, "route", "add", "default", "via", "fd31::1")


def assert_forwarded(version: int) -> None:
    for kind in (TCP, UDP):
        for port, ns in ((80, "n1"), (81, "n2")):
            found = talk("client", (DOCKER[version], port), ns, 80, kind)
            assert found == (CLIENT[version], DOCKER[version])


@pytest.mark.usefixtures("world")
@VERSIONS
def test_two_replicas_without_a_default_route_see_the_client(version: int) -> None:
    put(table(PLANE, *replicas()))
    for ns in ("n1", "n2"):
        return_through_plane(ns, 80)
    assert_forwarded(version)


@VERSIONS
def test_a_default_route_that_leads_elsewhere_and_a_strict_filter_are_no_hindrance(
    world: Lab, version: int
) -> None:
    put(table(PLANE, *replicas()))
    for ns in ("n1", "n2"):
        default_elsewhere(world, ns)
        return_through_plane(ns, 80)
        sysctl(ns, "ipv4.conf.eth0.rp_filter", 1)
        sysctl(ns, "ipv4.conf.eth0.src_valid_mark", 1)
    assert_forwarded(version)
    for kind in (TCP, UDP):  # a server that is bound to its address
        found = talk("client", (DOCKER[version], 80), "n1", 80, kind, bound=INSIDE["n1"][version])
        assert found == (CLIENT[version], DOCKER[version])


@VERSIONS
def test_neighbours_on_the_bridge_are_answered_directly(world: Lab, version: int) -> None:
    put(table(PLANE, *replicas()))
    return_through_plane("n1", 80)
    default_elsewhere(world, "n1")
    # The plane forwards nothing now: only a direct answer arrives.
    sysctl("plane", "ipv4.ip_forward", 0)
    sysctl("plane", "ipv6.conf.all.forwarding", 0)
    for kind in (TCP, UDP):
        found = talk("n2", (INSIDE["n1"][version], 80), "n1", 80, kind)
        assert found == (INSIDE["n2"][version], INSIDE["n1"][version])


@pytest.mark.usefixtures("world")
@VERSIONS
@pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
def test_ranges_lead_port_by_port(version: int, kind: int) -> None:
    target = INSIDE["n1"][version]
    put(
        table(
            PLANE,
            forward(kind, (8000, 8010), target, (8000, 8010)),
            forward(kind, (9000, 9010), target, (7000, 7010)),
        )
    )
    return_through_plane("n1", 8000, 8010, 7000, 7007, 7010)
    for outside, port in ((8000, 8000), (8010, 8010), (9000, 7000), (9007, 7007), (9010, 7010)):
        found = talk("client", (DOCKER[version], outside), "n1", port, kind)
        assert found == (CLIENT[version], DOCKER[version])


@VERSIONS
def test_only_what_is_addressed_to_the_plane_from_outside_is_forwarded(
    world: Lab, version: int
) -> None:
    """A container that talks to another, or through the plane, meets no forward."""
    put(table(PLANE, *replicas()))
    return_through_plane("n1", 80)
    first, second = INSIDE["n1"][version], INSIDE["n2"][version]
    world.ip("client", "route", "add", first, "via", DOCKER[version])
    for kind in (TCP, UDP):
        assert talk("n2", (first, 81), "n1", 81, kind) == (second, first)
        assert talk("client", (first, 80), "n1", 80, kind) == (CLIENT[version], first)
        # Port 80 of the plane from a container: the plane's own, though nobody listens there.
        world.ip("n1", "route", "replace", DOCKER[version], "via", GATEWAY[version],
                 "dev", "eth0", "onlink")  # fmt: skip
        with pytest.raises((ConnectionRefusedError, TimeoutError)):
            talk("n1", (DOCKER[version], 81), "n2", 80, kind)


@VERSIONS
def test_nat_of_a_link_translates_in_both_directions(world: Lab, version: int) -> None:
    """What arrives on eth0 of n1 goes to an address behind it, and what leaves comes from n1."""
    behind = {4: "192.0.2.7", 6: "2001:db8:2::7"}
    world.add("far")
    world.ip("far", "link", "set", "lo", "up")
    join(world, ("n1", "eth1"), ("far", "eth0"))
    address(world, "n1", "eth1", "192.0.2.1/24", "2001:db8:2::1/64")
    address(world, "far", "eth0", f"{behind[4]}/24", f"{behind[6]}/64")
    world.ip("far", "route", "add", "default", "via", "192.0.2.1")
    world.ip("far", "route", "add", "default", "via", "2001:db8:2::1")
    sysctl("n1", "ipv4.ip_forward", 1)
    sysctl("n1", "ipv6.conf.all.forwarding", 1)
    both = (f"{INSIDE['n1'][6]}/64", f"{INSIDE['n1'][4]}/24")
    put(table(container_key("n1"), *(Nat("eth0", both, behind[v]) for v in (4, 6))))
    me, other = INSIDE["n1"][version], INSIDE["n2"][version]
    for kind in (TCP, UDP):
        assert talk("n2", (me, 5000), "far", 5000, kind) == (other, me)
        assert talk("far", (other, 6000), "n2", 6000, kind) == (me, other)
    assert world.pings("n2", me)
    assert world.pings("far", other)


@VERSIONS
def test_a_forward_to_a_container_that_translates_ends_behind_it(world: Lab, version: int) -> None:
    """The mark by which answers return does not send questions back."""
    behind = {4: "192.0.2.7", 6: "2001:db8:2::7"}
    world.add("far")
    join(world, ("n1", "eth1"), ("far", "eth0"))
    address(world, "n1", "eth1", "192.0.2.1/24", "2001:db8:2::1/64")
    address(world, "far", "eth0", f"{behind[4]}/24", f"{behind[6]}/64")
    world.ip("far", "route", "add", "default", "via", "192.0.2.1")
    world.ip("far", "route", "add", "default", "via", "2001:db8:2::1")
    sysctl("n1", "ipv4.ip_forward", 1)
    sysctl("n1", "ipv6.conf.all.forwarding", 1)
    put(table(PLANE, *replicas()))
    return_through_plane("n1", 80)
    nats = [Nat("eth0", (INSIDE["n1"][version],), behind[version])]
    put(table(container_key("n1"), Return("eth0", BRIDGE_MAC, MARK), *nats))
    for kind in (TCP, UDP):
        found = talk("client", (DOCKER[version], 80), "far", 80, kind)
        assert found == (CLIENT[version], DOCKER[version])


def test_a_connection_whose_first_answer_went_astray_recovers(world: Lab) -> None:
    """The table of the container comes after the connection: it counts from the next packet on."""
    put(table(PLANE, *replicas()))
    default_elsewhere(world, "n1")
    return_through_plane("n1", 80)
    n1 = container_key("n1")
    done(n1, write_nft.delete(table(n1)))
    with endpoint("n1", 4, TCP, port=80) as there, endpoint("client", 4, TCP) as here:
        here.setblocking(False)  # noqa: FBT003 - its only argument
        here.connect_ex((DOCKER[4], 80))
        select.select([], [here], [], 0.3)  # the first answer goes elsewhere
        put(table(n1, Return("eth0", BRIDGE_MAC, MARK)))
        assert select.select([], [here], [], 5)[1]
        assert here.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        there.accept()[0].close()


@pytest.mark.usefixtures("world")
def test_a_flushed_ruleset_is_seen_and_restored() -> None:
    wanted = table(PLANE, *replicas())
    return_through_plane("n1", 80)
    return_through_plane("n2", 80)
    put(wanted)
    assert_forwarded(4)
    sh("ip", "netns", "exec", "plane", "nft", "flush", "ruleset")
    assert observed(PLANE) is None
    put(wanted)
    assert_forwarded(4)
