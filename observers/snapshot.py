"""Reading a scope of the world: the one call that a pass makes to see what is."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import cast

from model import commands, ethtool, nft
from model.keys import HOST, Key, NsKey
from model.look import Look
from model.ownership import is_relink_group
from model.resources import Address, EthtoolCall, Link, NatTable, Resource, Route
from model.settings import Which
from model.snapshot import NamespaceState, Snapshot, assemble
from observers import (
    addresses,
    links,
    neighbours,
    offloads,
    routes,
    rules,
    settings,
    sysctls,
    tc,
)
from observers import nft as nftables
from observers.namespaces import Opened


def observe(opened: Opened, look: Look) -> Snapshot:
    """Read every opened namespace.

    A container's namespace that fails while it is read is absent in the snapshot; the data plane
    failing is an error.

    Raises:
        OSError: the data plane could not be read.
    """
    states: dict[NsKey, NamespaceState] = {}
    absent = dict(opened.absent)
    unread: set[NsKey] = set()
    for ns, sock in opened.sockets.items():
        if ns == look.plane:
            states[ns] = _plane(ns, sock, look)
            continue
        try:
            states[ns] = _container(ns, sock, look)
        except OSError as error:
            absent[ns] = f"its namespace could not be read: {error.strerror}"
            unread.add(ns)
    if (names := look.host_names()) and opened.host_id >= 0:
        # The interfaces of the host that something is stacked on; no others are our business.
        plane = opened.sockets[look.plane]
        found = links.read_named(HOST, plane, names, opened.host_id)
        states[HOST] = NamespaceState({link.key: link for link in found})
    snapshot = assemble(states, look.plane, absent, look.parents)
    return replace(snapshot, unread=frozenset(unread)) if unread else snapshot


def _plane(ns: NsKey, sock: socket.socket, look: Look) -> NamespaceState:
    if look.names is None:
        found = links.read_all(ns, sock)
    else:
        found = links.read_named(ns, sock, look.names)
    names = {link.index: link.key.dev for link in found}
    ours = [link for link in found if is_relink_group(link.group or 0)]
    resources: list[Resource] = [*found, *_qdiscs(ns, sock, look, ours, names)]
    if look.redirects or look.everything:
        devs = {link.index: link.key.dev for link in ours}
        resources += tc.read_redirects(ns, sock, devs, names)
    if look.everything:
        resources += _ways(routes.read_all(ns, sock, names)).values()
        resources += _policy(ns, sock, names)
        resources += _nat(ns, sock, look)
        resources += sysctls.read(ns, sock, look.sysctls)
    return NamespaceState({resource.key: resource for resource in resources})


def _container(ns: NsKey, sock: socket.socket, look: Look) -> NamespaceState:
    found = links.read_all(ns, sock)
    names = {link.index: link.key.dev for link in found}
    ours = [link for link in found if is_relink_group(link.group or 0)]
    resources: dict[Key, Resource] = {link.key: link for link in found}
    told, direct = routes.read(ns, sock, names)
    ways = _ways(told)
    if found:
        raised = {link.key.dev for link in found if link.up}
        for address in addresses.read_all(ns, sock, names):
            lost = address.owned and address.key.dev in raised and not _routed(address, direct)
            resources[address.key] = replace(address, routed=False) if lost else address
    for command in commands.decode(ways.values(), look.group):
        resources[command.key] = command
    resources.update(
        (key, way) for key, way in ways.items() if not commands.is_marker(way, look.group)
    )
    more = [*_qdiscs(ns, sock, look, ours, names), *_ethtool(ns, sock, look, ours)]
    # What nobody wants any more shows in a look at everything, also where its link is gone.
    if ns in look.policy or (
        look.everything and (rules.has_ours(sock) or neighbours.has_ours(sock))
    ):
        more += _policy(ns, sock, names)
    if ns in look.nat or look.everything:
        more += _nat(ns, sock, look)
    resources.update((resource.key, resource) for resource in more)
    return NamespaceState(resources, max((link.index for link in found), default=0) or 1)


def _routed(address: Address, direct: frozenset[tuple[str, str]]) -> bool:
    """Tell whether there is a route to an address's prefix; a single address has none."""
    prefix = _prefix(address.ip)
    return prefix is None or (address.key.dev, prefix) in direct


@lru_cache(4096)
def _prefix(ip: str) -> str | None:
    network = ipaddress.ip_interface(ip).network
    return None if network.prefixlen == network.max_prefixlen else str(network)


def _ways(found: Iterable[Route]) -> dict[Key, Route]:
    """Return one route for each key.

    Of several to one destination by one interface (`ip route append`) ours counts, else the first:
    that is the one which the kernel uses.
    """
    ways: dict[Key, Route] = {}
    for route in found:
        if route.key not in ways or route.owned:
            ways[route.key] = route
    return ways


def _qdiscs(
    ns: NsKey, sock: socket.socket, look: Look, ours: Iterable[Link], names: Mapping[int, str]
) -> list[Resource]:
    # IFLA_QDISC tells whether there can be one of ours.
    if ns in look.qdiscs or any(link.qdisc == "netem" for link in ours):
        return [*tc.read_qdiscs(ns, sock, names)]
    return []


def _ethtool(
    ns: NsKey, sock: socket.socket, look: Look, ours: Iterable[Link]
) -> Iterable[Resource]:
    for link in ours:
        if features := look.features.get(link.key):
            yield offloads.read(ns, sock, link.key.dev, features)
        if which := look.settings.get(link.key):
            yield from settings.read(ns, sock, link.key.dev, cast("tuple[Which, ...]", which))
        if link.other_names:
            yield from (EthtoolCall(key=key) for key in ethtool.calls_made(link))


def _policy(ns: NsKey, sock: socket.socket, names: Mapping[int, str]) -> list[Resource]:
    return [*neighbours.read_all(ns, sock, names), *rules.read_all(ns, sock)]


def _nat(ns: NsKey, sock: socket.socket, look: Look) -> list[Resource]:
    key = nft.table_key(ns, look.instance)
    if ns not in look.nat:  # it only has to go, whatever is in it: no program need read it
        there = nftables.is_there(sock, key.detail)
        return [NatTable(key=key, rules=())] if there else []
    match nftables.read(ns, sock, key.detail):
        case None:
            return []
        case NatTable() as table:
            return [table]
        case nftables.Unreadable(words):
            # As if it were empty: whoever writes it is told why it cannot be.
            return [NatTable(key=key, rules=(), summary=(words,))]


def index_of(opened: Opened, key: Key) -> int:
    """Return the interface index of a link by its name, 0 if there is none now."""
    sock = opened.sockets.get(key.ns)
    if sock is None:
        return 0
    found = links.read_named(key.ns, sock, [key.dev])
    return found[0].index if found else 0
