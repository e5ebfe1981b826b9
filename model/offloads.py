"""Offload features as the ethtool ioctls carry them (linux/ethtool.h): bytes and bits, no calls.

A feature is one bit of a set whose names the kernel tells (ETH_SS_FEATURES); the sets come in words
of 32 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from model.ethtool import FEATURES, GROUPS, KERNEL_NAMES

SIOCETHTOOL = 0x8946  # linux/sockios.h
# linux/ethtool.h, ETHTOOL_…
_GSTRINGS, _GSSET_INFO, _GFEATURES, _SFEATURES = 0x1B, 0x37, 0x3A, 0x3B
_SS_FEATURES, _GSTRING_LEN = 4, 32
_COUNT = struct.Struct("=IIQI")  # ethtool_sset_info with room for one answer
_HEAD = struct.Struct("=III")  # ethtool_gstrings: command, string set, number
_SET = struct.Struct("=II")  # ethtool_gfeatures, ethtool_sfeatures: command, number of words
_BLOCK = struct.Struct("=IIII")  # available, requested, active, never_changed
_TWO_WORDS = struct.Struct("=8x8xI4x8xI4x")  # what is active, in an answer of two blocks
_WANTED = struct.Struct("=II")  # valid, requested

# What can be declared.
COMMANDS = frozenset(FEATURES.values())


def ask_count() -> bytearray:
    """Ask how many features the kernel knows."""
    return bytearray(_COUNT.pack(_GSSET_INFO, 0, 1 << _SS_FEATURES, 0))


def count(answer: bytearray) -> int:
    """Return the number of features."""
    return int(_COUNT.unpack(answer)[3])


def ask_names(number: int) -> bytearray:
    """Ask for the names of that many features."""
    return bytearray(_HEAD.pack(_GSTRINGS, _SS_FEATURES, number)) + bytes(number * _GSTRING_LEN)


def names(answer: bytearray) -> dict[str, int]:
    """Return the bit of each feature by the kernel's name for it."""
    number = _HEAD.unpack_from(answer)[2]
    found: dict[str, int] = {}
    for place in range(number):
        at = _HEAD.size + place * _GSTRING_LEN
        name = answer[at : at + _GSTRING_LEN].partition(b"\0")[0].decode(errors="replace")
        if name:
            found[name] = 1 << place
    return found


def ask_state(number: int) -> bytes:
    """Ask for the state of that many features; the answer is written over a copy of it."""
    words = _words(number)
    return _SET.pack(_GFEATURES, words) + bytes(words * _BLOCK.size)


def active(answer: bytearray) -> int:
    """Return the bits of the features that are on."""
    if len(answer) == _TWO_WORDS.size:  # every kernel's since 3.9; this is read of every link
        low, high = _TWO_WORDS.unpack(answer)
        return int(low | high << 32)
    return _joined(answer, 2)


def changeable(answer: bytearray) -> int:
    """Return the bits of the features that can be switched on this interface."""
    return _joined(answer, 0) & ~_joined(answer, 3)


def order(number: int, valid: int, wanted: int) -> bytearray:
    """Ask to switch the features in `valid` to what `wanted` says, of that many."""
    request = bytearray(_SET.pack(_SFEATURES, _words(number)))
    for word in range(_words(number)):
        shift = 32 * word
        request += _WANTED.pack(valid >> shift & 0xFFFFFFFF, wanted >> shift & 0xFFFFFFFF)
    return request


def masks(features: Iterable[str], bits: Mapping[str, int]) -> dict[str, int]:
    """Return the bits that each feature stands for, 0 for one that this kernel does not know.

    One of ethtool's groups (tx, sg, tso) stands for those of its members that are not in `features`
    themselves: "tx off, but tx-checksum-sctp on" contradicts nothing.
    """
    told = frozenset(features)
    return {
        name: _group(GROUPS[name], told, bits)
        if name in GROUPS
        else bits.get(KERNEL_NAMES.get(name, name), 0)
        for name in told
    }


def _group(pattern: str, told: frozenset[str], bits: Mapping[str, int]) -> int:
    return sum(bit for name, bit in bits.items() if name not in told and fnmatchcase(name, pattern))


def _joined(answer: bytearray, place: int) -> int:
    """Join the words of one of the four sets; two words of a header come before the blocks."""
    bits = 0
    for word, value in enumerate(memoryview(answer).cast("I")[2 + place :: 4]):
        bits |= value << 32 * word
    return bits


def _words(number: int) -> int:
    return (number + 31) // 32
