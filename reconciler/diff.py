"""The difference between what should be and what is: pure, deterministic, blind to what is foreign.

A reviewer must flag: any change whose `before` does not carry our mark; any use of what an earlier
pass did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from model.desired import Desired, Obstacle
from model.keys import Key, NsKey
from model.kinds import KINDS
from model.ownership import is_relink_group
from model.resources import (
    Address,
    FieldChange,
    Link,
    Offload,
    Resource,
    Route,
    differences,
    link_of,
)
from model.route import DEVICELESS
from model.snapshot import Snapshot

Action = Literal["create", "modify", "replace", "delete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step from what is to what should be.

    Attributes:
        action: what is done to the resource.
        key: the resource.
        before: as it is; None if it is not there.
        after: as it should be; None if it should not be there.
        removes: interfaces of ours that stand in the way and go first (a replaced link's ends).
        peer: the other end that is made together with this one.
        fields: what differs, for `modify` and for `replace`.
        because: which entry of which file wants it, or why it is not wanted.
    """

    action: Action
    key: Key
    before: Resource | None = None
    after: Resource | None = None
    removes: tuple[Link, ...] = ()
    peer: Link | None = None
    fields: tuple[FieldChange, ...] = ()
    because: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """All changes, in no particular order, and what stands in the way of the rest."""

    changes: tuple[Change, ...]
    obstacles: tuple[Obstacle, ...]


def diff(desired: Desired, observed: Snapshot, group: int) -> Difference:
    """Compare what should be with what is; `group` is the mark of our interfaces."""
    comparison = _Comparison(desired, observed, group)
    changes = [*comparison.wanted(), *comparison.unwanted()]
    return Difference(tuple(changes), tuple(sorted(comparison.obstacles)))


def requires(resource: Resource, resources: Mapping[Key, Resource]) -> tuple[Key, ...]:
    """Return what must exist before a resource can: the reasons for the order of a plan."""
    if not isinstance(resource, Link):
        link = link_of(resource.key)
        if link is None and isinstance(resource, Route):
            link = resource.declared_on
        return () if link is None else (link,)
    peer = resources.get(resource.peer) if resource.peer else None
    needed: list[Key] = []
    if resource.master:
        needed.append(resource.master_key())
        if resource.peer:
            needed.append(resource.peer)
    elif isinstance(peer, Link) and peer.master:
        needed.append(peer.master_key())  # without its bridge a cable leads nowhere
    return tuple(needed)


