"""Setting offload features, by the ethtool ioctls."""

from __future__ import annotations

import ctypes
import fcntl
import struct
from collections.abc import Iterable

from actuators.requests import Request
from model.offloads import COMMANDS, SIOCETHTOOL
from model.resources import Offload


def modify(offload: Offload, changed: Iterable[str]) -> list[Request]:
    """Set the features named in `changed` as declared, one call each."""
    wanted = dict(offload.features)
    dev = offload.key.dev
    return [
        Request(offload.key.ns, call=_setter(dev, COMMANDS[name].set, on=wanted[name]))
        for name in changed
    ]


class _setter:  # noqa: N801 - a function with its arguments, comparable in tests
    __slots__ = ("command", "dev", "on")

    def __init__(self, dev: str, command: int, *, on: bool) -> None:
        self.dev, self.command, self.on = dev, command, on

    def __call__(self, descriptor: int) -> None:
        value = bytearray(struct.pack("=II", self.command, self.on))  # ethtool_value
        pointer = ctypes.addressof(ctypes.c_char.from_buffer(value))
        request = struct.pack("16sP16x", self.dev.encode(), pointer)  # ifreq, linux/if.h
        fcntl.ioctl(descriptor, SIOCETHTOOL, request)
