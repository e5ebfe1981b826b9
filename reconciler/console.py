"""The streams of every console command: open, in UTF-8, and no traceback where one fails."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

OK, FAILED, INTERRUPTED = 0, 1, 130  # 128 + SIGINT, as shells have it
_OF_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # write(2)
_PATIENCE = 1.0  # seconds that the log waits for its reader
_SOON = 60.0  # seconds until it does so again
_MOMENT = 0.01  # seconds until a terminal is written to again that had too little room


def run(program: str, command: Callable[[], int]) -> int:
    """Run a command; return its exit code, also where nobody reads on or its output has no room.

    Raises:
        OSError: of anything but what it prints.
    """
    _open_streams()
    try:
        code = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `reconcile … | head`
        _drop_output()
        return OK
    except OSError as error:
        if error.errno not in _OF_OUTPUT or error.filename is not None:
            raise
        _drop_output()
        print(f"{program}: the output cannot be written: {error.strerror}", file=sys.stderr)
        return FAILED
    return code


class Log:
    """Writes the log, a line at a time; a line that nobody takes is lost.

    Who keeps a network does not end because a disk is full, nor stand still because the reader of
    its log does: an engine that hangs leaves the pipe to it full.

    Attributes:
        lost: lines, since the last that was written.
    """

    def __init__(self, stream: TextIO) -> None:
        self.lost = 0
        self._descriptor = _unhurried(stream.fileno())
        self._room = select.poll()
        self._room.register(self._descriptor, select.POLLOUT)
        self._impatient = 0.0  # until when it waits no more, as it has
        self._torn = b""  # the end that the last line still lacks
        self._lock = threading.Lock()

    def msg(self, message: str) -> None:
        """Write a line, or count it as lost."""
        data = f"{message}\n".encode(errors="backslashreplace")
        with self._lock:  # a line and its end are one, whichever threads log
            whole = self._torn + data
            left = self._unwritten(whole)
            if left != whole:
                self._torn = b"\n" if left else b""
            self.lost = self.lost + 1 if left else 0

    def _unwritten(self, data: bytes) -> bytes:
        """Write data; return what is left of it, if who reads does not go on."""
        now = time.monotonic()
        end = now if self.lost or now < self._impatient else now + _PATIENCE
        with contextlib.suppress(OSError):  # no room on the disk, nobody who reads, or ever will
            while data and self._room.poll(max(0, end - time.monotonic()) * 1000):
                try:
                    # So much does not wait, once there is room (poll(2), pipe(7)).
                    data = data[os.write(self._descriptor, data[: select.PIPE_BUF]) :]
                except BlockingIOError:  # of a terminal: room, and not enough of it
                    if time.monotonic() > end:
                        break
                    time.sleep(_MOMENT)
        if data and now < end:
            self._impatient = time.monotonic() + _SOON
        return data

    # structlog calls the level by its name.
    debug = info = warning = error = critical = msg


def _unhurried(descriptor: int) -> int:
    """Return a descriptor that writes to the same, and does not wait for it where it is a terminal.

    A terminal has room before it has enough for what is written, as a line end is two characters
    there. Opened anew, since whether it waits is of all who have it open.
    """
    if os.isatty(descriptor):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with contextlib.suppress(OSError):  # it is of another's: it may wait then
            return os.open(f"/proc/self/fd/{descriptor}", flags)
    return descriptor


def _open_streams() -> None:
    """Have all three streams, in UTF-8 whatever the terminal is, as the files are that we print."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed by who started us
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _drop_output() -> None:
    """Let what is still to be written go nowhere, so that nothing complains of it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
