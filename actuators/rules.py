"""Adding and removing routing policy rules; a rule is its key, so that none is ever modified."""

from __future__ import annotations

from actuators.requests import Request
from model import netlink as nl
from model.ownership import PROTOCOL
from model.resources import Rule
from model.rule import PROTOCOLS

_NUMBERS = {name: number for number, name in PROTOCOLS.items()}


def create(rule: Rule) -> list[Request]:
    """Add a rule with our protocol number."""
    flags = nl.NLM_F_ACK | nl.NLM_F_CREATE | nl.NLM_F_EXCL
    return [Request(rule.key.ns, nl.message(nl.RTM_NEWRULE, flags, _body(rule)))]


def delete(rule: Rule) -> list[Request]:
    """Remove a rule, only if it has our protocol number."""
    message = nl.message(nl.RTM_DELRULE, nl.NLM_F_ACK, _body(rule))
    return [Request(rule.key.ns, message, gone_is_done=True)]


def _body(rule: Rule) -> bytes:
    family = nl.AF_INET if rule.family == 4 else nl.AF_INET6
    table = rule.table if rule.table < 256 else 0
    parts = [
        nl.RTMSG.pack(family, 0, 0, 0, table, 0, 0, nl.FR_ACT_TO_TBL, 0),
        nl.u32(nl.FRA_PRIORITY, rule.priority),
        nl.u32(nl.FRA_TABLE, rule.table),
        nl.attribute(nl.FRA_PROTOCOL, bytes([PROTOCOL])),
    ]
    if rule.mark:
        parts.append(nl.u32(nl.FRA_FWMARK, rule.mark))
    if rule.protocol:
        parts.append(nl.attribute(nl.FRA_IP_PROTO, bytes([_NUMBERS[rule.protocol]])))
    if rule.sports != (0, 0):
        parts.append(nl.attribute(nl.FRA_SPORT_RANGE, nl.PORTS.pack(*rule.sports)))
    if rule.specific:
        parts.append(nl.u32(nl.FRA_SUPPRESS_PREFIXLEN, 0))
    return b"".join(parts)
