"""What every case must leave in the kernel, said and checked without Relink's passes or observers.

The check reads the kernel itself, so that nothing is fast because it does less.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bench.lab import BRIDGE, INSTANCE, inside
from model import netlink as nl
from model.addressing import stable_mac
from model.keys import SELF
from model.ownership import PROTOCOL, group_of
from model.plane import bridge_mac

GROUP = group_of(INSTANCE)
DEV = "eth0"
MTU = 65535
PREFIX = 16
BRIDGE_ALIAS = f"relink {INSTANCE}: bridge {BRIDGE}"
BRIDGE_MAC = bytes.fromhex(bridge_mac(INSTANCE, SELF, BRIDGE).replace(":", ""))

_SIOCETHTOOL = 0x8946  # linux/sockios.h
_ETHTOOL_GTXCSUM = 0x16  # linux/ethtool.h
_IFF_LOWER_UP = 0x10000  # linux/if.h: carrier
_SNOOPING = 23  # IFLA_BR_MCAST_SNOOPING, linux/if_link.h
_ALL_LINKS = nl.message(nl.RTM_GETLINK, nl.NLM_F_DUMP, nl.IFINFO.pack(0, 0, 0, 0, 0))
_ALL_ADDRESSES = nl.message(nl.RTM_GETADDR, nl.NLM_F_DUMP, nl.IFADDR.pack(0, 0, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Node:
    """One container and its link.

    Attributes:
        number: its own, from 1.
        alone: an entry of the file declares it, and none of a service does.
        mtu: of both ends.
    """

    number: int
    alone: bool = False
    mtu: int = MTU

    @property
    def outer(self) -> str:
        """Name of the end in the data plane; as long as it fits, without Relink's shortening."""
        return f"node_{self.number}-{DEV}"

    @property
    def mac(self) -> bytes:
        """Hardware address of the inner end."""
        owner, offset = "service node", self.number - 1
        if self.alone:
            owner, offset = f"container node_{self.number}", 0
        text = stable_mac(INSTANCE, owner, DEV, offset)
        return bytes.fromhex(text.replace(":", ""))

    @property
    def ip(self) -> bytes:
        """IPv4 address of the inner end: 10.0.0.1 plus the number of replicas before it."""
        return struct.pack(">I", 0x0A000000 + self.number)

    @property
    def alias(self) -> str:
        """IFLA_IFALIAS of both ends."""
        return f"relink {INSTANCE}: node_{self.number}:{DEV} on {BRIDGE}"


def nodes(number: int) -> list[Node]:
    """Return the first containers."""
    return [Node(each) for each in range(1, number + 1)]


