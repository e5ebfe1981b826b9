"""The kernel's doorbell: one socket that hears every namespace that has an id in the data plane's.

It says in which namespace something changed, never what; only interfaces of the data plane itself
are told by name. Nothing heard here is ever taken for the state of anything.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass

from model import netlink as nl
from model.keys import NsKey
from observers.namespaces import Opened, inode_of, inside, path_of

_GROUPS = (
    nl.RTNLGRP_LINK,
    nl.RTNLGRP_IPV4_IFADDR,
    nl.RTNLGRP_IPV6_IFADDR,
    nl.RTNLGRP_IPV4_ROUTE,
    nl.RTNLGRP_IPV6_ROUTE,
)
_NETLINK_ADD_MEMBERSHIP = 1  # linux/netlink.h
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; needs CAP_NET_ADMIN
_BUFFER = 8 * 1024 * 1024  # a thousand links made at once ring some ten thousand times
_AF_BRIDGE = 7
_NETNSA_NSID, _NETNSA_FD = 1, 3  # linux/net_namespace.h
_SIOCGSKNS = 0x894C  # linux/sockios.h: a descriptor of a socket's namespace
_LINK_EVENTS = (nl.RTM_NEWLINK, nl.RTM_DELLINK)


@dataclass(frozen=True, slots=True)
class Rang:
    """Something changed in a container's namespace."""

    ns: NsKey


@dataclass(frozen=True, slots=True)
class RangLink:
    """Something changed about an interface of the data plane; `group` is its mark."""

    name: str
    group: int


@dataclass(frozen=True, slots=True)
class Deaf:
    """The kernel rang more often than could be heard: look everywhere."""


class KernelDoorbell:
    """The socket, and which namespace id means which container. Close it when done.

    `inode` is that of the data plane it listens to. `hears_containers` is False where the process
    lacks CAP_NET_BROADCAST: then only the data plane rings.
    """

    def __init__(self, plane: NsKey) -> None:
        self.inode = inode_of(plane)
        with inside(path_of(plane)):
            self._sock = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
            )
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except PermissionError:  # in a user namespace: what net.core.rmem_max allows
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        try:
            self._sock.setsockopt(nl.SOL_NETLINK, nl.NETLINK_LISTEN_ALL_NSID, 1)
            self.hears_containers = True
        except PermissionError:  # needs CAP_NET_BROADCAST
            self.hears_containers = False
        # A socket without an address of its own counts as the sender of what the kernel sends
        # (do_one_broadcast() in net/netlink/af_netlink.c, 6.18), and so would hear nothing.
        self._sock.bind((0, 0))
        for group in _GROUPS:
            self._sock.setsockopt(nl.SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        self._plane = plane
        self._containers: dict[int, NsKey] = {}  # namespace id in the data plane → container
        self._known: dict[NsKey, tuple[int, int]] = {}  # container → inode and id

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._sock.fileno()

    def learn(self, opened: Opened, wanted: Container[NsKey]) -> None:
        """Ask the ids of the namespaces in `wanted` that are open now.

        A namespace has one from the moment that a link joins it to the data plane. One that could
        not be joined yet is given one, so that it rings when what stands in the way goes: an id is
        a subscription, not a change of that namespace.
        """
        sock = opened.sockets.get(self._plane)
        if sock is None:
            return
        for ns, inside_ns in opened.sockets.items():
            inode = opened.inodes[ns]
            if ns not in wanted or self._known.get(ns, (0, 0))[0] == inode:
                continue
            descriptor = fcntl.ioctl(inside_ns, _SIOCGSKNS)
            try:
                number = _namespace_id(sock, descriptor)
                if number < 0:
                    _give_id(sock, descriptor)
                    number = _namespace_id(sock, descriptor)
            finally:
                os.close(descriptor)
            if number >= 0:
                self._containers[number] = ns
                self._known[ns] = (inode, number)

    def forget(self, ns: NsKey) -> None:
        """A container stopped or restarted; its namespace's id may be another's soon."""
        _, number = self._known.pop(ns, (0, -1))
        if self._containers.get(number) == ns:
            del self._containers[number]

    def heard(self) -> Iterator[Rang | RangLink | Deaf]:
        """Yield what rang since the last call, without waiting."""
        while True:
            try:
                data, control, _flags, _from = self._sock.recvmsg(65536, 64)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: some of it was lost
                yield Deaf()
                continue
            number = -1
            for level, kind, payload in control:
                if level == nl.SOL_NETLINK and kind == nl.NETLINK_LISTEN_ALL_NSID:
                    number = struct.unpack("=i", payload[:4])[0]
            if number >= 0:
                if ns := self._containers.get(number):
                    yield Rang(ns)
                continue
            yield from self._in_plane(data)

    def _in_plane(self, data: bytes) -> Iterator[RangLink]:
        for kind, _f, _s, start, end in nl.messages(data):
            if kind not in _LINK_EVENTS or data[start] == _AF_BRIDGE:
                continue
            found = nl.attributes(data, start + 16, end)
            name = found.get(nl.IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="backslashreplace")
            group = nl.U32.unpack(found[nl.IFLA_GROUP])[0] if nl.IFLA_GROUP in found else 0
            yield RangLink(name, group)

    def close(self) -> None:
        """Stop listening."""
        self._sock.close()


def _give_id(sock: socket.socket, descriptor: int) -> None:
    """Let the kernel choose an id for an open namespace in that of `sock`."""
    which = nl.u32(_NETNSA_FD, descriptor) + nl.attribute(_NETNSA_NSID, nl.I32.pack(-1))
    sock.send(nl.message(nl.RTM_NEWNSID, nl.NLM_F_ACK, nl.RTGEN.pack(0), which))
    sock.recv(4096)  # refused or not: whoever asks next sees


def _namespace_id(sock: socket.socket, descriptor: int) -> int:
    """Return the id of an open namespace in that of `sock`, -1 if it has none."""
    sock.send(nl.message(nl.RTM_GETNSID, 0, nl.RTGEN.pack(0), nl.u32(_NETNSA_FD, descriptor)))
    data = sock.recv(4096)
    for kind, _f, _s, start, end in nl.messages(data):
        if kind == nl.RTM_NEWNSID:
            found = nl.attributes(data, start + 4, end)
            return int(nl.I32.unpack(found[_NETNSA_NSID])[0])
    return -1
