"""The floor: a raw rtnetlink program that reaches the same kernel state and nothing else.

Messages are encoded before the clock starts, with indexes chosen ahead, as few of them as the
kernel allows, sent in as few system calls as it allows, acknowledged once for each call. What a
program must still do is timed: opening a socket in each namespace, the calls, and the kernel's
work. Nothing is decoded.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

from bench.lab import BRIDGE, path_of, setns
from bench.wanted import BRIDGE_ALIAS, BRIDGE_MAC, DEV, GROUP, PREFIX, Node
from model import netlink as nl
from model.ownership import PROTOCOL

INNER_INDEX = 2
_BRIDGE_INDEX = 2
_BATCH = 400  # messages in a call into the data plane; a socket sends 208 KiB at a time
_CREATE = nl.NLM_F_CREATE | nl.NLM_F_EXCL
_SIOCETHTOOL = 0x8946  # linux/sockios.h
_ETHTOOL_GTXCSUM, _ETHTOOL_STXCSUM = 0x16, 0x17  # linux/ethtool.h
_DONE_SIZE = 20  # nlmsghdr and an int

_MASK = nl.u32(nl.IFLA_EXT_MASK, nl.RTEXT_FILTER_SKIP_STATS)
_LINKS = nl.message(nl.RTM_GETLINK, nl.NLM_F_DUMP, nl.IFINFO.pack(0, 0, 0, 0, 0), _MASK)
_ADDRESSES = nl.message(nl.RTM_GETADDR, nl.NLM_F_DUMP, nl.IFADDR.pack(0, 0, 0, 0, 0))
_ROUTES = nl.message(nl.RTM_GETROUTE, nl.NLM_F_DUMP, nl.RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))


class _Command:
    """An ethtool command for the inner end, ready to be given."""

    def __init__(self, command: int) -> None:
        self._value = array("I", (command, 0))  # kept: the request points at it
        self._request = struct.pack("16sP16x", DEV.encode(), self._value.buffer_info()[0])

    def give(self, sock: socket.socket) -> None:
        fcntl.ioctl(sock.fileno(), _SIOCETHTOOL, self._request)


_OFF, _IS_OFF = _Command(_ETHTOOL_STXCSUM), _Command(_ETHTOOL_GTXCSUM)


@contextmanager
def opened(paths: Iterable[str]) -> Iterator[list[socket.socket]]:
    """Open a netlink socket in each namespace; the only thing that needs setns."""
    with ExitStack() as stack:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        sockets = []
        try:
            for path in paths:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                setns(descriptor)
                os.close(descriptor)
                sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
                sock.setsockopt(nl.SOL_NETLINK, nl.NETLINK_GET_STRICT_CHK, 1)
                sockets.append(stack.enter_context(sock))
        finally:
            setns(home)
            os.close(home)
        yield sockets


def _plane() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)


def call(sock: socket.socket, messages: bytes) -> None:
    """Send messages of which the last asks for an acknowledgement.

    Raises:
        OSError: the kernel refused one of them.
    """
    sock.send(messages)
    data = sock.recv(65536)
    code = -nl.I32.unpack_from(data, 16)[0]
    if code:
        raise OSError(code, os.strerror(code))


# One buffer for everything: a new one of a megabyte costs more than a small dump.
_received = bytearray(1 << 16)


def _read(sock: socket.socket, request: bytes) -> None:
    """Receive a dump to its end without looking into it."""
    sock.send(request)
    while True:
        size = sock.recv_into(_received)
        length, kind = struct.unpack_from("=IH", _received, size - _DONE_SIZE)
        if kind == nl.NLMSG_DONE and length == _DONE_SIZE:
            return


class Create:
    """Creation of the bridge and of every link, encoded."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._paths = [str(path_of(node.number)) for node in nodes]
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._bridge = bridge()
        self._inner = [inner(node, self._home) for node in nodes]
        outers = [message for node in nodes for message in outer(node)]
        self._outer = [
            acknowledged(outers[at : at + _BATCH]) for at in range(0, len(outers), _BATCH)
        ]

    def run(self) -> None:
        """Do it."""
        with _plane() as plane, opened(self._paths) as sockets:
            call(plane, self._bridge)
            for sock, messages in zip(sockets, self._inner, strict=True):
                call(sock, messages)
                _OFF.give(sock)
            for messages in self._outer:
                call(plane, messages)

    def close(self) -> None:
        """Close the namespace that the messages name."""
        os.close(self._home)


