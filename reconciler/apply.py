"""Carrying out a plan: the only place where actuators are called."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from actuators import addresses, links, offloads, routes
from actuators.requests import Request, Verdict
from actuators.transport import Answer, send
from model.keys import Key, NsKey
from model.resources import Address, Link, Offload, Resource, Route
from model.snapshot import Snapshot
from observers.namespaces import Opened
from observers.snapshot import index_of
from reconciler.diff import Change, requires
from reconciler.plan import Plan, order


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
    sender: Send = send,
) -> Outcome:
    """Carry out a plan, phase by phase; a failed step holds back only what needs it.

    `resources` is what should be, for finding what a step needs; `sender` is for whoever wants to
    count or interrupt.
    """
    run = _Run(resources, _Numbers(opened, snapshot), opened, sender)
    for _phase, group in groupby(plan.steps, key=lambda step: order(step)[0]):
        steps = list(group)
        run.send([(step, run.make(step)) for step in run.possible(steps) if _makes(step)])
        run.send([(step, run.finish(step)) for step in run.possible(steps)])
    failed = run.failures
    done = tuple(step for step in plan.steps if step.key not in failed)
    return Outcome(done, tuple(failed.values()))


@dataclass(slots=True)
class _Run:
    """One plan being carried out: what failed so far, and how steps become requests."""

    resources: Mapping[Key, Resource]
    numbers: _Numbers
    opened: Opened
    sender: Send
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
        answers = iter(self.sender(requests, self.opened.sockets))
        for step, each in batch:
            wrong = [a for a in [next(answers) for _ in each] if a.verdict != Verdict.DONE]
            if not wrong:
                if each and _makes(step) and not self.numbers.made.get(step.key):
                    self.numbers.learn(step.key)
            elif missing := self._missing(step):
                self._hold_back(step, missing)
            else:
                self.failures[step.key] = Failure(step.key, wrong[0].verdict, str(wrong[0]))

    def make(self, step: Change) -> list[Request]:
        """Return what removes what is in the way of a new interface, and makes it."""
        if not isinstance(step.after, Link):
            return []
        self.numbers.forget(step.key)
        if step.peer:
            self.numbers.forget(step.peer.key)
        removals = [request for link in step.removes for request in links.delete(link)]
        return [*removals, *links.create(step.after, step.peer, self.numbers)]

    def finish(self, step: Change) -> list[Request]:
        """Return all else that a step asks for."""
        before, after, numbers = step.before, step.after, self.numbers
        changed = [f.name for f in step.fields]
        match after if after is not None else before:
            case Link() as link:
                if after is None:
                    return links.delete(link)
                if step.action == "modify":
                    return links.modify(link, changed, numbers)
                return links.complete(link, numbers)
            case Address() as address:
                return (addresses.delete if after is None else addresses.create)(address, numbers)
            case Route() as route:
                if after is None:
                    return routes.delete(route, numbers)
                return (routes.modify if step.action == "modify" else routes.create)(route, numbers)
            case Offload() as offload:
                return offloads.modify(offload, changed)
        return []

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
    return step.peer is not None or step.after.kind != "veth"
