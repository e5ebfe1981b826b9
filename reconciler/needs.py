"""What must exist before something else can: the reasons for the order of a plan. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from model.keys import Key, link_key
from model.plane import LOCAL_PORT
from model.resources import (
    Command,
    Link,
    OvsBridge,
    OvsPort,
    Redirect,
    Resource,
    Route,
    link_of,
)


def requires(resource: Resource, resources: Mapping[Key, Resource]) -> tuple[Key, ...]:
    """Return what must exist before a resource can: the reasons for the order of a plan."""
    match resource:
        case Link():
            return tuple(_link_requires(resource, resources))
        case Redirect(target=Key() as target):
            return (link_key(resource.key.ns, resource.key.dev), target)
        case OvsPort():
            bridge = Key(resource.key.ns, "ovs-bridge", resource.bridge)
            return (link_key(resource.key.ns, resource.key.dev), bridge)
        case OvsBridge():
            return ()
        case Command():
            return resource.needs
        case Route(declared_on=Key() as declared):
            return (declared,)
    link = link_of(resource.key)
    return () if link is None else (link,)


def _link_requires(link: Link, resources: Mapping[Key, Resource]) -> Iterator[Key]:
    peer = resources.get(link.peer) if link.peer else None
    if link.master:
        yield link.master_key()
    if link.kind in LOCAL_PORT.values():
        yield Key(link.key.ns, "ovs-bridge", link.key.dev)
    if link.parent is not None and link.parent in resources:
        yield link.parent
    if link.peer and not makes_pair(link):
        yield link.peer
    elif isinstance(peer, Link):  # without its bridge a cable leads nowhere
        port = resources.get(Key(peer.key.ns, "ovs-port", peer.key.dev))
        if peer.master:
            yield peer.master_key()
        elif isinstance(port, OvsPort):
            yield Key(port.key.ns, "ovs-bridge", port.bridge)


def makes_pair(link: Link) -> bool:
    """Tell whether this is the end of a veth that makes both: the container's."""
    return link.key.ns.kind == "container"
