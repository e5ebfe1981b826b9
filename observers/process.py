"""The exit of processes, through pidfd_open(2); knows nothing of whose processes they are."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Token = TypeVar("Token", bound=Hashable)


class ProcessWatch(Generic[Token]):
    """Calls `ring(token)` when a watched process has exited.

    One thread waits for all processes; `ring` is called from it. A process is watched by
    descriptor, so that a later process with the same pid is never mistaken for it.
    """

    def __init__(self, ring: Callable[[Token], None]) -> None:
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
            self._forget(token)
        self._ring(token)

    def _forget(self, token: Token) -> None:
        fd = self._fds.pop(token, -1)
        if fd >= 0:
            del self._tokens[fd]
            self._epoll.unregister(fd)
            os.close(fd)


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
