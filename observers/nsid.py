"""Numbers by which one namespace knows another (RTM_NEWNSID): what the kernel calls its peers.

An id is a subscription and an address, no change of the namespace that it is of.
"""

from __future__ import annotations

import os
import socket

from model import netlink as nl
from observers.netlink import ask

NSID, PID, FD = 1, 2, 3  # NETNSA_*, linux/net_namespace.h


def of_descriptor(descriptor: int) -> bytes:
    """Name a namespace by an open descriptor."""
    return nl.u32(FD, descriptor)


def of_process(pid: int) -> bytes:
    """Name a namespace by a process in it; the kernel asks for no right to trace that."""
    return nl.u32(PID, pid)


def known(sock: socket.socket, which: bytes) -> int:
    """Return the id of a namespace in that of `sock`, -1 if it has none.

    Raises:
        OSError: there is no such namespace.
    """
    request = nl.message(nl.RTM_GETNSID, 0, nl.RTGEN.pack(0), which)
    kind, flags, data, start, end = ask(sock, request)
    if kind == nl.RTM_NEWNSID:
        found = nl.attributes(data, start + 4, end)
        return int(nl.I32.unpack(found[NSID])[0])
    code, words = nl.decode_error(data, start, end, flags)
    raise OSError(code, words or os.strerror(code))


def given(sock: socket.socket, which: bytes) -> int:
    """Return the id of a namespace in that of `sock`; let the kernel choose one if it has none.

    Raises:
        OSError: there is no such namespace, or no right to give it one.
    """
    number = known(sock, which)
    if number < 0:
        wanted = which + nl.attribute(NSID, nl.I32.pack(-1))
        request = nl.message(nl.RTM_NEWNSID, nl.NLM_F_ACK, nl.RTGEN.pack(0), wanted)
        ask(sock, request)  # refused or not: what is known then tells
        number = known(sock, which)
    return number
