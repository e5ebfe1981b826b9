"""Offload settings of an interface, as the ethtool ioctls tell them."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable

from model.keys import Key, NsKey
from model.offloads import COMMANDS, SIOCETHTOOL
from model.resources import Offload

_VALUE = struct.Struct("=II")  # ethtool_value: command, data (linux/ethtool.h)


def read(ns: NsKey, sock: socket.socket, dev: str, features: Iterable[str]) -> Offload:
    """Read these features of `dev`; any socket of its namespace will do.

    A feature that the interface does not have is left out.
    """
    found: list[tuple[str, bool]] = []
    for feature in sorted(features):
        value = bytearray(_VALUE.pack(COMMANDS[feature].get, 0))
        try:
            _ioctl(sock, dev, value)
        except OSError:
            continue
        found.append((feature, bool(_VALUE.unpack(value)[1])))
    return Offload(key=Key(ns, "offload", dev), features=tuple(found))


def _ioctl(sock: socket.socket, dev: str, value: bytearray) -> None:
    import ctypes  # noqa: PLC0415 - the one place that needs an address of a buffer

    pointer = ctypes.addressof(ctypes.c_char.from_buffer(value))
    request = struct.pack("16sP16x", dev.encode(), pointer)  # ifreq
    fcntl.ioctl(sock.fileno(), SIOCETHTOOL, request)
