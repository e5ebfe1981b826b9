"""A plan: changes in the order in which the kernel takes them, as data; rendered elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from model.keys import Key
from model.plane import LOCAL_PORT
from model.resources import Link
from model.wanted import Obstacle
from reconciler.diff import Change, Difference


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, and what stands in the way of the rest of what is declared."""

    steps: tuple[Change, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    notes: Mapping[Key, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A name for exactly these steps: equal plans have equal digests."""
        text = "\n".join(f"{c.action} {c.key} {c.before} {c.after}" for c in self.steps)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def plan(difference: Difference, obstacles: Iterable[Obstacle] = ()) -> Plan:
    """Put a difference in order; `obstacles` are those that were known before comparing."""
    everything = tuple(sorted({*difference.obstacles, *obstacles}))
    steps = tuple(sorted(difference.changes, key=order))
    return Plan(steps, everything, difference.notes)


# What stands in the way goes first, what carries the rest comes next, and last what needs it.
_RANK = {
    ("link", "delete"): 0,  # frees names and addresses
    ("link", "replace"): 1,
    ("link", "create"): 1,
    ("link", "modify"): 1,  # raises it: a route needs an interface that is up
    ("offload", "modify"): 2,
    ("setting", "modify"): 2,
    ("ethtool", "create"): 2,
    ("sysctl", "modify"): 2,
    ("qdisc", "delete"): 3,
    ("qdisc", "modify"): 3,
    ("qdisc", "create"): 3,
    ("address", "create"): 4,  # a new one before the old one goes: never without
    ("address", "modify"): 4,
    ("address", "delete"): 5,
    ("neighbour", "delete"): 6,
    ("neighbour", "create"): 6,
    ("neighbour", "modify"): 6,
    ("route", "delete"): 7,  # the kernel knows a route by its destination alone
    ("route", "modify"): 8,
    ("route", "create"): 8,  # a gateway must be reachable by an address
    ("command", "delete"): 7,  # a route, too
    ("rule", "create"): 9,  # a table is asked when it has its route
    ("rule", "delete"): 9,
    ("nat", "create"): 10,
    ("nat", "modify"): 10,
    ("nat", "delete"): 10,
}
_PLANE, _CONTAINERS, _OUTER_ENDS, _OLD_BRIDGES, _SWITCHES, _JOINS, _COMMANDS = range(7)


def order(change: Change) -> tuple[int, str, int, Key]:
    """Return what a step is sorted by: the one place that knows the order, and why.

    Seven phases. In the data plane: what is stale, before anything takes its name, then bridges and
    tunnels. Then each container, one after the other. Then the outer ends, so that a link gets its
    carrier when its other end has addresses and routes. Then the Linux bridges that nobody wants,
    whose ports are gone and whose name an Open vSwitch bridge may want. Then Open vSwitch. Then
    what else joins ends that are there: patches, and what is routed and translated in the data
    plane. Last the commands of containers, since all of their links must be as declared.
    """
    key, action = change.key, change.action
    if key.type == "command" and action != "delete":
        return _COMMANDS, f"{key.ns.name} {key.ns.id}", 0, key
    if key.ns.kind != "container":
        return *_in_plane(change), key
    # A gateway must be reachable by what is there: routes without one go first. So does an
    # interface before those that are stacked on it.
    later = min(change.depth, 7) or bool(getattr(change.after, "via", ""))
    rank = 8 * _RANK[key.type, action] + later
    return _CONTAINERS, f"{key.ns.name} {key.ns.id}", rank, key


def _in_plane(change: Change) -> tuple[int, str, int]:
    key, action = change.key, change.action
    link = change.after or change.before
    if isinstance(link, Link):
        if action == "delete":
            return (_OLD_BRIDGES if link.kind == "bridge" else _PLANE), "", 2
        if link.kind in LOCAL_PORT.values():
            return _JOINS, "", 0  # Open vSwitch has made it by then
        # Both ends of a veth come with the container's; what is left is to plug it in.
        return (_OUTER_ENDS if link.peer else _PLANE), "", 3
    switched = key.type.startswith("ovs")
    if action == "delete":
        # An Open vSwitch bridge may have a name that we need.
        return _PLANE, "", 0 if switched else 1
    return (_SWITCHES if switched else _JOINS), "", _RANK.get((key.type, action), 0)
