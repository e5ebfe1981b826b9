"""Where benchmarks run: a mount and a network namespace that end with this process.

Everything made here (containers, configuration, control sockets) is in a private /run, so that
nothing is left behind however the process ends, and nothing of the machine is touched.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from model import netlink as nl
from model.facts import Facts
from model.keys import SELF
from observers.plain import Plain
from reconciler.containers import Roster
from reconciler.sources import Sources, load

INSTANCE = "bench"
BRIDGE = "s1"
NETNS = Path("/run/netns")
CONFIG = Path("/run/net.yaml")
_TEXT = f"links:\n- {{service: node, bridge: {BRIDGE}, ip: 10.0.0.1/16}}\n"

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000  # linux/sched.h
_MS_BIND, _MS_REC, _MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18  # linux/mount.h
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_NETLINK_ADD_MEMBERSHIP = 1  # linux/netlink.h
_RTNLGRP_TC = 4  # linux/rtnetlink.h
_HEARD = (
    nl.RTNLGRP_LINK,
    _RTNLGRP_TC,
    nl.RTNLGRP_IPV4_IFADDR,
    nl.RTNLGRP_IPV6_IFADDR,
    nl.RTNLGRP_IPV4_ROUTE,
    nl.RTNLGRP_IPV6_ROUTE,
)
_LOOPBACK_UP = nl.message(
    nl.RTM_SETLINK, nl.NLM_F_ACK, nl.IFINFO.pack(0, 0, 1, nl.IFF_UP, nl.IFF_UP)
)
_AF_BRIDGE = 7  # linux/socket.h
_SCOPE_LINK = 253  # RT_SCOPE_LINK, linux/rtnetlink.h
_QUIET = 1.2  # seconds; the kernel tells carrier (linkwatch) and link-local addresses a second late

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)


def _mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    words = (source.encode(), target.encode(), kind.encode())
    _checked(_libc.mount(*words, ctypes.c_ulong(flags), None), target)


def setns(descriptor: int) -> None:
    """Move the calling thread into an open network namespace."""
    _checked(_libc.setns(descriptor, _CLONE_NEWNET), "setns")


def isolate() -> None:
    """Move this process, for good, into namespaces of its own; call before there are threads.

    Raises:
        OSError: neither root nor a user namespace is allowed here.
    """
    user, group = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNS | _CLONE_NEWNET
    if _libc.unshare(flags):
        _checked(_libc.unshare(flags | _CLONE_NEWUSER), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _mount("none", "/", "none", _MS_REC | _MS_PRIVATE)
    _mount("bench", "/run", "tmpfs")
    NETNS.mkdir()
    declare()
    # A pass over a thousand containers opens a thousand; so does the floor.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def declare(text: str = _TEXT) -> None:
    """Replace the configuration, as editors do."""
    new = CONFIG.with_suffix(".new")
    new.write_text(text)
    new.replace(CONFIG)


def populate(number: int) -> None:
    """Have exactly the containers `node_1` to `node_<number>`: namespaces with loopback up."""
    for path in set(NETNS.iterdir()) - set(map(path_of, range(1, number + 1))):
        _remove(path)
    for each in range(1, number + 1):
        if not path_of(each).exists():
            appear(each)


def appear(number: int) -> None:
    """Make one container; that it is mounted comes last, as with ip-netns(8)."""
    path, home = path_of(number), os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        path.touch()
        _checked(_libc.unshare(_CLONE_NEWNET), "unshare")
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            sock.send(_LOOPBACK_UP)
            sock.recv(4096)
        _mount("/proc/thread-self/ns/net", str(path), "none", _MS_BIND)
    finally:
        setns(home)
        os.close(home)


def disappear(number: int) -> None:
    """Take one container away."""
    _remove(path_of(number))


def _remove(path: Path) -> None:
    _checked(_libc.umount2(str(path).encode(), 0), str(path))
    path.unlink()


def path_of(number: int) -> Path:
    """Return the path of a container's namespace."""
    return NETNS / f"node_{number}"


@contextmanager
def inside(number: int) -> Iterator[socket.socket]:
    """Give a netlink socket in one container."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(path_of(number), os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(there)
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    finally:
        setns(home)
        os.close(there)
        os.close(home)
    with sock:
        yield sock


def roster() -> Roster:
    """Return what Relink knows once it has read its file and listed the containers."""
    loaded = load(Sources((str(CONFIG),), (), {}))
    made = Roster(loaded.config, Facts(instance=INSTANCE, plane=SELF))
    made.replace("netns", Plain(str(NETNS)).list())
    return made


class Monitor:
    """Hears every change in the data plane and in each namespace that a link joins to it."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._sock = socket.socket(socket.AF_NETLINK, kind, 0)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        except PermissionError:  # in a user namespace
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self._sock.setsockopt(nl.SOL_NETLINK, nl.NETLINK_LISTEN_ALL_NSID, 1)
        self._sock.bind((0, 0))
        for group in _HEARD:
            self._sock.setsockopt(nl.SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def wait(self, seconds: float) -> bool:
        """Wait for something to be heard; tell whether it was."""
        return bool(select.select([self._sock], [], [], max(0.0, seconds))[0])

    def drain(self) -> int:
        """Take in what was heard; return how many changes somebody asked for.

        Raises:
            OSError: more was said than could be heard.
        """
        count = 0
        while True:
            try:
                data = self._sock.recv(65536)
            except BlockingIOError:
                return count
            for kind, _flags, _sequence, start, _end in nl.messages(data):
                count += not _of_the_kernel(kind, data, start)

    def settle(self, quiet: float = _QUIET) -> None:
        """Wait until nothing is heard for so many seconds."""
        while self.wait(quiet):
            self.drain()


def _of_the_kernel(kind: int, data: bytes, start: int) -> bool:
    """Tell whether the kernel does this by itself.

    Link-local addresses and their routes; and of each port of a bridge its state, 15 seconds after
    it came up (br_forward_delay_timer_expired(), net/bridge), which is the only message here whose
    family is AF_BRIDGE: a write to a port as an interface is told as one of an interface too.
    """
    if kind == nl.RTM_NEWLINK:
        return bool(nl.IFINFO.unpack_from(data, start)[0] == _AF_BRIDGE)
    if kind in (nl.RTM_NEWADDR, nl.RTM_DELADDR):
        return bool(nl.IFADDR.unpack_from(data, start)[3] == _SCOPE_LINK)
    if kind in (nl.RTM_NEWROUTE, nl.RTM_DELROUTE):
        return bool(nl.RTMSG.unpack_from(data, start)[5] == nl.RTPROT_KERNEL)
    return False
