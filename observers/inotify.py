"""File system notifications of the Linux kernel (inotify(7)); knows nothing of what is watched."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import NamedTuple, Self

# linux/inotify.h
IN_MODIFY = 0x0002
IN_ATTRIB = 0x0004
IN_CLOSE_WRITE = 0x0008
IN_MOVED_FROM = 0x0040
IN_MOVED_TO = 0x0080
IN_CREATE = 0x0100
IN_DELETE = 0x0200
IN_DELETE_SELF = 0x0400
IN_MOVE_SELF = 0x0800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000

_HEADER = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, length of the name
_ROOM = 65536  # bytes per read; one event needs at most 16 + 256 (NAME_MAX and its zero)

_libc = ctypes.CDLL(None, use_errno=True)


class Notice(NamedTuple):
    """One notification: the watch it belongs to, IN_* bits, and the name inside a directory."""

    wd: int
    mask: int
    name: str


class Inotify:
    """The lifetime of one inotify descriptor; `fd` is readable when notices wait.

    Raises:
        OSError: the user's limit of instances is reached (fs.inotify.max_user_instances).
    """

    def __init__(self) -> None:
        self.fd: int = _check(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")

    def add(self, path: str | Path, mask: int) -> int:
        """Watch `path` for the IN_* bits of `mask` and return its watch descriptor.

        Raises:
            OSError: the path does not exist or may not be read, or the limit of watches is
                reached (ENOSPC, fs.inotify.max_user_watches).
        """
        name = ctypes.c_char_p(os.fsencode(path))
        wd = _libc.inotify_add_watch(self.fd, name, ctypes.c_uint32(mask))
        return _check(wd, str(path))

    def remove(self, wd: int) -> None:
        """End a watch; one that the kernel has already ended is fine."""
        _libc.inotify_rm_watch(self.fd, wd)

    def read(self) -> list[Notice]:
        """Return the notices that wait, without blocking.

        A notice whose mask has IN_Q_OVERFLOW (and wd -1) says that others were dropped.
        """
        try:
            data = os.read(self.fd, _ROOM)
        except BlockingIOError:
            return []
        notices = []
        at = 0
        while at < len(data):
            wd, mask, _cookie, length = _HEADER.unpack_from(data, at)
            at += _HEADER.size
            name = data[at : at + length].rstrip(b"\0")
            at += length
            notices.append(Notice(wd, mask, os.fsdecode(name)))
        return notices

    def close(self) -> None:
        """Close the descriptor, which ends all watches."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check(result: int, name: str) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), name)
    return result
