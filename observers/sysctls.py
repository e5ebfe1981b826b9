"""Kernel settings of a namespace that rtnetlink has no message for."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path

from model.keys import Key, NsKey
from model.resources import Sysctl
from observers.namespaces import entered


def read(ns: NsKey, sock: socket.socket, names: Iterable[str]) -> list[Sysctl]:
    """Read these settings; one that the kernel does not have has no value.

    Raises:
        OSError: the namespace cannot be entered.
        observers.namespaces.StrandedError: the calling thread is lost.
    """
    wanted = tuple(names)
    if not wanted:
        return []
    with entered(sock):  # /proc/sys/net is that of the thread which opens it
        return [Sysctl(key=Key(ns, "sysctl", "", name), value=_value(name)) for name in wanted]


def _value(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
