"""What forwarding ports to a container takes beside the translation: the way there and back.

The client's address is kept, so answers must find back to the data plane whatever routes the
container has. A table of their own leads them there, and rules say which packets ask it. A
permanent neighbour entry on either side makes that way work without a frame of ours on the switch,
and where a strict reverse path filter would refuse to answer for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from model import nft
from model.addressing import AddressError
from model.declared import Forward, LinkSpec
from model.facts import Facts
from model.keys import Key, NsKey
from model.ownership import table_of
from model.plane import bridge_mac
from model.resources import Neighbour, Resource, Route, Rule, Sysctl
from model.rule import rule

# What the data plane is called by a container that answers: never on a wire, since its hardware
# address is known.
_GATEWAY: dict[int, str] = {4: "169.254.0.158", 6: "fe80::9e"}
GATEWAYS = frozenset(_GATEWAY.values())
_HOST = {4: 32, 6: 128}
_EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
_METRIC = {4: 0, 6: 1024}
_MAIN = 254
# Before the main table (32766) for what is marked; a UDP server that is bound to no address has
# none yet when its answer is routed, and so no mark: first the main table without its default
# route, then ours. After the main table for TCP, only where that has no route at all.
_MARKED, _NEAR, _UDP, _TCP = 100, 32000, 32001, 40000
_SWITCHES = {
    4: "net/ipv4/ip_forward",
    6: "net/ipv6/conf/all/forwarding",
}


@dataclass(slots=True)
class Ways:
    """What the forwards of one link take."""

    resources: list[Resource] = field(default_factory=list)
    plane: list[nft.Entry] = field(default_factory=list)
    container: list[nft.Entry] = field(default_factory=list)


def ways(
    spec: LinkSpec, facts: Facts, ns: NsKey, *, ips: Iterable[str], mac: str, offset: int, slot: int
) -> Ways:
    """Return what the forwards of a link take.

    Args:
        spec: the link.
        facts: whose data plane it is.
        ns: the container.
        ips: the link's addresses with their prefixes; the first of each family is used.
        mac: the link's hardware address.
        offset: of the replica.
        slot: tells the links of one container apart, 0 to 255.

    Raises:
        model.addressing.AddressError: a port of this replica is past the last one.
    """
    found = Ways()
    mark = table_of(facts.group, slot)
    gateway_mac = bridge_mac(facts.instance, facts.plane, spec.bridge)
    ports = [offset_ports(f, offset if "forward" in spec.offsets else 0) for f in spec.forwards]
    for version, address in _first_of_each(ips):
        found.resources += _there(facts.plane, spec.bridge, address, version, mac)
        found.resources += _back(Key(ns, "link", spec.dev), address, version, gateway_mac, mark)
        inside = sorted({(f.protocol, f.inside) for f in ports})
        found.resources += _rules(ns, version, mark, inside)
        found.plane += (
            nft.Forward(facts.group, f.protocol, f.outside, address, f.inside) for f in ports
        )
    found.container.append(nft.Return(spec.dev, gateway_mac, mark))
    return found


def slots(devs: Iterable[str]) -> dict[str, int]:
    """Give each link of a container that forwards a number of its own, 0 to 255.

    It is a hash of the name, so that one link more or less does not change the others' tables; the
    next free one where two have one hash.
    """
    taken: dict[int, str] = {}
    for dev in sorted(set(devs)):
        slot = hashlib.blake2b(dev.encode(), digest_size=1, person=b"relink-slot").digest()[0]
        while slot in taken:
            slot = (slot + 1) % 256
        taken[slot] = dev
    return {dev: slot for slot, dev in taken.items()}


def offset_ports(forward: Forward, offset: int) -> Forward:
    """Return a forward as it is for a replica: its outer ports follow those of the one before.

    Raises:
        model.addressing.AddressError: they are past the last port.
    """
    first, last = forward.outside
    step = offset * (last - first + 1)
    if last + step > 65535:
        raise AddressError(f"port {last} + {step} is past 65535")
    return Forward((first + step, last + step), forward.inside, forward.protocol)


def _first_of_each(ips: Iterable[str]) -> Iterator[tuple[Literal[4, 6], str]]:
    seen: set[int] = set()
    for ip in ips:
        version: Literal[4, 6] = 6 if ":" in ip else 4
        if version not in seen:
            seen.add(version)
            yield version, ip.partition("/")[0]


def _there(
    plane: NsKey, bridge: str, address: str, version: Literal[4, 6], mac: str
) -> Iterator[Resource]:
    dst = f"{address}/{_HOST[version]}"
    yield Neighbour(key=Key(plane, "neighbour", bridge, address), mac=mac)
    yield _route(plane, bridge, version, dst, table=_MAIN, scope=253)
    switch = _SWITCHES[version]
    yield Sysctl(key=Key(plane, "sysctl", "", switch), value="1")


def _back(
    link: Key, address: str, version: Literal[4, 6], mac: str, table: int
) -> Iterator[Resource]:
    ns, dev, gateway = link.ns, link.dev, _GATEWAY[version]
    yield Neighbour(key=Key(ns, "neighbour", dev, gateway), mac=mac)
    yield _route(ns, dev, version, _EVERYWHERE[version], table=table, via=gateway, src=address)


def _route(
    ns: NsKey,
    dev: str,
    version: Literal[4, 6],
    dst: str,
    *,
    table: int,
    scope: int = 0,
    via: str = "",
    src: str = "",
) -> Route:
    metric = _METRIC[version]
    return Route(
        key=Key(ns, "route", dev, f"{dst} metric {metric} table {table}"),
        family=version,
        dst=dst,
        via=via,
        src=src,
        metric=metric,
        table=table,
        scope=scope if version == 4 else 0,
        onlink=bool(via),
    )


def _rules(
    ns: NsKey,
    version: Literal[4, 6],
    mark: int,
    inside: Iterable[tuple[str, nft.Ports]],
) -> Iterator[Rule]:
    yield rule(ns, version, table=mark, priority=_MARKED, mark=mark)
    for protocol, ports in inside:
        if protocol == "tcp":
            yield rule(ns, version, table=mark, priority=_TCP, protocol="tcp", sports=ports)
            continue
        yield rule(
            ns, version, table=_MAIN, priority=_NEAR, protocol="udp", sports=ports, specific=True
        )
        yield rule(ns, version, table=mark, priority=_UDP, protocol="udp", sports=ports)
