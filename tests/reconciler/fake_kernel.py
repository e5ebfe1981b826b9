"""A kernel small enough to reason about, for property tests of diff and plan only.

It takes changes, not messages, refuses what the real one refuses (no such interface, name taken, no
gateway before an address, an MTU above the parent's) and has its side effects (both ends of a veth
go, children go with their parent, routes go with their interface and when it goes down). It refuses
too what Relink must never ask for: a command that ran already, or one before all that it needs.
tests/kernel holds the real one to the same properties.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from model.keys import Key, NsKey
from model.resources import (
    Address,
    Command,
    Link,
    Neighbour,
    Offload,
    Redirect,
    Resource,
    Route,
    link_of,
)
from model.snapshot import Snapshot
from reconciler.diff import Change


class RefusalError(Exception):
    """What the real kernel would answer with an errno."""


class FakeKernel:
    def __init__(self) -> None:
        self.resources: dict[Key, Resource] = {}
        self.indexes = count(2)
        self.absent: dict[NsKey, str] = {}
        self.ran: set[Key] = set()

    def snapshot(self) -> Snapshot:
        return Snapshot(dict(self.resources), {}, dict(self.absent))

    def copy(self) -> FakeKernel:
        other = FakeKernel()
        other.resources = dict(self.resources)
        other.absent = dict(self.absent)
        other.ran = set(self.ran)
        return other

    # --------------------------------------------------------------- by change

    def apply(self, change: Change) -> None:
        for link in change.removes:
            if self.resources.get(link.key) == link:
                self.remove(link.key)
        after = change.after
        if after is None:
            if change.key not in self.resources:
                return
            self.remove(change.key)
        elif isinstance(after, Link):
            self._link(change, after)
        else:
            link = link_of(after.key)
            if link is not None and link not in self.resources:
                raise RefusalError(f"{after.key}: no such interface")
            if change.action == "create" and after.key in self.resources:
                raise RefusalError(f"{after.key}: exists")
            if isinstance(after, Route):
                self._route(after)
            elif isinstance(after, Redirect) and after.target not in self.resources:
                raise RefusalError(f"{after.key}: no such target")
            elif isinstance(after, Command):
                self._run(after)
            elif isinstance(after, Offload):
                old = self.resources.get(after.key)
                features = dict(old.features) if isinstance(old, Offload) else {}
                features.update(after.features)
                after = replace(after, features=tuple(sorted(features.items())))
            self.resources[after.key] = after

    def _run(self, command: Command) -> None:
        missing = [key for key in command.needs if key not in self.resources]
        if missing or command.key in self.ran:
            raise RefusalError(f"{command.key}: ran already, or before {missing}")
        self.ran.add(command.key)

    def _link(self, change: Change, after: Link) -> None:
        made_alone = after.kind != "veth" or after.key.ns.kind == "container"
        if change.action in ("create", "replace") and made_alone:
            self._new(after, change.peer)
        old = self.resources.get(after.key)
        if not isinstance(old, Link):
            raise RefusalError(f"{after.key}: no such interface")
        if after.master and not isinstance(self.resources.get(after.master_key()), Link):
            raise RefusalError(f"{after.key}: no such bridge")
        wanted = {
            name: value
            for name in ("mac", "mtu", "up", "master", "group", "alias", "silent", "promote",
                         "src_valid_mark")
            if (value := getattr(after, name)) is not None
        }  # fmt: skip
        settings = tuple(sorted((dict(old.settings) | dict(after.settings)).items()))
        self.resources[after.key] = replace(old, settings=settings, **wanted)
        if "mtu" in wanted:
            self._fits(self.resources[after.key])
        if after.up is False:
            self.down(after.key)

    def _fits(self, link: Resource) -> None:
        """A child has at most its parent's MTU, and follows one that becomes smaller."""
        above = self.resources.get(link.parent) if isinstance(link, Link) and link.parent else None
        if not isinstance(link, Link) or not link.mtu:
            return
        if isinstance(above, Link) and above.mtu and link.mtu > above.mtu:
            raise RefusalError(f"{link.key}: its parent has a smaller MTU")
        for child in self._children(link.key):
            if child.mtu and child.mtu > link.mtu:
                self.resources[child.key] = replace(child, mtu=link.mtu)

    def _children(self, key: Key) -> list[Link]:
        return [r for r in self.resources.values() if isinstance(r, Link) and r.parent == key]

    def _new(self, link: Link, peer: Link | None) -> None:
        above = self.resources.get(link.parent) if link.parent else None
        if link.parent and not isinstance(above, Link):
            raise RefusalError(f"{link.key}: no such parent")
        mtu = above.mtu if isinstance(above, Link) else 1500
        for end in filter(None, (link, peer)):
            if end.key in self.resources:
                raise RefusalError(f"{end.key}: name taken")
            self.resources[end.key] = Link(
                key=end.key, kind=end.kind, peer=end.peer, parent=end.parent,
                mac=end.mac or "02:00:00:00:00:aa", mtu=end.mtu or mtu, up=False, master="",
                group=end.group, alias="", silent=False, promote=False, src_valid_mark=False,
                settings=(("snooping", True),) if end.kind == "bridge" else (),
                index=next(self.indexes),
            )  # fmt: skip
            offload = Key(end.key.ns, "offload", end.key.dev)
            self.resources[offload] = Offload(key=offload, features=(("tx", True),))

    def _route(self, route: Route) -> None:
        link = link_of(route.key)
        holder = self.resources.get(link) if link else None
        if isinstance(holder, Link) and not holder.up:
            raise RefusalError(f"{route.key}: network is down")
        for other in self.resources.values():
            same = isinstance(other, Route) and other.key.ns == route.key.ns
            if same and other.key.detail == route.key.detail and other.key != route.key:
                raise RefusalError(f"{route.key}: exists by another interface")
        family = [
            a
            for a in self.resources.values()
            if isinstance(a, Address)
            and link_of(a.key) == link
            and (":" in a.ip) == (":" in route.dst)
        ]
        if route.via and not family:
            raise RefusalError(f"{route.key}: gateway is not reachable")

    # --------------------------------------------------------------- by whoever

    def remove(self, key: Key) -> None:
        gone = self.resources.pop(key)
        self.ran.discard(key)
        if not isinstance(gone, Link):
            return
        for other in [k for k in self.resources if k.type != "link" and link_of(k) == key]:
            del self.resources[other]
        if gone.kind == "bridge":
            for k, r in list(self.resources.items()):
                if isinstance(r, Link) and r.key.ns == key.ns and r.master == key.dev:
                    self.resources[k] = replace(r, master="")
        for k, r in list(self.resources.items()):
            if isinstance(r, Redirect) and r.target == key:
                self.resources[k] = replace(r, target=None)
        for child in self._children(key):
            if child.key in self.resources:
                self.remove(child.key)
        peer = gone.peer
        if peer in self.resources:
            self.remove(peer)

    def down(self, key: Key) -> None:
        """Routes go with an interface that goes down; so do IPv6 addresses and neighbours."""
        for other, resource in list(self.resources.items()):
            if other.type != "link" and link_of(other) == key:
                six = isinstance(resource, Address) and ":" in resource.ip
                if isinstance(resource, Route | Neighbour) or six:
                    del self.resources[other]
