"""Routing policy rules of a namespace that look at firewall mark, protocol and source port only."""

from __future__ import annotations

import socket

from model import netlink as nl
from model.keys import NsKey
from model.ownership import PROTOCOL
from model.resources import Rule
from model.rule import PROTOCOLS, rule
from observers.netlink import dump, occurs

_ALL = nl.message(
    nl.RTM_GETRULE, nl.NLM_F_DUMP, nl.RTMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0)
)
_OURS = nl.attribute(nl.FRA_PROTOCOL, bytes([PROTOCOL]))
_NONE = nl.U32.pack(0)
_WHOLE, _EVERY_BIT = nl.U16.pack(0xFFFF), nl.U32.pack(0xFFFFFFFF)
# Attributes that a rule of this kind has. Those with a value here have it when nobody set it; any
# other attribute (a prefix, an interface, a user) makes it a rule for fewer packets.
_USUAL = {
    nl.FRA_PRIORITY: None, nl.FRA_FWMARK: None, nl.FRA_TABLE: None, nl.FRA_PROTOCOL: None,
    nl.FRA_IP_PROTO: None, nl.FRA_SPORT_RANGE: None, nl.FRA_PAD: None,
    nl.FRA_SUPPRESS_PREFIXLEN: None, nl.FRA_FWMASK: _EVERY_BIT,
    nl.FRA_SUPPRESS_IFGROUP: _EVERY_BIT, nl.FRA_SPORT_MASK: _WHOLE,
}  # fmt: skip
_FEWER = frozenset({nl.FRA_FWMARK, nl.FRA_IP_PROTO, nl.FRA_SPORT_RANGE})


def read_all(ns: NsKey, sock: socket.socket) -> list[Rule]:
    """Read the rules that could be declared.

    Raises:
        OSError: the dump failed.
    """
    found = (decode(ns, *body) for body in dump(sock, _ALL))
    return [one for one in found if one is not None]


def has_ours(sock: socket.socket) -> bool:
    """Tell whether some have our protocol number, or look so.

    Raises:
        OSError: the dump failed.
    """
    return occurs(sock, _ALL, _OURS)


def decode(ns: NsKey, data: bytes, start: int, end: int) -> Rule | None:
    """Decode the body of an RTM_NEWRULE; None for what looks at anything else, or at nothing."""
    family, to, from_, tos, table, _, _, action, flags = nl.RTMSG.unpack_from(data, start)
    if family not in (nl.AF_INET, nl.AF_INET6) or action != nl.FR_ACT_TO_TBL:
        return None
    found = nl.attributes(data, start + nl.RTMSG.size, end)
    if to or from_ or tos or flags or not _FEWER & found.keys():
        return None
    if any(k not in _USUAL or _USUAL[k] not in (None, value) for k, value in found.items()):
        return None
    suppressed = found.get(nl.FRA_SUPPRESS_PREFIXLEN, _EVERY_BIT)
    if suppressed not in (_EVERY_BIT, _NONE):
        return None
    protocol = found[nl.FRA_IP_PROTO][0] if nl.FRA_IP_PROTO in found else 0
    if protocol and protocol not in PROTOCOLS:
        return None
    ports = found.get(nl.FRA_SPORT_RANGE)
    return rule(
        ns,
        4 if family == nl.AF_INET else 6,
        mark=nl.U32.unpack(found[nl.FRA_FWMARK])[0] if nl.FRA_FWMARK in found else 0,
        table=nl.U32.unpack(found[nl.FRA_TABLE])[0] if nl.FRA_TABLE in found else table,
        priority=nl.U32.unpack(found[nl.FRA_PRIORITY])[0] if nl.FRA_PRIORITY in found else 0,
        protocol=PROTOCOLS.get(protocol, ""),
        sports=nl.PORTS.unpack(ports) if ports else (0, 0),
        specific=suppressed == _NONE,
        owned=found.get(nl.FRA_PROTOCOL) == bytes([PROTOCOL]),
    )
