"""Carrying out a plan: the only place where actuators are called."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
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
    """Why a step was not carried out: the kernel's answer, or the step that it needed."""

    key: Key
    verdict: Verdict
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan."""

    done: tuple[Change, ...] = ()
    failures: tuple[Failure, ...] = ()


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
    resources: dict[Key, Resource],
    snapshot: Snapshot,
    opened: Opened,
    sender: Send = send,
) -> Outcome:
    """Carry out a plan, phase by phase; a failed step holds back only what needs it.

    `resources` is what should be, for finding what a step needs; `sender` is for whoever wants to
    count or interrupt.
    """
    numbers = _Numbers(opened, snapshot)
    done: list[Change] = []
    failures: dict[Key, Failure] = {}
    for _phase, steps in groupby(plan.steps, key=lambda step: order(step)[0]):
        batch: list[tuple[Change, list[Request]]] = []
        for step in steps:
            missing = _missing(step, resources, failures)
            if missing:
                failures[step.key] = _held_back(step, missing)
                continue
            batch.append((step, encode(step, numbers)))
        requests_in_order = [request for _, requests in batch for request in requests]
        answers = iter(sender(requests_in_order, opened.sockets))
        for step, requests in batch:
            wrong = [a for a in [next(answers) for _ in requests] if a.verdict != Verdict.DONE]
            missing = _missing(step, resources, failures)
            if missing and wrong:
                failures[step.key] = _held_back(step, missing)
            elif wrong:
                failures[step.key] = Failure(step.key, wrong[0].verdict, str(wrong[0]))
            else:
                done.append(step)
                if _is_new_bridge(step):
                    numbers.learn(step.key)
    return Outcome(tuple(done), tuple(failures.values()))


def _missing(
    step: Change, resources: dict[Key, Resource], failures: dict[Key, Failure]
) -> Key | None:
    if step.after is None:
        return None
    return next((n for n in requires(step.after, resources) if n in failures), None)


def _held_back(step: Change, needed: Key) -> Failure:
    return Failure(step.key, Verdict.RETRY, f"needs {needed}")


def _is_new_bridge(step: Change) -> bool:
    made = step.action in ("create", "replace")
    return made and isinstance(step.after, Link) and step.after.kind != "veth"


def encode(step: Change, numbers: _Numbers) -> list[Request]:
    """Return the requests that carry out one step."""
    before, after = step.before, step.after
    changed = [f.name for f in step.fields]
    requests = [r for link in step.removes for r in links.delete(link)]
    match after if after is not None else before:
        case Link() as link:
            if after is None:
                return links.delete(link)
            if step.action == "modify" and isinstance(before, Link):
                return links.modify(before, link, changed, numbers)
            numbers.forget(link.key)
            if step.peer:
                numbers.forget(step.peer.key)
            return [*requests, *links.create(link, step.peer, numbers)]
        case Address() as address:
            verb = addresses.delete if after is None else addresses.create
            return verb(address, numbers)
        case Route() as route:
            if after is None:
                return routes.delete(route, numbers)
            return (routes.modify if step.action == "modify" else routes.create)(route, numbers)
        case Offload() as offload:
            return offloads.modify(offload, changed)
    return requests
