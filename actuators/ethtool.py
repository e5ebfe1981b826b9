"""Telling an interface something by the ethtool ioctl; what it is, its callers know."""

from __future__ import annotations

import ctypes
import fcntl
import struct

from model.offloads import SIOCETHTOOL

_IFREQ = struct.Struct("16sP16x")  # linux/if.h


def tell(descriptor: int, dev: str, request: bytearray) -> bytearray:
    """Return `request` as the kernel leaves it; any socket of the interface's namespace will do.

    Raises:
        OSError: the kernel refused.
    """
    pointer = ctypes.addressof(ctypes.c_char.from_buffer(request))
    fcntl.ioctl(descriptor, SIOCETHTOOL, _IFREQ.pack(dev.encode(), pointer))
    return request
