"""The exit of processes, through pidfd_open(2); knows nothing of whose processes they are."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

Token = TypeVar("Token", bound=Hashable)


class ProcessWatch(Generic[Token]):
    """Calls `ring(token, descriptor)` when a watched process has exited.

    One thread waits for all processes; `ring` is called from it. A process is watched by
    descriptor, so that a later process with the same pid is never mistaken for it; the descriptor
    is open until `ring` returns.
    """

    def __init__(self, ring: Callable[[Token, int], None]) -> None:
        self._ring = ring
        self._lock = threading.Lock()
        self._tokens: dict[int, Token] = {}  # by descriptor
        self._fds: dict[Token, int] = {}
        self._closed = False
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="process-watch", daemon=True)
        self._thread.start()

    def add(self, pid: int, token: Token) -> bool:
        """Watch the process `pid`, instead of what `token` stood for before.

        Returns:
            False when there is no such process (any more), or this watch is closed.

        Raises:
            OSError: the limit of open files is reached (EMFILE, ENFILE).
        """
        try:
            fd = os.pidfd_open(pid) if pid > 0 else -1
        except ProcessLookupError:
            fd = -1
        with self._lock:
            self._forget(token)
            if fd < 0:
                return False
            if self._closed:
                os.close(fd)
                return False
            self._tokens[fd] = token
            self._fds[token] = fd
            self._epoll.register(fd, select.EPOLLIN)
        return True

    def remove(self, token: Token) -> None:
        """Stop watching; a ring that is under way may still arrive."""
        with self._lock:
            self._forget(token)

    def close(self) -> None:
        """Stop watching everything and release all descriptors."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.eventfd_write(self._wake, 1)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            for fd, _ in self._epoll.poll():
                self._exited(fd)
        with self._lock:
            for token in list(self._fds):
                self._forget(token)
            self._epoll.close()
            os.close(self._wake)

    def _exited(self, fd: int) -> None:
        with self._lock:
            # The number may by now belong to another process: ask it again.
            if fd not in self._tokens or not _readable(fd):
                return
            token = self._tokens[fd]
            self._release(token)
        try:
            self._ring(token, fd)
        finally:
            os.close(fd)

    def _forget(self, token: Token) -> None:
        if (fd := self._release(token)) >= 0:
            os.close(fd)

    def _release(self, token: Token) -> int:
        """Stop watching, and return the descriptor, which is open still; -1 if there is none."""
        fd = self._fds.pop(token, -1)
        if fd >= 0:
            del self._tokens[fd]
            self._epoll.unregister(fd)
        return fd


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


# linux/pidfd.h: struct pidfd_info is mask, cgroup, eleven numbers, exit code
_PIDFD_INFO = struct.Struct("=QQ11Ii")
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_GET_INFO = 3 << 30 | _PIDFD_INFO.size << 16 | 0xFF << 8 | 11  # _IOWR(0xFF, 11, …)


def how_it_ended(fd: int) -> str:
    """Say how a process ended that has, by its descriptor; a child of ours is waited for."""
    status = _wait_status(fd)
    if status is None:
        return "ended"
    code = os.waitstatus_to_exitcode(status)
    return f"ended by signal {-code}" if code < 0 else f"ended with exit status {code}"


def _wait_status(fd: int) -> int | None:
    """Return the status as waitpid(2) has it, None where nothing tells.

    Its parent is told by waitpid(2), and so is the first process of a container, which adopts what
    detaches itself. Others are told by proc_pid_stat(5) until the parent has waited, and by the
    descriptor from then on (Linux 6.15).
    """
    told = dict(
        line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    )
    pid = int(told["Pid"])  # -1 once its parent has waited, 0 where it is not to be seen from here
    if pid > 0:
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(pid, os.WNOHANG)[1]
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        signal.pidfd_send_signal(fd, 0)  # it is still there, so that the number was not another's
        return int(fields[49])  # the 52nd; the first two are before the parenthesis
    with contextlib.suppress(OSError):  # an older kernel has no such call
        info = fcntl.ioctl(fd, _PIDFD_GET_INFO, _PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13))
        mask, *_, status = _PIDFD_INFO.unpack(info)
        return int(status) if mask & _PIDFD_INFO_EXIT else None
    return None
