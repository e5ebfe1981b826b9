"""Permanent neighbour entries of a namespace; what the kernel has learned by itself is no state."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from model import netlink as nl
from model.keys import Key, NsKey
from model.ownership import PROTOCOL
from model.resources import Neighbour
from observers.netlink import address_text, dump, occurs

_ALL = nl.message(nl.RTM_GETNEIGH, nl.NLM_F_DUMP, nl.NDMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
_OURS = nl.attribute(nl.NDA_PROTOCOL, bytes([PROTOCOL]))


def read_all(ns: NsKey, sock: socket.socket, names: Mapping[int, str]) -> list[Neighbour]:
    """Read the entries that somebody made for good.

    Raises:
        OSError: the dump failed.
    """
    found = (decode(ns, names, *body) for body in dump(sock, _ALL))
    return [one for one in found if one is not None]


def has_ours(sock: socket.socket) -> bool:
    """Tell whether some have our protocol number, or look so.

    Raises:
        OSError: the dump failed.
    """
    return occurs(sock, _ALL, _OURS)


def decode(
    ns: NsKey, names: Mapping[int, str], data: bytes, start: int, end: int
) -> Neighbour | None:
    """Decode the body of an RTM_NEWNEIGH; None for what is not permanent or of no IP address."""
    family, index, state, _flags, _type = nl.NDMSG.unpack_from(data, start)
    if family not in (nl.AF_INET, nl.AF_INET6) or not state & nl.NUD_PERMANENT:
        return None
    found = nl.attributes(data, start + nl.NDMSG.size, end)
    if nl.NDA_DST not in found or nl.NDA_LLADDR not in found or index not in names:
        return None
    return Neighbour(
        key=Key(ns, "neighbour", names[index], address_text(family, found[nl.NDA_DST])),
        mac=found[nl.NDA_LLADDR].hex(":"),
        owned=found.get(nl.NDA_PROTOCOL) == bytes([PROTOCOL]),
    )
