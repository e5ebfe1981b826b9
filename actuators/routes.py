"""Adding, replacing and removing routes."""

from __future__ import annotations

import ipaddress

from actuators.requests import Numbers, Request
from model import netlink as nl
from model.ownership import PROTOCOL
from model.resources import Route, link_of

_TYPE_NUMBERS = {name: number for number, name in nl.ROUTE_TYPES.items()}


def create(route: Route, numbers: Numbers) -> list[Request]:
    """Add a route with our protocol number."""
    return [_new(route, numbers, nl.NLM_F_CREATE | nl.NLM_F_EXCL)]


def modify(route: Route, numbers: Numbers) -> list[Request]:
    """Replace a route of ours by another of the same destination, metric and table."""
    return [_new(route, numbers, nl.NLM_F_CREATE | nl.NLM_F_REPLACE)]


def delete(route: Route, numbers: Numbers) -> list[Request]:
    """Remove a route, only if it has our protocol number."""
    message = nl.message(nl.RTM_DELROUTE, nl.NLM_F_ACK, _body(route, numbers))
    return [Request(route.key.ns, message, gone_is_done=True)]


def _new(route: Route, numbers: Numbers, flags: int) -> Request:
    parts = [_body(route, numbers)]
    if route.src:
        parts.append(nl.attribute(nl.RTA_PREFSRC, ipaddress.ip_address(route.src).packed))
    limits = [
        nl.u32(kind, value)
        for kind, value in ((nl.RTAX_MTU, route.mtu), (nl.RTAX_ADVMSS, route.advmss))
        if value
    ]
    if limits:
        parts.append(nl.nested(nl.RTA_METRICS, *limits))
    return Request(route.key.ns, nl.message(nl.RTM_NEWROUTE, nl.NLM_F_ACK | flags, *parts))


def _body(route: Route, numbers: Numbers) -> bytes:
    """Encode what identifies a route; deletion matches on all of it."""
    network = ipaddress.ip_network(route.dst)
    parts = [
        nl.RTMSG.pack(
            nl.AF_INET if route.family == 4 else nl.AF_INET6,
            network.prefixlen,
            0,
            0,
            route.table if route.table < 256 else 0,
            PROTOCOL,
            route.scope,
            _TYPE_NUMBERS[route.type],
            nl.RTNH_F_ONLINK if route.onlink else 0,
        ),
        nl.attribute(nl.RTA_DST, network.network_address.packed) if network.prefixlen else b"",
        nl.u32(nl.RTA_TABLE, route.table),
    ]
    if route.metric:
        parts.append(nl.u32(nl.RTA_PRIORITY, route.metric))
    if route.via:
        parts.append(nl.attribute(nl.RTA_GATEWAY, ipaddress.ip_address(route.via).packed))
    if link := link_of(route.key):
        parts.append(nl.u32(nl.RTA_OIF, numbers.index(link)))
    return b"".join(parts)