def bridge() -> bytes:
    """Encode what makes the bridge."""
    body = nl.IFINFO.pack(0, 0, _BRIDGE_INDEX, 0, 0)
    snooping = nl.attribute(23, b"\0")  # IFLA_BR_MCAST_SNOOPING
    kind = nl.text(nl.IFLA_INFO_KIND, "bridge")
    info = nl.nested(nl.IFLA_LINKINFO, kind, nl.nested(nl.IFLA_INFO_DATA, snooping))
    name = nl.text(nl.IFLA_IFNAME, BRIDGE)
    group = nl.u32(nl.IFLA_GROUP, GROUP)
    mac = nl.attribute(nl.IFLA_ADDRESS, BRIDGE_MAC)
    alias = nl.text(nl.IFLA_IFALIAS, BRIDGE_ALIAS)
    return acknowledged(
        [
            nl.message(nl.RTM_NEWLINK, _CREATE, body, name, group, mac, info),
            nl.message(nl.RTM_SETLINK, 0, body, alias, _silent()),
            _up(_BRIDGE_INDEX),
        ]
    )


def inner(node: Node, plane: int) -> bytes:
    """Encode what makes a pair and gives its inner end all that it should have but its offload."""
    identity = nl.u32(nl.IFLA_GROUP, GROUP) + nl.u32(nl.IFLA_MTU, node.mtu)
    peer = nl.attribute(
        nl.VETH_INFO_PEER | nl.NLA_F_NESTED,
        nl.IFINFO.pack(0, 0, _outer_index(node), 0, 0)
        + nl.text(nl.IFLA_IFNAME, node.outer)
        + identity
        + nl.u32(nl.IFLA_NET_NS_FD, plane),
    )
    kind = nl.text(nl.IFLA_INFO_KIND, "veth")
    made = nl.message(
        nl.RTM_NEWLINK,
        _CREATE,
        nl.IFINFO.pack(0, 0, INNER_INDEX, 0, 0),
        nl.text(nl.IFLA_IFNAME, DEV),
        identity,
        nl.attribute(nl.IFLA_ADDRESS, node.mac),
        nl.nested(nl.IFLA_LINKINFO, kind, nl.nested(nl.IFLA_INFO_DATA, peer)),
    )
    conf = nl.u32(nl.IPV4_DEVCONF_PROMOTE_SECONDARIES, 1)
    promote = nl.nested(nl.AF_INET, nl.nested(nl.IFLA_INET_CONF, conf))
    configured = nl.message(
        nl.RTM_SETLINK,
        0,
        nl.IFINFO.pack(0, 0, INNER_INDEX, nl.IFF_UP, nl.IFF_UP),
        nl.text(nl.IFLA_IFALIAS, node.alias),
        nl.nested(nl.IFLA_AF_SPEC, promote),
    )
    return acknowledged([made, configured, address(node)])


def address(node: Node, kind: int = nl.RTM_NEWADDR) -> bytes:
    """Encode what adds, or removes, a container's address."""
    flags = _CREATE if kind == nl.RTM_NEWADDR else 0
    return nl.message(
        kind,
        flags,
        nl.IFADDR.pack(nl.AF_INET, PREFIX, 0, 0, INNER_INDEX),
        nl.attribute(nl.IFA_LOCAL, node.ip),
        nl.attribute(nl.IFA_ADDRESS, node.ip),
        nl.attribute(nl.IFA_PROTO, bytes([PROTOCOL])),
    )


def lose_address(node: Node, index: int) -> bytes:
    """Encode what takes a container's address away."""
    message = at_index(address(node, nl.RTM_DELADDR), index)
    return acknowledged([message])


