"""Running one command in a network namespace that no engine made, as a process of this machine."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import threading
from collections.abc import Mapping
from contextlib import ExitStack

from actuators.execution import FAILED, NOT_EXECUTABLE, NOT_FOUND, SIGNALLED, NotRunError, Take

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_CHUNK = 65536  # bytes; what a pipe holds (pipe(7))
_libc = ctypes.CDLL(None, use_errno=True)

# Python ignores these, and a program would inherit that.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)


class NamespaceExec:
    """One run of a command in a network namespace; all else is as of this process.

    Args:
        path: of the namespace.
        inode: of the namespace; another that has its path by now is left alone.
        argv: the program and its arguments.
    """

    def __init__(self, path: str, inode: int, argv: tuple[str, ...]) -> None:
        self._path = path
        self._inode = inode
        self._argv = argv
        self._lock = threading.Lock()
        self._wake = -1
        self._stopped = False

    def interrupt(self) -> None:
        """Make `run` return at once; the command goes on."""
        with self._lock:
            self._stopped = True
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def run(self, take: Take) -> int | None:
        """Run the command and return its exit code, None if interrupted.

        The calling thread stays in the namespace, and must end after this.

        Raises:
            NotRunError: there is no such namespace or program, or it may not be executed.
        """
        with ExitStack() as opened:
            try:
                self._enter()
                process, streams = self._spawn()
                for descriptor in streams:
                    opened.callback(os.close, descriptor)
                watch = os.pidfd_open(process)
                opened.callback(os.close, watch)
                wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            except OSError as error:
                reason = f"cannot run in {self._path}: {error.strerror}"
                raise NotRunError(FAILED, reason) from error
            opened.callback(self._close, wake)
            with self._lock:
                self._wake = wake
                if self._stopped:
                    return None
            return _follow(watch, wake, streams, take)

    def _close(self, wake: int) -> None:
        with self._lock:
            self._wake = -1
            os.close(wake)

    def _enter(self) -> None:
        # os.setns is new in Python 3.12.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_ino != self._inode:
                raise NotRunError(FAILED, f"{self._path} is another namespace by now")
            if _libc.setns(descriptor, _CLONE_NEWNET):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
        finally:
            os.close(descriptor)

    def _spawn(self) -> tuple[int, dict[int, int]]:
        """Start the program; return its process id, and its streams by descriptor."""
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        try:
            process = os.posix_spawnp(
                self._argv[0],
                self._argv,
                os.environ,
                file_actions=(
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, out_end, 1),
                    (os.POSIX_SPAWN_DUP2, err_end, 2),
                ),
                setsid=True,
                setsigdef=_DEFAULT_SIGNALS,
            )
        except (OSError, ValueError) as error:
            os.close(out)
            os.close(err)
            raise _refused(self._argv[0], error) from error
        finally:
            os.close(out_end)
            os.close(err_end)
        return process, {out: 1, err: 2}


def _follow(watch: int, wake: int, streams: Mapping[int, int], take: Take) -> int | None:
    """Pass output on until the process ends: what it leaves running may keep its streams."""
    poll = select.poll()
    for descriptor in (watch, wake, *streams):
        poll.register(descriptor, select.POLLIN)
    for descriptor in streams:
        os.set_blocking(descriptor, False)
    while True:
        ready = dict(poll.poll())
        if wake in ready:
            return None
        for descriptor in ready.keys() & streams.keys():
            if not _pass_on(descriptor, streams[descriptor], take):
                poll.unregister(descriptor)
        if watch in ready:
            for descriptor, stream in streams.items():
                _drain(descriptor, stream, take)
            return _exit_code(watch)


def _pass_on(descriptor: int, stream: int, take: Take) -> bool:
    """Pass on one piece of a stream; tell whether there was one."""
    try:
        data = os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return False
    if data:
        take(stream, data)
    return bool(data)


def _drain(descriptor: int, stream: int, take: Take) -> None:
    """Pass on what is in a pipe: no more than it can hold, for what was left running may go on."""
    left = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) // _CHUNK
    while left and _pass_on(descriptor, stream, take):
        left -= 1


def _exit_code(watch: int) -> int:
    ended = os.waitid(os.P_PIDFD, watch, os.WEXITED)
    if ended is None:  # only with WNOHANG
        raise RuntimeError("waitid returned without a process that ended")
    return ended.si_status + (0 if ended.si_code == os.CLD_EXITED else SIGNALLED)


def _refused(program: str, error: OSError | ValueError) -> NotRunError:
    if isinstance(error, ValueError):  # a word that the file system's encoding lacks
        return NotRunError(NOT_EXECUTABLE, f"cannot run {program!r}: {error}")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        words = f"no program {program!r} here, or what it names as its interpreter"
        return NotRunError(NOT_FOUND, f"{words}; give its path, or install it")
    return NotRunError(NOT_EXECUTABLE, f"cannot run {program!r}: {error.strerror}")
