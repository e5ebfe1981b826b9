"""Ring, coalesce and channel parameters of an interface, as its driver tells them."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from model import settings
from model.keys import Key, NsKey
from model.resources import Setting
from observers.ethtool import ask


def read(
    ns: NsKey, sock: socket.socket, dev: str, which: Iterable[settings.Which]
) -> list[Setting]:
    """Read these groups of parameters of `dev`; any socket of its namespace will do.

    A group that the driver does not have, or all of them when the interface is gone, have no
    values: who sets one is told why.
    """
    found: list[Setting] = []
    for each in which:
        try:
            values = settings.values(each, ask(sock, dev, settings.question(each)))
        except OSError:
            values = {}
        key = Key(ns, "setting", dev, each)
        found.append(Setting(key=key, values=tuple(sorted(values.items()))))
    return found
