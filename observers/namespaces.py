"""Network namespaces: finding them, opening a netlink socket inside, and never holding them longer.

An open socket or descriptor pins a namespace: the outer end of a dead container's link would live
on. So everything is opened for one pass and closed after it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from model import netlink as nl
from model.keys import HOST, SELF, NsKey
from model.replicas import Container
from observers import nsid
from observers.netlink import open_socket
from observers.own import parse_own_id

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)
_OWN = "/proc/thread-self/ns/net"
PINNED_DIR = "/run/netns"
_OUR_LIMITS = (errno.EMFILE, errno.ENFILE)


class StrandedError(BaseException):
    """The thread could not return to its own namespace; nothing may run in it any more."""


def _setns(descriptor: int) -> None:
    # os.setns is new in Python 3.12.
    if _libc.setns(descriptor, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@dataclass(slots=True)
class Opened:
    """Namespaces opened for one pass: a socket in each, and why others are absent.

    Use as a context manager; leaving it closes everything. Only those that links are sent to keep
    a descriptor too, so that a thousand containers take a thousand descriptors and no more.
    `host_id` is the id of process 1's namespace in that of the data plane, -1 if it has none.
    `others` are those of the absent that somebody else may leave later, though nothing rings.
    """

    descriptors: dict[NsKey, int] = field(default_factory=dict)
    sockets: dict[NsKey, socket.socket] = field(default_factory=dict)
    inodes: dict[NsKey, int] = field(default_factory=dict)
    absent: dict[NsKey, str] = field(default_factory=dict)
    others: set[NsKey] = field(default_factory=set)
    host_id: int = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def leave(self, ns: NsKey, reason: str) -> None:
        """Have nothing to do with a namespace after all."""
        self.sockets.pop(ns).close()
        self.inodes.pop(ns)
        self.absent[ns] = reason
        self.others.add(ns)

    def close(self) -> None:
        """Close everything; the namespaces may go now."""
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        for sock in self.sockets.values():
            sock.close()
        self.descriptors.clear()
        self.sockets.clear()


def pinned_name(instance: str) -> str:
    """Return the name under /run/netns of an instance's pinned data plane."""
    return f"relink-{instance}"


def path_of(plane: NsKey) -> str:
    """Return the path of a namespace that is not a container's."""
    if plane == SELF:
        return _OWN
    if plane == HOST:
        return "/proc/1/ns/net"
    return f"{PINNED_DIR}/{pinned_name(plane.id)}"


def open_all(
    planes: Iterable[NsKey],
    containers: Mapping[NsKey, Container],
    *,
    host: bool = False,
    visit: Callable[[NsKey], str] = lambda _ns: "",
) -> Opened:
    """Open namespaces: those that must exist, and those of containers, which may be gone.

    With `host` that of process 1 is given an id too; one that cannot be reached is absent. `visit`
    is called in each container's, and says why it is left alone, "" if it is not.

    A container whose process is another's by now, or whose namespace is that of the host or of the
    data plane, is absent, with the reason.

    Raises:
        OSError: one of `planes` cannot be opened, or the limits of this process are reached.
        StrandedError: the calling thread is lost.
    """
    opened = Opened()
    with _returning() as home:
        try:
            for plane in planes:
                _enter(opened, plane, os.open(path_of(plane), os.O_RDONLY | os.O_CLOEXEC))
            known = {inode: ns for ns, inode in opened.inodes.items()}
            if host:
                _find_host(opened)
            known.setdefault(os.fstat(home).st_ino, SELF)
            known.setdefault(_inode("/proc/1/ns/net"), HOST)
            for ns, container in containers.items():
                _open_container(opened, ns, container, known)
                if ns in opened.sockets and (reason := visit(ns)):
                    opened.leave(ns, reason)
        except BaseException:
            opened.close()
            raise
    return opened


@contextmanager
def _returning() -> Iterator[int]:
    """Let the body enter namespaces, and bring the thread home; yields a descriptor of home.

    Raises:
        StrandedError: there is no way home.
    """
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            yield home
        finally:
            try:
                _setns(home)
            except OSError as error:
                if _inode(_OWN) != os.fstat(home).st_ino:  # else it has never left
                    raise StrandedError(str(error)) from error
    finally:
        os.close(home)


