"""Offload settings of an interface, as the kernel tells them: what is on, whoever wanted it."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from functools import cache

from model import offloads
from model.keys import Key, NsKey
from model.resources import Offload
from observers.ethtool import ask

# The kernel's names of the bits, which stay as they are while it runs.
_bits: dict[str, int] = {}


def read(ns: NsKey, sock: socket.socket, dev: str, features: Iterable[str]) -> Offload:
    """Read these features of `dev`; any socket of its namespace will do.

    A group (tx, sg, tso) is on if any of its members is that is not asked for itself, which is what
    `ethtool --show-features` prints. A feature that this kernel does not know is off. Nothing is
    told of an interface that is gone.
    """
    key = Key(ns, "offload", dev)
    try:
        if not _bits:
            number = offloads.count(ask(sock, dev, offloads.ask_count()))
            _bits.update(offloads.names(ask(sock, dev, offloads.ask_names(number))))
        question, masks = _masks(tuple(features))
        active = offloads.active(ask(sock, dev, bytearray(question)))
    except OSError:
        return Offload(key=key, features=())
    return Offload(key=key, features=tuple([(name, active & mask != 0) for name, mask in masks]))


@cache
def _masks(features: tuple[str, ...]) -> tuple[bytes, tuple[tuple[str, int], ...]]:
    """Return the question for the state of all features, and the bits of these, by name."""
    masks = offloads.masks(features, _bits)
    question = offloads.ask_state(max(_bits.values()).bit_length())
    return question, tuple(sorted(masks.items()))
