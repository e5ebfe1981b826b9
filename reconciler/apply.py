"""Carrying out a plan: the only place where actuators are called."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import cast

from actuators import (
    addresses,
    ethtool_calls,
    links,
    neighbours,
    nft,
    offloads,
    qdiscs,
    redirects,
    routes,
    rules,
    settings,
    sysctls,
)
from actuators.requests import Request, Verdict
from actuators.transport import Answer, send
from model import commands
from model.keys import HOST, Key, NsKey, link_key
from model.ownership import group_of
from model.plane import LOCAL_PORT
from model.resources import (
    Address,
    Command,
    EthtoolCall,
    Link,
    NatTable,
    Neighbour,
    Offload,
    OvsBridge,
    OvsPort,
    Qdisc,
    Redirect,
    Resource,
    Route,
    Rule,
    Setting,
    Sysctl,
)
from model.snapshot import Snapshot
from observers import nsid
from observers.namespaces import Opened
from observers.snapshot import index_of
from reconciler.diff import Change
from reconciler.needs import requires
from reconciler.plan import Plan, order
from reconciler.switches import Switches


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step was not carried out: the kernel's answer, or the step that it `needed`."""

    key: Key
    verdict: Verdict
    message: str
    needed: Key | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan."""

    done: tuple[Change, ...] = ()
    failures: tuple[Failure, ...] = ()


_LAST_INDEX = 2**31 - 1  # an interface index is a positive int; anybody may take the last one
Send = Callable[[Sequence[Request], Mapping[NsKey, socket.socket]], list[Answer]]
Start = Callable[[Command, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """By what a plan is carried out, beside the messages to the kernel.

    Attributes:
        send: sends messages; another one is for whoever wants to count or interrupt.
        switches: Open vSwitch; None where nothing is to be known of it.
        start: starts a command; takes the inode of its namespace too.
    """

    send: Send = send
    switches: Switches | None = None
    start: Start | None = None


@dataclass(slots=True)
class _Numbers:
    """Interface indexes and descriptors of one pass; implements `actuators.requests.Numbers`."""

    opened: Opened
    snapshot: Snapshot
    made: dict[Key, int] = field(default_factory=dict)
    highest: dict[NsKey, int] = field(default_factory=dict)

    def index(self, link: Key) -> int:
        return self.made[link] if link in self.made else self.snapshot.index_of(link)

    def free_index(self, link: Key) -> int:
        highest = self.highest.get(link.ns) or self.snapshot.highest_index.get(link.ns, 0)
        if highest >= _LAST_INDEX:  # the kernel finds a gap
            self.made[link] = 0
            return 0
        self.highest[link.ns] = self.made[link] = highest + 1
        return highest + 1

    def namespace(self, ns: NsKey) -> int:
        return self.opened.descriptors[ns]

    def id_of(self, ns: NsKey, seen_from: NsKey) -> int:
        # The host's namespace is not open: to enter it takes a right that few sidecars have.
        which = (
            nsid.of_process(1) if ns == HOST else nsid.of_descriptor(self.opened.descriptors[ns])
        )
        return nsid.given(self.opened.sockets[seen_from], which)

    def forget(self, link: Key) -> None:
        """The link of this name is a new one, whose index only the kernel knows."""
        self.made[link] = 0

    def learn(self, link: Key) -> None:
        self.made[link] = index_of(self.opened, link)


def apply(
    plan: Plan,
    resources: Mapping[Key, Resource],
    snapshot: Snapshot,
    opened: Opened,
    *,
    instance: str,
    hands: Hands,
) -> Outcome:
    """Carry out a plan, phase by phase; a failed step holds back only what needs it.

    `resources` is what should be, for finding what a step needs.
    """
    run = _Run(resources, _Numbers(opened, snapshot), opened, instance, hands)
    # What Open vSwitch has to let go, it lets go before the kernel is asked for the same name.
    run.switch([_letting_go(step) for step in plan.steps if _lets_go(step)])
    # And the other way round: a Linux bridge gives its name to one of Open vSwitch.
    run.send([(step, run.clear(step)) for step in plan.steps if _is_local_port(step.after)])
    for _phase, steps in groupby(plan.steps, key=lambda step: order(step)[0]):
        switched, others = _split(steps)
        run.send([(step, run.make(step)) for step in run.possible(others) if _makes(step)])
        run.send([(step, run.finish(step)) for step in run.possible(others)])
        run.switch([step for step in switched if step.after is not None])
        run.start(others)
    failed = run.failures
    done = tuple(step for step in plan.steps if step.key not in failed)
    return Outcome(done, tuple(failed.values()))


def _lets_go(step: Change) -> bool:
    return step.key.type.startswith("ovs") and (step.after is None or step.action == "replace")


def _letting_go(step: Change) -> Change:
    return replace(step, action="delete", after=None)


def _is_local_port(resource: Resource | None) -> bool:
    """Tell whether it is an interface that Open vSwitch makes."""
    return isinstance(resource, Link) and resource.kind in LOCAL_PORT.values()


def _split(steps: Iterable[Change]) -> tuple[list[Change], list[Change]]:
    """Tell the steps of Open vSwitch from those of the kernel."""
    switched: list[Change] = []
    others: list[Change] = []
    for step in steps:
        (switched if step.key.type.startswith("ovs") else others).append(step)
    return switched, others


@dataclass(slots=True)
class _Run:
    """One plan being carried out: what failed so far, and how steps become requests."""

    resources: Mapping[Key, Resource]
    numbers: _Numbers
    opened: Opened
    instance: str
    hands: Hands
    failures: dict[Key, Failure] = field(default_factory=dict)

    def possible(self, steps: Iterable[Change]) -> Iterator[Change]:
        """Yield the steps that have not failed, and note those that need one that has."""
        for step in steps:
            if step.key in self.failures:
                continue
            missing = self._missing(step)
            if missing:
                self._hold_back(step, missing)
            else:
                yield step

    def send(self, batch: list[tuple[Change, list[Request]]]) -> None:
        """Send what some steps ask for, all of it in one go, and note what the kernel refused."""
        requests = [request for _, each in batch for request in each]
        if not requests:
            return
        answers = iter(self.hands.send(requests, self.opened.sockets))
        for step, each in batch:
            wrong = [a for a in [next(answers) for _ in each] if a.verdict != Verdict.DONE]
            if not wrong:
                if each and _makes(step) and not self.numbers.made.get(step.key):
                    self.numbers.learn(step.key)
            elif missing := self._missing(step):
                self._hold_back(step, missing)
            else:
                self.failures[step.key] = Failure(step.key, wrong[0].verdict, str(wrong[0]))

    def switch(self, steps: Iterable[Change]) -> None:
        """Carry out steps of Open vSwitch in one transaction."""
        if (possible := list(self.possible(steps))) and self.hands.switches:
            for key, verdict, words in self.hands.switches.write(possible, self.instance):
                self.failures[key] = Failure(key, verdict, words)
            for step in possible:
                if isinstance(step.after, OvsBridge) and step.key not in self.failures:
                    self.numbers.learn(link_key(step.key.ns, step.key.dev))

    def start(self, steps: Iterable[Change]) -> None:
        """Start the commands that are marked as started now."""
        for step in steps:
            command = step.after
            begun = step.action == "create" and step.key not in self.failures
            if begun and isinstance(command, Command) and self.hands.start:
                self.hands.start(command, self.opened.inodes[step.key.ns])

    def clear(self, step: Change) -> list[Request]:
        """Return what removes what is in the way of a new interface."""
        return [request for link in step.removes for request in links.delete(link)]

    def make(self, step: Change) -> list[Request]:
        """Return what makes a new interface, after what is in its way is removed."""
        if not isinstance(step.after, Link):
            return []
        self.numbers.forget(step.key)
        if step.peer:
            self.numbers.forget(step.peer.key)
        return [*self.clear(step), *links.create(step.after, step.peer, self.numbers)]

    def finish(self, step: Change) -> list[Request]:
        """Return all else that a step asks for."""
        if isinstance(step.after, Redirect):
            self._learn_ends(step.after)
        if step.after is None:
            return self._remove(step.before)
        if step.action == "modify" or _is_local_port(step.after):
            return self._modify(step, step.after)
        return self._create(step.after)

    def _learn_ends(self, redirect: Redirect) -> None:
        """Ask for the index of outer ends made now: traffic control takes no names."""
        for end in (link_key(redirect.key.ns, redirect.key.dev), redirect.target):
            if end is not None and not self.numbers.index(end):
                self.numbers.learn(end)

    def _create(self, resource: Resource) -> list[Request]:
        numbers = self.numbers
        match resource:
            case Link():  # it is made already
                return links.complete(resource, numbers)
            case Address():
                return addresses.create(resource, numbers)
            case Route():
                return routes.create(resource, numbers)
            case Qdisc():
                return qdiscs.create(resource, numbers)
            case Redirect():
                return redirects.create(resource, numbers)
            case NatTable():
                return nft.create(resource)
            case Neighbour():
                return neighbours.create(resource, numbers)
            case Rule():
                return rules.create(resource)
            case EthtoolCall():
                return ethtool_calls.create(resource, numbers)
            case Command():
                return routes.create(self._marker(resource), numbers)
            case Offload() | Setting() | Sysctl() | OvsBridge() | OvsPort():
                return []  # set, not made; switched

    def _modify(self, step: Change, after: Resource) -> list[Request]:
        numbers, before = self.numbers, step.before
        changed = [f.name for f in step.fields]
        match after:
            case Link():
                return links.modify(after, changed, numbers)
            case Address():
                return addresses.modify(after, numbers)
            case Route():
                return routes.modify(after, numbers)
            case Offload():
                return offloads.modify(after, changed)
            case Setting():
                return settings.modify(after, changed)
            case Qdisc():
                return qdiscs.modify(cast("Qdisc", before), after, numbers)
            case Redirect():
                return redirects.modify(cast("Redirect", before), after, numbers)
            case NatTable():
                return nft.modify(after)
            case Neighbour():
                return neighbours.modify(after, numbers)
            case Command():
                return routes.create(self._marker(after), numbers)
            case Sysctl():
                return sysctls.modify(after)
            case _:
                return []  # all key: another value is another one

    def _remove(self, resource: Resource | None) -> list[Request]:
        numbers = self.numbers
        match resource:
            case Link():
                return links.delete(resource)
            case Address():
                return addresses.delete(resource, numbers)
            case Route():
                return routes.delete(resource, numbers)
            case Qdisc():
                return qdiscs.delete(resource, numbers)
            case Redirect():
                return redirects.delete(resource, numbers)
            case NatTable():
                return nft.delete(resource)
            case Neighbour():
                return neighbours.delete(resource, numbers)
            case Rule():
                return rules.delete(resource)
            case Command():
                marks = {None, resource.code}
                group = group_of(self.instance)
                found = (commands.marker(resource.key, group, code) for code in marks)
                return [request for mark in found for request in routes.delete(mark, numbers)]
            case _:
                return []

    def _marker(self, command: Command) -> Route:
        return commands.marker(command.key, group_of(self.instance), command.code)

    def _missing(self, step: Change) -> Key | None:
        if step.after is None:
            return None
        return next((n for n in requires(step.after, self.resources) if n in self.failures), None)

    def _hold_back(self, step: Change, needed: Key) -> None:
        self.failures[step.key] = Failure(step.key, Verdict.RETRY, f"needs {needed}", needed)


def _makes(step: Change) -> bool:
    """Tell whether a step makes an interface; the outer end of a veth comes with the inner one."""
    if step.action not in ("create", "replace") or not isinstance(step.after, Link):
        return False
    if _is_local_port(step.after):
        return False
    return step.peer is not None or step.after.kind != "veth"