@contextmanager
def inside(path: str) -> Iterator[None]:
    """Run the body in the namespace at `path`.

    Raises:
        OSError: it cannot be opened or entered.
        StrandedError: there is no way home.
    """
    with _returning():
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(descriptor)
        finally:
            os.close(descriptor)
        yield


@contextmanager
def entered(sock: socket.socket) -> Iterator[None]:
    """Run the body, and what it starts, in the namespace that `sock` was opened in.

    Raises:
        OSError: it cannot be entered.
        StrandedError: there is no way home.
    """
    with _returning():
        descriptor = fcntl.ioctl(sock, nl.SIOCGSKNS)
        try:
            _setns(descriptor)
        finally:
            os.close(descriptor)
        yield


def _inode(path: str) -> int:
    try:
        return Path(path).stat().st_ino
    except OSError:
        return 0


def _enter(opened: Opened, ns: NsKey, descriptor: int) -> None:
    """Open a socket in a namespace; the thread stays there until it enters the next."""
    opened.descriptors[ns] = descriptor
    opened.inodes[ns] = os.fstat(descriptor).st_ino
    _setns(descriptor)
    opened.sockets[ns] = open_socket()


def _find_host(opened: Opened) -> None:
    """Give the host's namespace an id in the data plane's.

    It is read, and links are stacked on its interfaces, by that id: to enter it takes the right to
    trace process 1, which a sidecar seldom has.
    """
    try:
        sock = next(iter(opened.sockets.values()))
        opened.host_id = nsid.given(sock, nsid.of_process(1))
    except (OSError, StopIteration) as error:
        opened.absent[HOST] = f"the host's namespace cannot be reached: {error}; see `pid: host`"


def _open_container(
    opened: Opened, ns: NsKey, container: Container, known: dict[int, NsKey]
) -> None:
    try:
        descriptor = os.open(container.netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _OUR_LIMITS:  # nothing is known of the namespace
            raise
        denied = isinstance(error, PermissionError)
        opened.absent[ns] = (
            f"not allowed to enter {container.netns}: it runs as another user or has a capability "
            "that Relink lacks; add SYS_PTRACE to the sidecar"
            if denied
            else "its namespace is gone"
        )
        return
    inode = os.fstat(descriptor).st_ino
    holder = known.get(inode)
    reason = ""
    if holder is not None:
        reason = f"it uses the network of {holder}; nothing is changed there"
    elif container.pid and not is_process_of(container):
        reason = "its process is gone"  # and its number is another process's by now
    if reason:
        os.close(descriptor)
        opened.absent[ns] = reason
        return
    known[inode] = ns
    try:
        _setns(descriptor)
        opened.sockets[ns] = open_socket()
        opened.inodes[ns] = inode
    except OSError as error:
        if error.errno in _OUR_LIMITS:
            raise
        opened.absent[ns] = f"cannot enter its namespace: {error.strerror}"
    finally:
        os.close(descriptor)


def is_process_of(container: Container) -> bool:
    """Tell whether a container's pid is still a process of that container.

    Engines name a container's control group after its id, where they may make one: rootless podman
    often may not, and then the files tell that are mounted into the container. Where all groups
    are the root, or none is mounted, the answer is yes.
    """
    try:
        with open(f"/proc/{container.pid}/cgroup", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - hot path
            groups = file.read()
        if container.id in groups:
            return True
        if all(line.rpartition(":")[2] in ("", "/") for line in groups.splitlines()):
            return True
        mounts = Path(f"/proc/{container.pid}/mountinfo").read_text(errors="replace")
    except OSError:
        return False
    return parse_own_id(mounts, groups, hostname="") == container.id


def inode_of(plane: NsKey) -> int:
    """Return the inode of a data plane's namespace, 0 if it is not there."""
    return _inode(path_of(plane))


def path_exists(plane: NsKey) -> bool:
    """Tell whether a data plane's namespace is there."""
    return Path(path_of(plane)).exists()
