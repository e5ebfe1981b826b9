"""Routes of a namespace, as rtnetlink tells them: all tables, both families."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping

from model import netlink as nl
from model.keys import Key, NsKey
from model.ownership import PROTOCOL
from model.resources import Route
from observers.netlink import address_text, dump

_ALL = nl.message(
    nl.RTM_GETROUTE, nl.NLM_F_DUMP, nl.RTMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0)
)

_UNICAST = 1  # RTN_UNICAST, linux/rtnetlink.h
_HOP = struct.Struct("=HBBi")  # rtnexthop: length, flags, hops, interface index


def read_all(ns: NsKey, sock: socket.socket, names: Mapping[int, str]) -> list[Route]:
    """Read the routes that somebody made: not those that the kernel derives from addresses.

    Raises:
        OSError: the dump failed.
    """
    return read(ns, sock, names)[0]


def read(
    ns: NsKey, sock: socket.socket, names: Mapping[int, str]
) -> tuple[list[Route], frozenset[tuple[str, str]]]:
    """Read the routes that somebody made, and (interface, destination) of all without a gateway.

    Raises:
        OSError: the dump failed.
    """
    routes: list[Route] = []
    direct: set[tuple[str, str]] = set()
    for body in dump(sock, _ALL):
        routes += decode(ns, names, *body)
        if where := _direct(names, *body):
            direct.add(where)
    return routes, frozenset(direct)


def _direct(names: Mapping[int, str], data: bytes, start: int, end: int) -> tuple[str, str] | None:
    """Return where a unicast route leads by itself: (interface, destination)."""
    family, length, _src, _tos, _table, _by, _scope, kind, _flags = nl.RTMSG.unpack_from(
        data, start
    )
    if kind != _UNICAST or family not in (nl.AF_INET, nl.AF_INET6):
        return None
    found = nl.attributes(data, start + 12, end)
    if nl.RTA_OIF not in found or nl.RTA_GATEWAY in found or nl.RTA_DST not in found:
        return None
    dev = names.get(nl.U32.unpack(found[nl.RTA_OIF])[0])
    return (dev, f"{address_text(family, found[nl.RTA_DST])}/{length}") if dev else None


def decode(
    ns: NsKey, names: Mapping[int, str], data: bytes, start: int, end: int
) -> Iterator[Route]:
    """Decode the body of an RTM_NEWROUTE; nothing for what is not a route that could be declared.

    A route with several next hops gives one for each. The kernel makes one of several IPv6 routes
    to one destination by itself and tells the protocol of the first only, so that none of them
    counts as ours: a hop of ours is seen to be there, and none is ever removed.
    """
    family, length, _src, tos, table, protocol, scope, kind, flags = nl.RTMSG.unpack_from(
        data, start
    )
    if protocol == nl.RTPROT_KERNEL or kind not in nl.ROUTE_TYPES or flags & nl.RTM_F_CLONED:
        return
    if family not in (nl.AF_INET, nl.AF_INET6) or tos:  # another route, for other packets
        return
    found = nl.attributes(data, start + 12, end)
    type_ = nl.ROUTE_TYPES[kind]
    size = 4 if family == nl.AF_INET else 16
    dst = f"{address_text(family, found.get(nl.RTA_DST, bytes(size)))}/{length}"
    number = nl.U32.unpack(found[nl.RTA_TABLE])[0] if nl.RTA_TABLE in found else table
    metric = nl.U32.unpack(found[nl.RTA_PRIORITY])[0] if nl.RTA_PRIORITY in found else 0
    metrics = found.get(nl.RTA_METRICS, b"")
    limits = nl.attributes(metrics, 0, len(metrics)) if metrics else {}
    oif = nl.U32.unpack(found[nl.RTA_OIF])[0] if nl.RTA_OIF in found else 0
    hops = [(oif, found.get(nl.RTA_GATEWAY), flags)]
    if several := found.get(nl.RTA_MULTIPATH):
        hops = list(_hops(several))
    for index, gateway, hop_flags in hops:
        # The kernel puts an IPv6 blackhole on loopback; to people it has no interface.
        dev = names.get(index, "") if type_ in ("unicast", "local", "broadcast") else ""
        yield Route(
            key=Key(ns, "route", dev, f"{dst} metric {metric} table {number}"),
            family=4 if family == nl.AF_INET else 6,
            dst=dst,
            via=_address(family, gateway),
            src=_address(family, found.get(nl.RTA_PREFSRC)),
            metric=metric,
            table=number,
            scope=scope if family == nl.AF_INET else 0,
            mtu=_limit(limits, nl.RTAX_MTU),
            advmss=_limit(limits, nl.RTAX_ADVMSS),
            onlink=bool(hop_flags & nl.RTNH_F_ONLINK),
            type=type_,
            owned=protocol == PROTOCOL and not several,
        )


def _hops(several: bytes) -> Iterator[tuple[int, bytes | None, int]]:
    """Yield (interface index, gateway, flags) of each rtnexthop (linux/rtnetlink.h)."""
    at = 0
    while at + _HOP.size <= len(several):
        length, flags, _weight, index = _HOP.unpack_from(several, at)
        if length < _HOP.size:
            break
        found = nl.attributes(several, at + _HOP.size, at + length)
        yield index, found.get(nl.RTA_GATEWAY), flags
        at += (length + 3) & ~3


def _address(family: int, raw: bytes | None) -> str:
    return address_text(family, raw) if raw else ""


def _limit(limits: Mapping[int, bytes], kind: int) -> int:
    return int(nl.U32.unpack(limits[kind])[0]) if kind in limits else 0
