"""Asking an interface by the ethtool ioctl; which question it is, its callers know."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

from model.offloads import SIOCETHTOOL

_IFREQ = struct.Struct("16sP16x")  # linux/if.h


def ask(sock: socket.socket, dev: str, question: bytearray) -> bytearray:
    """Return `question` filled in by the kernel; any socket of the interface's namespace will do.

    Raises:
        OSError: there is no such interface, or its driver has no answer (EOPNOTSUPP).
    """
    pointer = ctypes.addressof(ctypes.c_char.from_buffer(question))
    fcntl.ioctl(sock.fileno(), SIOCETHTOOL, _IFREQ.pack(dev.encode(), pointer))
    return question