def outer(node: Node) -> list[bytes]:
    """Encode what an outer end still needs.

    Two messages: the kernel raises a link before it reads IFLA_AF_SPEC (do_setlink()).
    """
    index = _outer_index(node)
    body = nl.IFINFO.pack(0, 0, index, 0, 0)
    alias = nl.text(nl.IFLA_IFALIAS, node.alias)
    master = nl.u32(nl.IFLA_MASTER, _BRIDGE_INDEX)
    return [nl.message(nl.RTM_SETLINK, 0, body, alias, master, _silent()), _up(index)]


def _outer_index(node: Node) -> int:
    return _BRIDGE_INDEX + node.number


def _silent() -> bytes:
    mode = nl.attribute(nl.IFLA_INET6_ADDR_GEN_MODE, bytes([nl.IN6_ADDR_GEN_MODE_NONE]))
    return nl.nested(nl.IFLA_AF_SPEC, nl.nested(nl.AF_INET6, mode))


def _up(index: int) -> bytes:
    return nl.message(nl.RTM_SETLINK, 0, nl.IFINFO.pack(0, 0, index, nl.IFF_UP, nl.IFF_UP))


def acknowledged(parts: Iterable[bytes]) -> bytes:
    """Join messages and have the last one acknowledged; a refusal is told in any case."""
    messages = list(parts)
    last = bytearray(messages.pop())
    length, kind, flags, sequence, port = nl.HEADER.unpack_from(last)
    nl.HEADER.pack_into(last, 0, length, kind, flags | nl.NLM_F_ACK, sequence, port)
    return b"".join([*messages, last])


class Look:
    """Reading what a pass over everything has to know."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._paths = [str(path_of(node.number)) for node in nodes]

    def run(self) -> None:
        """Do it."""
        with _plane() as plane, opened(self._paths) as sockets:
            _read(plane, _LINKS)
            for sock in sockets:
                for request in (_LINKS, _ADDRESSES, _ROUTES):
                    _read(sock, request)
                _IS_OFF.give(sock)


class Event:
    """Looking at one container after its event, and giving it its address again."""

    def __init__(self, node: Node, inner_index: int) -> None:
        self._paths = [str(path_of(node.number))]
        empty = nl.IFINFO.pack(0, 0, 0, 0, 0)
        self._names = [
            nl.message(nl.RTM_GETLINK, 0, empty, nl.text(nl.IFLA_IFNAME, name), _MASK)
            for name in (BRIDGE, node.outer)
        ]
        self._repair = acknowledged([at_index(address(node), inner_index)])

    def run(self) -> None:
        """Do it."""
        with _plane() as plane, opened(self._paths) as sockets:
            for request in self._names:
                plane.send(request)
                plane.recv(65536)
            for request in (_LINKS, _ADDRESSES, _ROUTES):
                _read(sockets[0], request)
            _IS_OFF.give(sockets[0])
            call(sockets[0], self._repair)


class Mender:
    """A raw program that mends one container's link when it hears that something happened."""

    def __init__(self) -> None:
        self.plane = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._sock = _plane()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.plane)
        self._sock.close()

    def mend(self, sock: socket.socket, inner: bytes, outer: bytes, *, offload: bool) -> None:
        """Send messages into the container, then into the data plane if there are any."""
        call(sock, inner)
        if offload:
            _OFF.give(sock)
        if outer:
            call(self._sock, outer)


def at_index(message: bytes, index: int) -> bytes:
    """Give a message about an address another interface index."""
    return message[:20] + nl.U32.pack(index) + message[24:]


def remove_all() -> None:
    """Remove every link of the group from the data plane, in one message.

    rtnl_group_dellink() unregisters them together, and the other end of each veth with it.
    """
    body = nl.IFINFO.pack(0, 0, 0, 0, 0)
    message = nl.message(nl.RTM_DELLINK, 0, body, nl.u32(nl.IFLA_GROUP, GROUP))
    with _plane() as plane:
        call(plane, acknowledged([message]))
