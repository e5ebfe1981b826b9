"""A plan: changes in the order in which the kernel takes them, as data; rendered elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from model.desired import Obstacle
from model.keys import Key
from model.resources import Link
from reconciler.diff import Change, Difference


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, and what stands in the way of the rest of what is declared."""

    steps: tuple[Change, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def digest(self) -> str:
        """A name for exactly these steps: equal plans have equal digests."""
        text = "\n".join(f"{c.action} {c.key} {c.before} {c.after}" for c in self.steps)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def plan(difference: Difference, obstacles: Iterable[Obstacle] = ()) -> Plan:
    """Put a difference in order; `obstacles` are those that were known before comparing."""
    everything = tuple(sorted({*difference.obstacles, *obstacles}))
    return Plan(tuple(sorted(difference.changes, key=order)), everything)


def order(change: Change) -> tuple[int, str, int, Key]:
    """Return what a step is sorted by: the one place that knows the order, and why.

    Three phases. In the data plane: bridges before their ports, and what is stale before anything
    takes its name. Then each container, one after the other. Then the outer ends, so that a link
    gets its carrier when its other end has addresses and routes. Last the bridges that nobody
    wants, when their ports are gone.
    """
    key, action = change.key, change.action
    link = (change.after or change.before) if key.type == "link" else None
    if key.ns.kind != "container":
        if action == "delete":
            bridge = isinstance(link, Link) and link.kind == "bridge"
            return (3 if bridge else 0), "", 0, key
        outer = isinstance(link, Link) and link.peer is not None
        return (2 if outer else 0), "", 1, key
    rank = {
        ("link", "delete"): 0,  # frees names and addresses
        ("link", "replace"): 1,
        ("link", "create"): 1,
        ("link", "modify"): 1,  # raises it: a route needs an interface that is up
        ("offload", "modify"): 2,
        ("address", "create"): 3,  # a new one before the old one goes: never without
        ("address", "delete"): 4,
        ("route", "delete"): 5,  # the kernel knows a route by its destination alone
        ("route", "modify"): 6,
        ("route", "create"): 6,  # a gateway must be reachable by an address
    }[key.type, action]
    # A gateway must be reachable by what is there: routes without one go first.
    gateway = bool(getattr(change.after, "via", ""))
    return 1, f"{key.ns.name} {key.ns.id}", rank * 2 + gateway, key
