"""Adding, replacing and removing permanent neighbour entries."""

from __future__ import annotations

import ipaddress

from actuators.requests import Numbers, Request
from model import netlink as nl
from model.keys import link_key
from model.ownership import PROTOCOL
from model.resources import Neighbour


def create(neighbour: Neighbour, numbers: Numbers) -> list[Request]:
    """Make the entry permanent, with our protocol number.

    It replaces what the kernel may have learned, or tried in vain to learn, about the address.
    """
    message = nl.message(
        nl.RTM_NEWNEIGH,
        nl.NLM_F_ACK | nl.NLM_F_CREATE | nl.NLM_F_REPLACE,
        _body(neighbour, numbers, nl.NUD_PERMANENT),
        nl.attribute(nl.NDA_LLADDR, bytes.fromhex(neighbour.mac.replace(":", ""))),
        nl.attribute(nl.NDA_PROTOCOL, bytes([PROTOCOL])),
    )
    return [Request(neighbour.key.ns, message)]


modify = create


def delete(neighbour: Neighbour, numbers: Numbers) -> list[Request]:
    """Remove the entry; the kernel does not compare its protocol number."""
    message = nl.message(nl.RTM_DELNEIGH, nl.NLM_F_ACK, _body(neighbour, numbers, 0))
    return [Request(neighbour.key.ns, message, gone_is_done=True)]


def _body(neighbour: Neighbour, numbers: Numbers, state: int) -> bytes:
    address = ipaddress.ip_address(neighbour.key.detail)
    family = nl.AF_INET if address.version == 4 else nl.AF_INET6
    index = numbers.index(link_key(neighbour.key.ns, neighbour.key.dev))
    head = nl.NDMSG.pack(family, index, state, 0, 0)
    return head + nl.attribute(nl.NDA_DST, address.packed)
