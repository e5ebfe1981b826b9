"""Ring, coalesce and channel parameters: their names, and their places in what an ioctl carries.

Each of the structures of linux/ethtool.h is a command and a row of 32-bit numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Literal, NamedTuple

Which = Literal["ring", "coalesce", "channels"]


class Layout(NamedTuple):
    """One structure.

    Attributes:
        get, set: the commands ETHTOOL_G… and ETHTOOL_S….
        size: how many numbers there are after the command.
        places: which of them each parameter is, by its name in ethtool(8).
        most: how far before a parameter its maximum stands, 0 where the kernel tells none.
    """

    get: int
    set: int
    size: int
    places: Mapping[str, int]
    most: int


def _places(*names: str, first: int = 1) -> dict[str, int]:
    return {name: place for place, name in enumerate(names, first)}


SWITCHES = frozenset({"adaptive-rx", "adaptive-tx"})
# fmt: off
LAYOUTS: dict[Which, Layout] = {
    "ring": Layout(
        0x10, 0x11, 8, _places("rx", "rx-mini", "rx-jumbo", "tx", first=5), 4
    ),
    "coalesce": Layout(
        0x0E, 0x0F, 22,
        _places(
            "rx-usecs", "rx-frames", "rx-usecs-irq", "rx-frames-irq", "tx-usecs", "tx-frames",
            "tx-usecs-irq", "tx-frames-irq", "stats-block-usecs", "adaptive-rx", "adaptive-tx",
            "pkt-rate-low", "rx-usecs-low", "rx-frames-low", "tx-usecs-low", "tx-frames-low",
            "pkt-rate-high", "rx-usecs-high", "rx-frames-high", "tx-usecs-high", "tx-frames-high",
            "sample-interval",
        ), 0,
    ),
    "channels": Layout(
        0x3C, 0x3D, 8, _places("rx", "tx", "other", "combined", first=5), 4
    ),
}
# fmt: on


def question(which: Which) -> bytearray:
    """Ask for the parameters of an interface."""
    layout = LAYOUTS[which]
    return bytearray(struct.pack("=I", layout.get) + bytes(4 * layout.size))


def values(which: Which, answer: bytearray) -> dict[str, int]:
    """Return the parameters by name, in the order of ethtool(8)."""
    numbers = memoryview(answer).cast("I")
    return {name: numbers[place] for name, place in LAYOUTS[which].places.items()}


def maxima(which: Which, answer: bytearray) -> dict[str, int]:
    """Return the most that each parameter can be, for those of which the kernel tells it."""
    layout, numbers = LAYOUTS[which], memoryview(answer).cast("I")
    if not layout.most:
        return {}
    return {name: numbers[place - layout.most] for name, place in layout.places.items()}


def order(which: Which, answer: bytearray, wanted: Mapping[str, int]) -> bytearray:
    """Ask for an interface's parameters to be as in `answer`, and these to be as wanted."""
    layout = LAYOUTS[which]
    request = bytearray(struct.pack("=I", layout.set)) + answer[4:]
    for name, value in wanted.items():
        struct.pack_into("=I", request, 4 * layout.places[name], value)
    return request
