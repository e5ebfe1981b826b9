"""The kernel's doorbell: sockets that hear every namespace that has an id in the data plane's.

It says in which namespace something changed, never what; only interfaces of the data plane itself,
and of the host, are told by name. Nothing heard here is ever taken for the state of anything.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from model import netlink as nl
from model.keys import HOST, NsKey
from observers import nsid
from observers.namespaces import Opened, inode_of, inside, path_of

_GROUPS = (
    nl.RTNLGRP_LINK,
    nl.RTNLGRP_TC,  # what the kernel attaches by itself is not told; what people do is
    nl.RTNLGRP_IPV4_IFADDR,
    nl.RTNLGRP_IPV6_IFADDR,
    nl.RTNLGRP_IPV4_ROUTE,
    nl.RTNLGRP_IPV6_ROUTE,
    nl.RTNLGRP_IPV4_RULE,
    nl.RTNLGRP_IPV6_RULE,
)
_NFNLGRP_NFTABLES = 7  # linux/netfilter/nfnetlink.h
_NETLINK_ADD_MEMBERSHIP = 1  # linux/netlink.h
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; needs CAP_NET_ADMIN
_AT_ONCE = 500  # messages, so that whoever rings without end keeps nobody from all else
_BUFFER = 8 * 1024 * 1024  # a thousand links made at once ring some ten thousand times
_AF_BRIDGE = 7
_LINK_EVENTS = (nl.RTM_NEWLINK, nl.RTM_DELLINK)
_TC_EVENTS = (nl.RTM_NEWQDISC, nl.RTM_DELQDISC, nl.RTM_NEWTFILTER, nl.RTM_DELTFILTER)


@dataclass(frozen=True, slots=True)
class Rang:
    """Something changed in a container's namespace, or in what the data plane's interfaces do."""

    ns: NsKey


@dataclass(frozen=True, slots=True)
class RangLink:
    """Something changed about an interface of the data plane, or of the host; `group`: its mark."""

    ns: NsKey
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
            self._sockets = [_ear(socket.NETLINK_ROUTE, _GROUPS)]
            try:
                self._sockets.append(_ear(nl.NETLINK_NETFILTER, (_NFNLGRP_NFTABLES,)))
            except OSError as error:
                if error.errno != errno.EPROTONOSUPPORT:  # a kernel without it has no tables
                    raise
        self._epoll = select.epoll()
        self.hears_containers = True
        for sock in self._sockets:
            self._epoll.register(sock, select.EPOLLIN)
            try:
                sock.setsockopt(nl.SOL_NETLINK, nl.NETLINK_LISTEN_ALL_NSID, 1)
            except PermissionError:  # needs CAP_NET_BROADCAST
                self.hears_containers = False
        self._congested: set[socket.socket] = set()
        self._plane = plane
        self._containers: dict[int, NsKey] = {}  # namespace id in the data plane → container
        self._known: dict[NsKey, tuple[int, int]] = {}  # container → inode and id

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._epoll.fileno()

    def learn(self, opened: Opened, wanted: Container[NsKey]) -> None:
        """Ask the ids of the namespaces in `wanted` that are open now.

        A namespace has one from the moment that a link joins it to the data plane. One that could
        not be joined yet is given one, so that it rings when what stands in the way goes: an id is
        a subscription, not a change of that namespace.
        """
        sock = opened.sockets.get(self._plane)
        if sock is None:
            return
        if opened.host_id >= 0:
            self._containers[opened.host_id] = HOST
        for ns, inside_ns in opened.sockets.items():
            inode = opened.inodes[ns]
            if ns not in wanted or self._known.get(ns, (0, 0))[0] == inode:
                continue
            descriptor = fcntl.ioctl(inside_ns, nl.SIOCGSKNS)
            try:
                number = nsid.given(sock, nsid.of_descriptor(descriptor))
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

    def heard(self) -> list[Rang | RangLink | Deaf]:
        """Return what rang since the last call, each once, without waiting.

        After a storm it is only the beginning; the descriptor stays ready to read then.
        """
        return list(dict.fromkeys(rang for sock in self._sockets for rang in self._heard(sock)))

    def _heard(self, sock: socket.socket) -> Iterator[Rang | RangLink | Deaf]:
        for _ in range(_AT_ONCE):
            try:
                data, control, _flags, _from = sock.recvmsg(65536, 64)
            except BlockingIOError:
                break
            except OSError:
                # ENOBUFS: some of it was lost, and all will be, without another word, until what
                # is there has been read (netlink_overrun() in net/netlink/af_netlink.c, 6.18).
                self._congested.add(sock)
                yield Deaf()
                continue
            number = -1
            for level, kind, payload in control:
                if level == nl.SOL_NETLINK and kind == nl.NETLINK_LISTEN_ALL_NSID:
                    number = struct.unpack("=i", payload[:4])[0]
            ns = self._plane if number < 0 else self._containers.get(number)
            if ns is None:
                continue
            if sock is self._sockets[0] and ns in (self._plane, HOST):
                yield from self._by_name(ns, data)
            else:
                yield Rang(ns)

        if sock in self._congested and not select.select([sock], [], [], 0)[0]:
            self._congested.remove(sock)
            yield Deaf()

    def _by_name(self, ns: NsKey, data: bytes) -> Iterator[Rang | RangLink]:
        for kind, _f, _s, start, end in nl.messages(data):
            if kind in _TC_EVENTS and ns == self._plane:
                yield Rang(ns)
                continue
            if kind not in _LINK_EVENTS or data[start] == _AF_BRIDGE:
                continue
            found = nl.attributes(data, start + 16, end)
            name = found.get(nl.IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="backslashreplace")
            group = nl.U32.unpack(found[nl.IFLA_GROUP])[0] if nl.IFLA_GROUP in found else 0
            yield RangLink(ns, name, group)

    def close(self) -> None:
        """Stop listening."""
        self._epoll.close()
        for sock in self._sockets:
            sock.close()


def _ear(protocol: int, groups: Iterable[int]) -> socket.socket:
    """Open a netlink socket in the calling thread's namespace that hears these groups.

    Raises:
        OSError: the kernel has no such protocol.
    """
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_NETLINK, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except PermissionError:  # in a user namespace: what net.core.rmem_max allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    # A socket without an address of its own counts as the sender of what the kernel sends
    # (do_one_broadcast() in net/netlink/af_netlink.c, 6.18), and so would hear nothing.
    sock.bind((0, 0))
    for group in groups:
        sock.setsockopt(nl.SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    return sock
