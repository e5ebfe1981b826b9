"""The offload features that one ethtool command reads and another sets (linux/ethtool.h)."""

from __future__ import annotations

from typing import NamedTuple

SIOCETHTOOL = 0x8946  # linux/sockios.h


class Commands(NamedTuple):
    """ETHTOOL_G… and ETHTOOL_S… of one feature, each taking a struct ethtool_value."""

    get: int
    set: int


COMMANDS = {
    "rx": Commands(0x14, 0x15),
    "tx": Commands(0x16, 0x17),
    "sg": Commands(0x18, 0x19),
    "tso": Commands(0x1E, 0x1F),
    "gso": Commands(0x23, 0x24),
    "gro": Commands(0x2B, 0x2C),
}