class _Comparison:
    def __init__(self, desired: Desired, observed: Snapshot, group: int) -> None:
        self.desired = desired.resources
        self.because = desired.because
        self.observed = observed.resources
        self.absent = observed.absent
        self.group = group
        self.obstacles: list[Obstacle] = []
        self.in_the_way: set[Key] = set()  # what cannot be made; nothing that needs it can either
        self.remade: set[Key] = set()  # links whose addresses and routes go with the old one
        # The kernel tells routes apart without their interface.
        self.routes = {
            (r.key.ns, r.key.detail): r for r in self.observed.values() if isinstance(r, Route)
        }
        self.other_names = {
            Key(r.key.ns, "link", name): r
            for r in self.observed.values()
            if isinstance(r, Link)
            for name in r.other_names
        }
        self.strangers: set[NsKey] = {
            r.key.ns
            for r in self.observed.values()
            if isinstance(r, Link) and self._marked(r) and r.group != group
        }

    @staticmethod
    def _marked(link: Link) -> bool:
        return link.group is not None and is_relink_group(link.group)

    def ours(self, resource: Resource) -> bool:
        """Tell whether this instance made an observed resource."""
        if isinstance(resource, Link):
            return resource.group == self.group
        if isinstance(resource, Offload):
            return False
        if not resource.owned:
            return False
        link = link_of(resource.key)
        if link is None:
            # A blackhole has no interface to carry the mark of the instance. It is left alone
            # where another instance's links are.
            without = isinstance(resource, Route) and resource.type in DEVICELESS
            return without and resource.key.ns not in self.strangers
        holder = self.observed.get(link)
        return isinstance(holder, Link) and self.ours(holder)

    def block(self, key: Key, state: Literal["blocked", "conflict"], message: str) -> None:
        self.in_the_way.add(key)
        self.obstacles.append(Obstacle(key, state, message))

    def wanted(self) -> Iterator[Change]:
        """Yield what has to be made or changed: bridges, then links, then what is on them."""
        for key in sorted(self.desired, key=self._order):
            resource = self.desired[key]
            if key.ns in self.absent:
                self.in_the_way.add(key)
                if isinstance(resource, Link):
                    self.obstacles.append(Obstacle(key, "blocked", self.absent[key.ns]))
                continue
            missing = [n for n in requires(resource, self.desired) if n in self.in_the_way]
            if missing:
                self.in_the_way.add(key)
                if isinstance(resource, Link):
                    self.obstacles.append(Obstacle(key, "blocked", f"needs {missing[0]}"))
                continue
            if isinstance(resource, Link):
                yield from self._link(resource)
            else:
                yield from self._on_link(resource)

    def _order(self, key: Key) -> tuple[int, Key]:
        resource = self.desired[key]
        if not isinstance(resource, Link):
            return 3, key
        if resource.kind != "veth":
            return 0, key
        return (2 if resource.master else 1), key

    def _link(self, link: Link) -> Iterator[Change]:
        before = self.observed.get(link.key)
        if holder := self.other_names.get(link.key):
            self.block(link.key, "conflict", f"it is another name of {holder.key.dev}")
            return
        if isinstance(before, Link) and not self.ours(before):
            whose = "another Relink's" if self._marked(before) else "not ours"
            kind = before.kind or "physical"
            self.block(link.key, "conflict", f"the name is taken by a {kind} link that is {whose}")
            return
        if KINDS[link.kind].pair and not link.master:
            yield from self._pair(link, before)
        elif link.key in self.remade:
            yield Change(action="create", key=link.key, after=link, because=self._because(link.key))
        elif isinstance(before, Link):
            yield from self._in_place(link, before)
        else:
            yield Change(action="create", key=link.key, after=link, because=self._because(link.key))

    def _pair(self, inner: Link, before: Resource | None) -> Iterator[Change]:
        """Compare the end of a veth that makes the pair; the other end follows in its turn."""
        if inner.peer is None:
            return
        outer = self.desired[inner.peer]
        stale = self.observed.get(inner.peer) or self.other_names.get(inner.peer)
        if isinstance(stale, Link) and (not self.ours(stale) or stale.key != inner.peer):
            message = (
                f"the name of its outer end, {inner.peer}, is taken by a link that is not ours"
            )
            self.block(inner.key, "conflict", message)
            return
        if isinstance(before, Link) and before.peer == inner.peer and before.kind == inner.kind:
            yield from self._in_place(inner, before)
            return
        self.remade.update((inner.key, inner.peer))
        removes = tuple(link for link in (before, stale) if isinstance(link, Link))
        yield Change(
            action="replace" if removes else "create",
            key=inner.key,
            before=before,
            after=inner,
            removes=removes,
            peer=outer if isinstance(outer, Link) else None,
            because=self._because(inner.key),
        )

    def _in_place(self, link: Link, before: Link) -> Iterator[Change]:
        fields = differences(before, link)
        if not fields:
            return
        if KINDS[link.kind].recreate & {field.name for field in fields}:
            self.remade.add(link.key)
            yield Change(
                action="replace",
                key=link.key,
                before=before,
                after=link,
                removes=(before,),
                fields=fields,
                because=self._because(link.key),
            )
            return
        yield Change(
            action="modify",
            key=link.key,
            before=before,
            after=link,
            fields=fields,
            because=self._because(link.key),
        )

    def _on_link(self, resource: Resource) -> Iterator[Change]:
        link = link_of(resource.key)
        because = self._because(resource.key)
        before = self.observed.get(resource.key) if link not in self.remade else None
        if isinstance(resource, Offload):
            now = before or Offload(key=resource.key, features=())
            if fields := differences(now, resource):
                yield Change(
                    action="modify", key=resource.key, before=before, after=resource,
                    fields=fields, because=because,
                )  # fmt: skip
            return
        if isinstance(resource, Route) and before is None:
            other = self.routes.get((resource.key.ns, resource.key.detail))
            if other is not None and not self.ours(other):
                message = "somebody else has a route to there"
                self.block(resource.key, "conflict", message)
                return
        if before is None:
            yield Change(action="create", key=resource.key, after=resource, because=because)
        elif fields := differences(before, resource):
            if not self.ours(before):
                self.block(resource.key, "conflict", f"somebody else has another {resource.key}")
                return
            yield Change(
                action="modify", key=resource.key, before=before, after=resource,
                fields=fields, because=because,
            )  # fmt: skip

    def unwanted(self) -> Iterator[Change]:
        """Yield what is ours and not declared."""
        going: set[Key] = set()
        stale = {link.key for link in self._stale_links()}
        for key in sorted(stale, key=lambda key: (key.ns.kind == "container", key)):
            link = self.observed[key]
            if not isinstance(link, Link):
                continue
            going.add(key)
            if link.peer in stale and key.ns.kind == "container":
                continue  # goes with its outer end
            because = "not declared" + (f" (it was {link.alias})" if link.alias else "")
            yield Change(action="delete", key=key, before=link, because=because)
        for key in sorted(self.observed.keys() - self.desired.keys()):
            resource = self.observed[key]
            if not isinstance(resource, Address | Route) or not self.ours(resource):
                continue
            if link_of(key) not in going | self.remade:
                yield Change(action="delete", key=key, before=resource, because="not declared")

    def _stale_links(self) -> Iterator[Link]:
        for key, resource in self.observed.items():
            if isinstance(resource, Link) and self.ours(resource) and key not in self.desired:
                yield resource

    def _because(self, key: Key) -> str:
        return self.because.get(key, "")