def dump(sock: socket.socket, request: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (data, start, end) of each body of a dump."""
    sock.send(request)
    while True:
        data = sock.recv(65536)
        for kind, _flags, _sequence, start, end in nl.messages(data):
            if kind == nl.NLMSG_DONE:
                return
            if kind == nl.NLMSG_ERROR:
                raise OSError(nl.decode_error(data, start, end, 0)[0], "dump")
            yield data, start, end


def check(wanted: Iterable[Node]) -> None:
    """Hold the kernel against what is wanted of exactly these containers.

    Raises:
        AssertionError: something is missing, different or too much.
    """
    wanted = list(wanted)
    plane = _plane_links()
    names = {BRIDGE, *(node.outer for node in wanted)} if wanted else set()
    assert plane.keys() == names, f"in the data plane: {sorted(plane.keys() ^ names)[:5]}"
    if wanted:
        assert _bridge_is_right(plane[BRIDGE]), plane[BRIDGE]
    for node in wanted:
        wrong = _wrong(node, plane)
        assert not wrong, wrong


def is_right(node: Node) -> bool:
    """Tell whether one container's link is as it should be; looks at nothing else."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        plane = {name: link for name in (BRIDGE, node.outer) if (link := _look_up(sock, name))}
    return len(plane) == 2 and not _wrong(node, plane)


def index_of(node: Node) -> int:
    """Return the index of a container's end; 0 if there is none."""
    with inside(node.number) as sock:
        link = _look_up(sock, DEV)
    return link.index if link else 0


def gone(wanted: Iterable[Node]) -> None:
    """Hold that nothing is left, in the data plane and in these containers.

    Raises:
        AssertionError: something is left.
    """
    assert not _plane_links()
    for node in wanted:
        with inside(node.number) as sock:
            left = [link for body in dump(sock, _ALL_LINKS) if (link := _Link(*body)).index != 1]
            assert not left, f"node_{node.number} still has {left[0].name}"


class _Link:
    """An interface as a dump tells it."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        _family, _type, self.index, self.flags, _change = nl.IFINFO.unpack_from(data, start)
        self.found: Mapping[int, bytes] = nl.attributes(data, start + 16, end)
        self.name = self.text(nl.IFLA_IFNAME)

    def text(self, kind: int) -> str:
        return self.found.get(kind, b"").rstrip(b"\0").decode()

    def number(self, kind: int) -> int:
        return int(nl.U32.unpack(self.found.get(kind, bytes(4)))[0])

    def inside_of(self, *kinds: int) -> bytes:
        payload = self.found.get(kinds[0], b"")
        for kind in kinds[1:]:
            payload = nl.attributes(payload, 0, len(payload)).get(kind, b"")
        return payload

    @property
    def silent(self) -> bool:
        mode = self.inside_of(nl.IFLA_AF_SPEC, nl.AF_INET6, nl.IFLA_INET6_ADDR_GEN_MODE)
        return mode == bytes([nl.IN6_ADDR_GEN_MODE_NONE])

    @property
    def promotes(self) -> bool:
        conf = self.inside_of(nl.IFLA_AF_SPEC, nl.AF_INET, nl.IFLA_INET_CONF)
        return bool(nl.U32.unpack_from(conf, 4 * (nl.IPV4_DEVCONF_PROMOTE_SECONDARIES - 1))[0])

    @property
    def snoops(self) -> bool:
        data = self.inside_of(nl.IFLA_LINKINFO, nl.IFLA_INFO_DATA)
        return nl.attributes(data, 0, len(data)).get(_SNOOPING) != b"\0"

    @property
    def kind(self) -> bytes:
        return self.inside_of(nl.IFLA_LINKINFO, nl.IFLA_INFO_KIND).rstrip(b"\0")

    def __repr__(self) -> str:
        return f"{self.name}: flags {self.flags:#x}, {dict(self.found)}"


def _plane_links() -> dict[str, _Link]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        found = [_Link(*body) for body in dump(sock, _ALL_LINKS)]
    return {link.name: link for link in found if link.index != 1}


def _look_up(sock: socket.socket, name: str) -> _Link | None:
    body = nl.IFINFO.pack(0, 0, 0, 0, 0)
    sock.send(nl.message(nl.RTM_GETLINK, 0, body, nl.text(nl.IFLA_IFNAME, name)))
    data = sock.recv(65536)
    kind, _flags, _sequence, start, end = next(iter(nl.messages(data)))
    return _Link(data, start, end) if kind == nl.RTM_NEWLINK else None


def _bridge_is_right(link: _Link) -> bool:
    return (
        link.kind == b"bridge"
        and bool(link.flags & nl.IFF_UP)
        and link.number(nl.IFLA_GROUP) == GROUP
        and link.text(nl.IFLA_IFALIAS) == BRIDGE_ALIAS
        and link.found[nl.IFLA_ADDRESS] == BRIDGE_MAC
        and link.silent
        and not link.snoops
    )


def _wrong(node: Node, plane: Mapping[str, _Link]) -> str:
    """Say what is not right about a container's link; empty if all is."""
    outer = plane[node.outer]
    with inside(node.number) as sock:
        links = {link.name: link for b in dump(sock, _ALL_LINKS) if (link := _Link(*b)).index != 1}
        inner = links.get(DEV)
        if inner is None or len(links) != 1:
            return f"node_{node.number} has {sorted(links)}"
        addresses = [_address(*body) for body in dump(sock, _ALL_ADDRESSES)]
        offload = transmit_checksum(sock.fileno())
    here = [(prefix, raw, proto) for index, prefix, raw, proto in addresses if index == inner.index]
    v4 = [address for address in here if len(address[1]) == 4]
    ends_up = nl.IFF_UP | _IFF_LOWER_UP
    checks = {
        "the pair": inner.number(nl.IFLA_LINK) == outer.index
        and outer.number(nl.IFLA_LINK) == inner.index,
        "kind": inner.kind == outer.kind == b"veth",
        "up, with carrier": inner.flags & outer.flags & ends_up == ends_up,
        "MTU": inner.number(nl.IFLA_MTU) == outer.number(nl.IFLA_MTU) == node.mtu,
        "group": inner.number(nl.IFLA_GROUP) == outer.number(nl.IFLA_GROUP) == GROUP,
        "alias": inner.text(nl.IFLA_IFALIAS) == outer.text(nl.IFLA_IFALIAS) == node.alias,
        "MAC": inner.found[nl.IFLA_ADDRESS] == node.mac,
        "bridge": outer.number(nl.IFLA_MASTER) == plane[BRIDGE].index,
        "silence of the outer end": outer.silent,
        "promote_secondaries": inner.promotes,
        "address": v4 == [(PREFIX, node.ip, PROTOCOL)],
        "tx offload": not offload,
    }
    wrong = [name for name, right in checks.items() if not right]
    return f"node_{node.number}: {', '.join(wrong)}; {inner}; {outer}; {here}" if wrong else ""


def _address(data: bytes, start: int, end: int) -> tuple[int, int, bytes, int]:
    _family, prefix, _flags, _scope, index = nl.IFADDR.unpack_from(data, start)
    found = nl.attributes(data, start + 8, end)
    raw = found.get(nl.IFA_LOCAL) or found[nl.IFA_ADDRESS]
    return index, prefix, raw, found.get(nl.IFA_PROTO, b"\0")[0]


def transmit_checksum(descriptor: int) -> bool:
    """Tell whether the inner end offloads transmit checksums; any socket of its namespace will do.

    Raises:
        OSError: there is no such interface.
    """
    value = array("I", (_ETHTOOL_GTXCSUM, 0))
    request = struct.pack("16sP16x", DEV.encode(), value.buffer_info()[0])
    fcntl.ioctl(descriptor, _SIOCETHTOOL, request)
    return bool(value[1])
