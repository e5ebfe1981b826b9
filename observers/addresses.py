"""Addresses of a namespace's interfaces, as rtnetlink tells them."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from model import netlink as nl
from model.keys import Key, NsKey
from model.ownership import PROTOCOL
from model.resources import Address
from observers.netlink import address_text, dump

_ALL = nl.message(nl.RTM_GETADDR, nl.NLM_F_DUMP, nl.IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
_SCOPE_LINK = 253


def read_all(ns: NsKey, sock: socket.socket, names: Mapping[int, str]) -> list[Address]:
    """Read the addresses of the interfaces in `names` (index → name).

    Raises:
        OSError: the dump failed.
    """
    return [a for body in dump(sock, _ALL) if (a := decode(ns, names, *body))]


def decode(
    ns: NsKey, names: Mapping[int, str], data: bytes, start: int, end: int
) -> Address | None:
    """Decode the body of an RTM_NEWADDR; None for interfaces not in `names`.

    Link-local addresses that the kernel made are left out too: nobody declares them.
    """
    family, prefix, _flags, scope, index = nl.IFADDR.unpack_from(data, start)
    dev = names.get(index)
    if dev is None:
        return None
    found = nl.attributes(data, start + 8, end)
    # IFA_PROTO exists since 5.18. Before, nothing tells our addresses from others, so none is ours
    # and none is ever removed while its link stays.
    owned = found.get(nl.IFA_PROTO, b"\0")[0] == PROTOCOL
    if scope == _SCOPE_LINK and not owned and family == nl.AF_INET6:
        return None
    raw = found.get(nl.IFA_LOCAL) or found.get(nl.IFA_ADDRESS)
    if raw is None:
        return None
    ip = f"{address_text(family, raw)}/{prefix}"
    return Address(key=Key(ns, "address", dev, ip), ip=ip, owned=owned)
