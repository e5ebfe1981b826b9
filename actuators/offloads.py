"""Setting offload features, by the ethtool ioctls."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import struct
from collections.abc import Iterable

from actuators.requests import Request
from model.offloads import COMMANDS, SIOCETHTOOL, Commands
from model.resources import Offload


def modify(offload: Offload, changed: Iterable[str]) -> list[Request]:
    """Set the features named in `changed` as declared, one call each."""
    wanted = dict(offload.features)
    dev = offload.key.dev
    return [
        Request(offload.key.ns, call=_setter(dev, COMMANDS[name], on=wanted[name]))
        for name in changed
    ]


class _setter:  # noqa: N801 - a function with its arguments, comparable in tests
    __slots__ = ("commands", "dev", "on")

    def __init__(self, dev: str, commands: Commands, *, on: bool) -> None:
        self.dev, self.commands, self.on = dev, commands, on

    def __call__(self, descriptor: int) -> None:
        _ethtool(descriptor, self.dev, self.commands.set, self.on)
        # The call succeeds, and does nothing, where another feature stands against it: segmentation
        # without checksums (netdev_fix_features() in net/core/dev.c).
        if bool(_ethtool(descriptor, self.dev, self.commands.get, 0)) is not self.on:
            raise OSError(errno.EOPNOTSUPP, "another offload setting stands against it")


def _ethtool(descriptor: int, dev: str, command: int, data: int) -> int:
    value = bytearray(struct.pack("=II", command, data))  # ethtool_value, linux/ethtool.h
    pointer = ctypes.addressof(ctypes.c_char.from_buffer(value))
    request = struct.pack("16sP16x", dev.encode(), pointer)  # ifreq, linux/if.h
    fcntl.ioctl(descriptor, SIOCETHTOOL, request)
    return int(struct.unpack("=II", value)[1])
