"""What is: all that was read of some namespaces, as the same values as what should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from model.keys import Key, NsKey
from model.ownership import is_relink_group
from model.resources import Link, Resource


@dataclass(frozen=True, slots=True)
class NamespaceState:
    """What one namespace holds.

    Attributes:
        resources: everything read of it, foreign things included, except loopback.
        highest_index: the highest interface index in use, 0 if only some interfaces were looked up.
    """

    resources: Mapping[Key, Resource] = field(default_factory=dict)
    highest_index: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a set of namespaces holds; `absent` says why the others could not be read.

    `unread` are those of them that are there, and whose kernel did not answer; a look may succeed
    later, though nothing rings. `no_ovs` says why the database of Open vSwitch could not be read,
    if it was asked.
    """

    resources: Mapping[Key, Resource]
    highest_index: Mapping[NsKey, int]
    absent: Mapping[NsKey, str]
    no_ovs: str = ""
    unread: frozenset[NsKey] = frozenset()

    def index_of(self, key: Key) -> int:
        """Return the interface index of a link, 0 if it was not seen."""
        link = self.resources.get(key)
        return link.index if isinstance(link, Link) else 0


def assemble(
    states: Mapping[NsKey, NamespaceState],
    plane: NsKey,
    absent: Mapping[NsKey, str],
    parents: Mapping[Key, Key],
) -> Snapshot:
    """Put namespaces together, join the ends of each veth pair, and children to their parents.

    An end in a container and an end in the data plane are a pair when each names the other's index
    as that of its peer in another namespace, and both carry the mark of one instance. Without the
    mark it could be any veth: an index says nothing about the namespace that it is in. For the same
    reason a child is looked for only at the parent that it should have (`parents`).
    """
    resources: dict[Key, Resource] = {}
    outers: dict[int, Link] = {}
    for ns, state in states.items():
        resources.update(state.resources)
        if ns == plane:
            outers = {link.index: link for link in _veths(state.resources.values())}
    for child, parent in parents.items():
        link, above = resources.get(child), resources.get(parent)
        if (
            isinstance(link, Link)
            and isinstance(above, Link)
            and link.peer_index == above.index
            # An ipvtap does not say that its parent is in another namespace (6.1).
            and (link.kind == "ipvtap" or link.peer_away == (child.ns != parent.ns))
        ):
            resources[child] = replace(link, parent=parent)
    for ns, state in states.items():
        if ns == plane:
            continue
        for inner in _veths(state.resources.values()):
            outer = outers.get(inner.peer_index)
            if outer and outer.peer_index == inner.index and outer.group == inner.group:
                resources[inner.key] = replace(inner, peer=outer.key)
                resources[outer.key] = replace(outer, peer=inner.key)
    return Snapshot(
        resources, {ns: state.highest_index for ns, state in states.items()}, dict(absent)
    )


def _veths(resources: Iterable[Resource]) -> Iterator[Link]:
    return (
        r
        for r in resources
        if isinstance(r, Link)
        and r.kind == "veth"
        and r.peer_away
        and is_relink_group(r.group or 0)
    )
