"""Our narrow netlink codec against pyroute2's generic one, message by message, both ways."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from actuators import addresses as write_addresses
from actuators import links as write_links
from actuators import routes as write_routes
from model import netlink as nl
from model.keys import SELF, Key, NsKey, link_key
from model.ownership import PROTOCOL, group_of
from model.resources import Address, Link, Route
from model.route import parse
from observers import addresses, links, routes
from observers.netlink import dump, open_socket
from tests.kernel.lab import Lab
from tests.kernel.test_foreign import _foreign

HERE = NsKey("container", "here", "here")


def _messages(request: bytes) -> list[bytes]:
    with open_socket() as sock:
        return [data[start:end] for data, start, end in dump(sock, request)]


def _header(kind: int, body: bytes) -> bytes:
    return nl.HEADER.pack(16 + len(body), kind, 0, 0, 0) + body


def _theirs(cls: Any, kind: int, body: bytes) -> Any:
    message = cls(_header(kind, body))
    message.decode()
    return message


@pytest.fixture
def world(lab: Lab) -> Lab:
    lab.add("node_1", "node_2")
    _foreign(lab, "")
    lab.converge('links: [{service: node, bridge: s1, ip: [10.0.0.1/16, "fd00::1/64"], mtu: 9000}]')
    words = "via 10.200.0.9 mtu 1400 advmss 1300 metric 7 table 4000 onlink dev mine0 proto 158"
    lab.ip("", "route", "add", "100.64.0.0/10", *words.split())
    return lab


def test_links_are_decoded_as_pyroute2_decodes_them(world: Lab) -> None:
    compared = 0
    for body in _messages(links._ALL):
        ours, theirs = links.decode(HERE, body, 0, len(body)), _theirs(ifinfmsg, 16, body)
        if ours is None:
            assert theirs["flags"] & nl.IFF_LOOPBACK
            continue
        info = theirs.get_attr("IFLA_LINKINFO")
        six = theirs.get_attr("IFLA_AF_SPEC").get_attr("AF_INET6")
        assert (
            ours.key.dev, ours.kind, ours.mac, ours.mtu, ours.up, ours.master, ours.group,
            ours.alias, ours.index, ours.peer_index, ours.peer_away,
        ) == (
            theirs.get_attr("IFLA_IFNAME"), info.get_attr("IFLA_INFO_KIND") if info else "",
            theirs.get_attr("IFLA_ADDRESS"), theirs.get_attr("IFLA_MTU"),
            bool(theirs["flags"] & 1), str(theirs.get_attr("IFLA_MASTER") or ""),
            theirs.get_attr("IFLA_GROUP"), theirs.get_attr("IFLA_IFALIAS") or "",
            theirs["index"], theirs.get_attr("IFLA_LINK") or 0,
            theirs.get_attr("IFLA_LINK_NETNSID") is not None,
        )  # fmt: skip
        if ours.silent is not None:
            assert ours.silent == (six.get_attr("IFLA_INET6_ADDR_GEN_MODE") == 1)
        if ours.kind == "bridge":
            data = info.get_attr("IFLA_INFO_DATA")
            assert dict(ours.settings)["snooping"] == bool(data.get_attr("IFLA_BR_MCAST_SNOOPING"))
        compared += 1
    assert compared >= 6
    world.show("", "link")


def test_addresses_are_decoded_as_pyroute2_decodes_them(world: Lab) -> None:
    names = {row["ifindex"]: row["ifname"] for row in world.show("", "link")}
    compared = 0
    for body in _messages(addresses._ALL):
        ours = addresses.decode(HERE, names, body, 0, len(body))
        theirs = _theirs(ifaddrmsg, 20, body)
        if ours is None:
            assert theirs["scope"] == 253
            continue
        ip = theirs.get_attr("IFA_LOCAL") or theirs.get_attr("IFA_ADDRESS")
        assert ours.ip == f"{ip}/{theirs['prefixlen']}"
        assert ours.key.dev == names[theirs["index"]]
        compared += 1
    assert compared >= 3


def test_routes_are_decoded_as_pyroute2_decodes_them(world: Lab) -> None:
    names = {row["ifindex"]: row["ifname"] for row in world.show("", "link")}
    compared = 0
    for body in _messages(routes._ALL):
        decoded = list(routes.decode(HERE, names, body, 0, len(body)))
        theirs = _theirs(rtmsg, 24, body)
        if not decoded:
            assert theirs["proto"] == 2 or theirs["type"] not in nl.ROUTE_TYPES
            continue
        (ours,) = decoded
        metrics = theirs.get_attr("RTA_METRICS")
        everywhere = "0.0.0.0" if theirs["family"] == 2 else "::"  # noqa: S104 - a destination
        assert (
            ours.dst, ours.via, ours.metric, ours.table, ours.mtu, ours.advmss, ours.onlink,
            ours.owned,
        ) == (
            f"{theirs.get_attr('RTA_DST') or everywhere}/{theirs['dst_len']}",
            theirs.get_attr("RTA_GATEWAY") or "", theirs.get_attr("RTA_PRIORITY") or 0,
            theirs.get_attr("RTA_TABLE"),
            (metrics.get_attr("RTAX_MTU") if metrics else 0) or 0,
            (metrics.get_attr("RTAX_ADVMSS") if metrics else 0) or 0,
            bool(theirs["flags"] & 4), theirs["proto"] == PROTOCOL,
        )  # fmt: skip
        compared += 1
    assert compared >= 4


class _Numbers:
    def index(self, link: Key) -> int:
        return 7 if link.dev == "s1" else 0

    def free_index(self, link: Key) -> int:
        del link
        return 42

    def namespace(self, ns: NsKey) -> int:
        del ns
        return 9


def test_what_we_encode_is_what_pyroute2_reads() -> None:
    group = group_of("x")
    inner, outer = link_key(HERE, "eth0"), link_key(SELF, "here-eth0")
    link = Link(key=inner, kind="veth", peer=outer, mac="c2:00:00:00:00:01", mtu=9000, up=True,
                group=group, alias="words", promote=True)  # fmt: skip
    peer = Link(key=outer, kind="veth", peer=inner, mtu=9000, up=True, master="s1", group=group,
                alias="words", silent=True)  # fmt: skip
    made = [_decoded(r.message) for r in [
        *write_links.create(link, peer, _Numbers()), *write_links.complete(link, _Numbers())
    ]]  # fmt: skip
    new = made[0]
    other = new.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert (new["index"], new.get_attr("IFLA_IFNAME"), new.get_attr("IFLA_MTU")) == (
        42,
        "eth0",
        9000,
    )
    assert (new.get_attr("IFLA_GROUP"), new.get_attr("IFLA_ADDRESS")) == (group, link.mac)
    assert other.get_attr("IFLA_IFNAME") == "here-eth0"
    assert (other.get_attr("IFLA_GROUP"), other.get_attr("IFLA_NET_NS_FD")) == (group, 9)
    assert made[1].get_attr("IFLA_IFALIAS") == "words"
    assert (made[-1]["flags"] & 1, made[-1]["change"] & 1) == (1, 1)

    plug = [_decoded(r.message) for r in write_links.complete(peer, _Numbers())]
    assert plug[0].get_attr("IFLA_MASTER") == 7
    six = plug[1].get_attr("IFLA_AF_SPEC").get_attr("AF_INET6")
    assert six.get_attr("IFLA_INET6_ADDR_GEN_MODE") == 1


@pytest.mark.parametrize("ip", ["10.0.0.5/24", "fd00::5/64"])
def test_an_address_we_encode_is_what_pyroute2_reads(ip: str) -> None:
    address = Address(key=Key(HERE, "address", "s1", ip), ip=ip)
    for verb in (write_addresses.create, write_addresses.delete):
        message = ifaddrmsg(verb(address, _Numbers())[0].message)
        message.decode()
        assert f"{message.get_attr('IFA_LOCAL')}/{message['prefixlen']}" == ip
        assert message["index"] == 7


@pytest.mark.parametrize(
    "text",
    ["default via 10.0.0.1", "10.0.0.0/8 via 10.0.0.1 src 10.0.0.2 metric 9 table 4000 mtu 1400",
     "blackhole 192.0.2.0/24", "fd00::/8 via fe80::1 onlink advmss 1200"],
)  # fmt: skip
def test_a_route_we_encode_is_what_pyroute2_reads(text: str) -> None:
    spec = parse(text)
    dev = "" if spec.type == "blackhole" else "s1"
    route = Route(
        key=Key(HERE, "route", dev, spec.identity), family=spec.family, dst=spec.dst, via=spec.via,
        src=spec.src, metric=spec.metric, table=spec.table, scope=spec.scope, mtu=spec.mtu,
        advmss=spec.advmss, onlink=spec.onlink, type=spec.type,
    )  # fmt: skip
    message = rtmsg(write_routes.create(route, _Numbers())[0].message)
    message.decode()
    network = ipaddress.ip_network(spec.dst)
    got = message.get_attr("RTA_DST") or str(network.network_address)
    assert f"{got}/{message['dst_len']}" == spec.dst
    assert (message.get_attr("RTA_GATEWAY") or "") == spec.via
    assert (message.get_attr("RTA_PREFSRC") or "") == spec.src
    assert message.get_attr("RTA_TABLE") == spec.table
    assert (message.get_attr("RTA_PRIORITY") or 0) == spec.metric
    assert message["proto"] == PROTOCOL
    assert nl.ROUTE_TYPES[message["type"]] == spec.type
    assert message.get_attr("RTA_OIF") == (7 if dev else None)


def _decoded(message: bytes) -> Any:
    decoded = ifinfmsg(message)
    decoded.decode()
    return decoded
