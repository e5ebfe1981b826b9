"""Reading a scope of the world: the one call that a pass makes to see what is."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from model.keys import Key, NsKey
from model.resources import Link, Resource
from model.snapshot import NamespaceState, Snapshot, assemble
from observers import addresses, links, offloads, routes
from observers.namespaces import Opened


def observe(
    opened: Opened,
    plane: NsKey,
    plane_names: Iterable[str] | None,
    features: Mapping[Key, Iterable[str]],
) -> Snapshot:
    """Read every opened namespace.

    Of the data plane only the interfaces in `plane_names` are looked up, all of them if it is None.
    `features` says which offload features of which link are of interest. A container's namespace
    that fails while it is read is absent in the snapshot; the data plane failing is an error.

    Raises:
        OSError: the data plane could not be read.
    """
    states: dict[NsKey, NamespaceState] = {}
    absent = dict(opened.absent)
    wanted: dict[NsKey, dict[str, Iterable[str]]] = {}
    for key, names in features.items():
        wanted.setdefault(key.ns, {})[key.dev] = names
    for ns, sock in opened.sockets.items():
        if ns == plane:
            states[ns] = _plane(ns, sock, plane_names)
            continue
        try:
            states[ns] = _container(ns, sock, wanted.get(ns, {}))
        except OSError as error:
            absent[ns] = f"its namespace could not be read: {error.strerror}"
    return assemble(states, plane, absent)


def _plane(ns: NsKey, sock: socket.socket, names: Iterable[str] | None) -> NamespaceState:
    found = links.read_all(ns, sock) if names is None else links.read_named(ns, sock, names)
    return NamespaceState({link.key: link for link in found})


def _container(
    ns: NsKey, sock: socket.socket, features: Mapping[str, Iterable[str]]
) -> NamespaceState:
    found = links.read_all(ns, sock)
    names = {link.index: link.key.dev for link in found}
    resources: dict[Key, Resource] = {link.key: link for link in found}
    if found:
        resources.update((a.key, a) for a in addresses.read_all(ns, sock, names))
    for route in routes.read_all(ns, sock, names):
        # Of several to one destination by one interface (`ip route append`) ours counts, else the
        # first: that is the one which the kernel uses.
        if route.key not in resources or route.owned:
            resources[route.key] = route
    for link in found:
        if wanted := features.get(link.key.dev):
            offload = offloads.read(ns, sock, link.key.dev, wanted)
            resources[offload.key] = offload
    return NamespaceState(resources, max((link.index for link in found), default=0) or 1)


def plane_links(opened: Opened, plane: NsKey) -> list[Link]:
    """Read all interfaces of the data plane.

    Raises:
        OSError: it could not be read.
    """
    return links.read_all(plane, opened.sockets[plane])


def index_of(opened: Opened, key: Key) -> int:
    """Return the interface index of a link by its name, 0 if there is none now."""
    sock = opened.sockets.get(key.ns)
    if sock is None:
        return 0
    found = links.read_named(key.ns, sock, [key.dev])
    return found[0].index if found else 0
