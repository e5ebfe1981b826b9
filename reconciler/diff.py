"""The difference between what should be and what is: pure, deterministic, blind to what is foreign.

A reviewer must flag: any change whose `before` does not carry our mark; any use of what an earlier
pass did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from model.keys import Key, NsKey
from model.kinds import KINDS
from model.ovs import NOT_SET_UP
from model.ownership import is_relink_group, is_relink_table, is_table_of
from model.plane import LOCAL_PORT
from model.resources import (
    Command,
    EthtoolCall,
    FieldChange,
    Link,
    NatTable,
    Offload,
    OvsBridge,
    OvsPort,
    Redirect,
    Resource,
    Route,
    Rule,
    Setting,
    Sysctl,
    differences,
    link_of,
)
from model.route import DEVICELESS
from model.snapshot import Snapshot
from model.wanted import Desired, Obstacle
from reconciler.needs import makes_pair, requires

_MAIN = 254  # RT_TABLE_MAIN, linux/rtnetlink.h
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
        depth: how many interfaces of ours it is stacked on.
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
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """All changes, in no particular order, and what stands in the way of the rest."""

    changes: tuple[Change, ...]
    obstacles: tuple[Obstacle, ...]
    notes: Mapping[Key, str] = field(default_factory=dict)


def diff(desired: Desired, observed: Snapshot, group: int) -> Difference:
    """Compare what should be with what is; `group` is the mark of our interfaces."""
    comparison = _Comparison(desired, observed, group)
    changes = [*comparison.wanted(), *comparison.unwanted()]
    return Difference(tuple(changes), tuple(sorted(comparison.obstacles)), comparison.notes)


def _unset(resource: Offload | Setting | Sysctl) -> Offload | Setting | Sysctl:
    if isinstance(resource, Sysctl):
        return Sysctl(key=resource.key, value="")
    if isinstance(resource, Offload):
        return Offload(key=resource.key, features=())
    return Setting(key=resource.key, values=())


class _Comparison:
    def __init__(self, desired: Desired, observed: Snapshot, group: int) -> None:
        self.desired = desired.resources
        self.because = desired.because
        self.observed = observed.resources
        self.absent = observed.absent
        self.group = group
        self.obstacles: list[Obstacle] = []
        self.notes: dict[Key, str] = {}
        # What cannot be made; nothing that needs it can either.
        self.in_the_way = {obstacle.key for obstacle in desired.obstacles}
        self.no_ovs = observed.no_ovs
        self.forgets_commands = desired.forgets_commands
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
            r.key.ns for r in self.observed.values() if self._of_another_instance(r)
        }

    def _of_another_instance(self, resource: Resource) -> bool:
        if isinstance(resource, Link):
            return self._marked(resource) and resource.group != self.group
        if not isinstance(resource, Rule | Route) or not resource.owned:
            return False
        return is_relink_table(resource.table) and not is_table_of(self.group, resource.table)

    @staticmethod
    def _marked(link: Link) -> bool:
        return link.group is not None and is_relink_group(link.group)

    def ours(self, resource: Resource) -> bool:
        """Tell whether this instance made an observed resource."""
        if isinstance(resource, Link):
            return resource.group == self.group or self._of_our_switch(resource)
        if isinstance(resource, Offload | Setting | EthtoolCall | Sysctl):
            return False  # only set, never removed
        if not getattr(resource, "owned", True):
            return False
        if isinstance(resource, NatTable | OvsBridge | OvsPort | Command):
            return True  # its name, or its mark, is that of the instance
        if isinstance(resource, Rule):
            if resource.table == _MAIN:  # shared by all who forward; as with blackholes
                return resource.key.ns not in self.strangers
            return is_table_of(self.group, resource.table)
        link = link_of(resource.key)
        if link is None:
            # A blackhole has no interface to carry the mark of the instance. It is left alone
            # where another instance's links are.
            if not isinstance(resource, Route) or resource.type not in DEVICELESS:
                return False
            if is_relink_group(resource.table):  # a mark of another instance, model/commands.py
                return False
            return resource.key.ns not in self.strangers
        holder = self.observed.get(link)
        return isinstance(holder, Link) and self.ours(holder)

    def _of_our_switch(self, link: Link) -> bool:
        """Tell whether Open vSwitch made an interface for a bridge of ours."""
        bridge = self.observed.get(Key(link.key.ns, "ovs-bridge", link.key.dev))
        return isinstance(bridge, OvsBridge) and bridge.owned and link.kind in LOCAL_PORT.values()

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
            if self.no_ovs and isinstance(resource, OvsBridge | OvsPort):
                self.block(key, "blocked", self.no_ovs)
                continue
            missing = [n for n in requires(resource, self.desired) if n in self.in_the_way]
            if missing:
                self.in_the_way.add(key)
                if isinstance(resource, Link):
                    self.obstacles.append(self._without(resource, missing[0]))
                continue
            if isinstance(resource, Link):
                depth = self._depth(resource)
                yield from (replace(c, depth=depth) if depth else c for c in self._link(resource))
            else:
                yield from self._on_link(resource)

    def _without(self, link: Link, needed: Key) -> Obstacle:
        """Return what stands in the way of a link that needs something which cannot be.

        A bridge of Open vSwitch has no place in the status; its own interface stands for it.
        """
        if link.kind in LOCAL_PORT.values():
            return next(
                Obstacle(link.key, o.state, o.message) for o in self.obstacles if o.key == needed
            )
        if needed.type == "ovs-bridge" and self.no_ovs:
            return Obstacle(link.key, "blocked", self.no_ovs)
        return Obstacle(link.key, "blocked", f"needs {needed}")

    def _order(self, key: Key) -> tuple[int, Key]:
        resource = self.desired[key]
        if not isinstance(resource, Link):
            if isinstance(resource, Command):
                return 10, key  # it needs whatever else there is of its container
            return (0 if isinstance(resource, OvsBridge) else 9), key
        if resource.kind == "bridge":
            return 0, key
        if resource.peer and not makes_pair(resource):
            return 8, key
        return 1 + min(self._depth(resource), 6), key

    def _depth(self, link: Link) -> int:
        """Return how many interfaces of ours a link is stacked on."""
        seen = {link.key}
        while link.parent is not None and link.parent not in seen:
            parent = self.desired.get(link.parent)
            if not isinstance(parent, Link):
                break
            seen.add(parent.key)
            link = parent
        return len(seen) - 1

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
        if link.kind in LOCAL_PORT.values():
            yield from self._local_port(link, before)
            return
        if link.parent is not None:
            if missing := self._no_parent(link.parent):
                self.block(link.key, "blocked", missing)
                return
            link = self._fitted(link, link.parent)
        if KINDS[link.kind].pair and makes_pair(link):
            yield from self._pair(link, before)
        elif link.key in self.remade:  # it went with the old other end
            yield Change(action="create", key=link.key, after=link, because=self._because(link.key))
        elif link.parent in self.remade:
            yield self._on_new_parent(link, before)
        elif isinstance(before, Link):
            yield from self._in_place(link, before)
        else:
            yield Change(action="create", key=link.key, after=link, because=self._because(link.key))

    def _on_new_parent(self, link: Link, before: Resource | None) -> Change:
        """Make a link on a parent that is made now; what was on the old parent went with it."""
        self.remade.add(link.key)
        stays = isinstance(before, Link) and before.parent != link.parent
        return Change(
            action="replace" if stays else "create",
            key=link.key,
            before=before if stays else None,
            after=link,
            removes=(before,) if stays and isinstance(before, Link) else (),
            because=self._because(link.key),
        )

    def _local_port(self, link: Link, before: Resource | None) -> Iterator[Change]:
        """Compare what Open vSwitch makes by itself, and so never has to be made.

        One that is not there yet has nothing of what is declared; nor has one that comes where a
        Linux bridge of ours has to go.
        """
        fresh = Link(key=link.key, kind=link.kind)
        if isinstance(before, Link) and before.kind not in LOCAL_PORT.values():
            self.remade.add(link.key)
            yield Change(
                action="replace",
                key=link.key,
                before=before,
                after=link,
                removes=(before,),
                fields=differences(fresh, link),
                because=self._because(link.key),
            )
            return
        remade = Key(link.key.ns, "ovs-bridge", link.key.dev) in self.remade
        now = before if isinstance(before, Link) and not remade else fresh
        yield from self._in_place(link, now)

    def _no_parent(self, parent: Key) -> str:
        """Return why a link cannot be stacked on `parent`, or nothing."""
        if parent.ns in self.absent:
            return self.absent[parent.ns]
        above = self.observed.get(parent)
        # One of ours that nobody wants goes in this pass.
        if parent in self.desired or (above is not None and not self.ours(above)):
            return ""
        return f"{parent} does not exist"

    def _fitted(self, link: Link, parent: Key) -> Link:
        """Return the link with an MTU that its parent takes: the kernel refuses a larger one."""
        above = self.desired.get(parent)
        if not isinstance(above, Link) or above.mtu is None:
            above = self.observed.get(parent)
        if not isinstance(above, Link) or not above.mtu or not link.mtu or link.mtu <= above.mtu:
            return link
        self.notes[link.key] = f"mtu {above.mtu}, that of {parent}, instead of {link.mtu}"
        return replace(link, mtu=above.mtu)

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
        table = KINDS.get(link.kind)
        if table and table.must_be_remade(frozenset(field.name for field in fields)):
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
        before = self.observed.get(resource.key)
        if isinstance(before, OvsBridge | OvsPort) and before.owned:
            if self._is_dead(before, resource, link):
                self.remade.add(resource.key)
                yield Change(
                    action="replace", key=resource.key, before=before, after=resource,
                    because=because,
                )  # fmt: skip
                return
            if isinstance(before, OvsPort) and before.error:  # it rings when that is over
                self.obstacles.append(Obstacle(resource.key, "blocked", before.error))
        elif link in self.remade:
            before = None  # it went with the interface
        if isinstance(resource, Offload | Setting | Sysctl):
            now = before or _unset(resource)
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
        elif fields := differences(before, resource) or self._led_to_old(resource):
            if not self.ours(before):
                what = str(resource.key)
                if isinstance(resource, OvsBridge):
                    what = f"Open vSwitch bridge {resource.key.dev}"
                self.block(resource.key, "conflict", f"somebody else has another {what}")
                return
            yield Change(
                action="modify", key=resource.key, before=before, after=resource,
                fields=fields, because=because,
            )  # fmt: skip

    def _is_dead(self, before: OvsBridge | OvsPort, after: Resource, link: Key | None) -> bool:
        """Tell whether a bridge or port of Open vSwitch has lost its interface.

        It does not open another one that comes by the same name (3.1, userspace datapath), it does
        not make a bridge's own again, and one that it could not open it does not try again by
        itself. So it is taken out before, and put in after.
        """
        dead = link in self.remade or link not in self.observed
        if isinstance(before, OvsPort):
            dead |= before.error not in ("", NOT_SET_UP)
        if isinstance(after, OvsPort):  # all ports go with their bridge
            dead |= Key(after.key.ns, "ovs-bridge", after.bridge) in self.remade
        return dead

    def _led_to_old(self, resource: Resource) -> tuple[FieldChange, ...]:
        """Return what is wrong with a redirect whose target is made anew: it has another index."""
        if isinstance(resource, Redirect) and resource.target in self.remade:
            return (FieldChange("target", None, resource.target),)
        return ()

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
            if isinstance(resource, Link) or not self.ours(resource):
                continue
            if isinstance(resource, Command) and not self.forgets_commands:
                continue
            switched = isinstance(resource, OvsBridge | OvsPort)  # a row stays, whatever goes
            if switched or link_of(key) not in going | self.remade:
                yield Change(action="delete", key=key, before=resource, because="not declared")

    def _stale_links(self) -> Iterator[Link]:
        for key, resource in self.observed.items():
            if not isinstance(resource, Link) or key in self.desired:
                continue
            if self.ours(resource) and resource.kind not in LOCAL_PORT.values():
                yield resource  # those of Open vSwitch go with their bridge

    def _because(self, key: Key) -> str:
        return self.because.get(key, "")
