"""Lets faults happen in an order that a seed gives, and holds the network to its invariants."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.faults import invariants, kernel
from tests.faults.engines import PLANE
from tests.faults.invariants import Standings
from tests.faults.kinds import FAULTS, OF_RUNTIME, SHARES
from tests.faults.kinds.drift import DRIFT
from tests.faults.kinds.fault import Touched
from tests.faults.world import OTHER, World

TRIES = 1000  # of faults that cannot happen now, one after the other
OFTEN, EVERY = 5, 20  # faults between two looks at what is dear to look at, and dearer
# Many faults may hit one link in so short a time that it is a fight: then it is put right once a
# minute (reconciler/retries.py).
FOUGHT = 70.0  # seconds
BEHIND = 5.0  # seconds that status may be behind the kernel on a machine that has much to do
# How much more the sidecar may hold at the end of a sequence than after its first faults; memory in
# KiB. A control connection that is being closed, and what is imported at the first need.
GROWTH = {"descriptors": 3, "threads": 2, "processes": 1, "rss": 12 * 1024}


_EVERYTHING = "everything"


class ViolatedError(Exception):
    """An invariant does not hold."""


Told = Callable[["Step"], None]


def _unsaid(_step: Step) -> None:
    """Say nothing of a step."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fault of a sequence: its place in it, from which all its choices follow, and its name."""

    number: int
    name: str


@dataclass(slots=True)
class Report:
    """What happened: for each kind of fault, the seconds from its end until all was as declared.

    Attributes:
        done: all that happened, in order, the one that broke something last.
        sizes: what the sidecar held, now and then.
        fights: how often so many faults met one thing that Relink took them for an opponent.
        violated: the invariant that did not hold, and what was known then.
    """

    seed: int
    took: dict[str, list[float]] = field(default_factory=dict)
    done: list[Step] = field(default_factory=list)
    sizes: list[dict[str, int]] = field(default_factory=list)
    fights: int = 0
    violated: str = ""

    @property
    def faults(self) -> int:
        """How many came about: one that did not, as what it was about had gone, does not count."""
        return sum(map(len, self.took.values()))


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a sequence: so many faults, so long, and of which kinds (all if there is none)."""

    count: int = 200
    seconds: float = float("inf")
    kinds: tuple[str, ...] = ()


def run(world: World, seed: int, limits: Limits, told: Told = _unsaid) -> Report:
    """Let faults happen, chosen by the seed; those that were rare so far come sooner."""
    choose = Random(seed)
    report = Report(seed)
    end = time.monotonic() + limits.seconds

    def steps() -> Iterator[Step]:
        counted, latest = 0, 0
        for number in itertools.count(1):
            if report.faults > counted:
                counted, latest = report.faults, number
            if number - latest > TRIES:
                raise ViolatedError("none of these faults can happen")
            if counted >= limits.count or time.monotonic() > end:
                return
            names = sorted(limits.kinds or OF_RUNTIME[world.engine.runtime])
            shares = SHARES[world.engine.runtime]
            weights = [shares.get(name, 1) / (1 + len(report.took.get(name, ()))) for name in names]
            yield Step(number, choose.choices(names, weights)[0])

    _play(world, report, steps(), told)
    return report


def replay(world: World, seed: int, steps: Sequence[Step], told: Told = _unsaid) -> Report:
    """Let the same faults happen again, or some of them."""
    report = Report(seed)
    _play(world, report, steps, told)
    return report


def _play(world: World, report: Report, steps: Iterable[Step], told: Told) -> None:
    try:
        world.open()
        standings = _settle(world, set())
        for step in steps:
            world.random = Random(f"{report.seed} {step.number}")
            report.done.append(step)
            touched = _let_happen(world, step.name)
            if touched is None:
                report.done.pop()
                continue
            for container, device in list(world.added):
                if {container, "*"} & touched:  # it may have gone with its link
                    del world.added[container, device]
            happened = time.monotonic()
            now = _settle(world, touched)
            took = time.monotonic() - happened
            if world.undo():
                now = _settle(world, touched)
            if not world.idle:
                report.took.setdefault(step.name, []).append(took)
            told(step)
            _neighbours(standings, now, touched)
            standings = now
            if len(report.done) % OFTEN == 0:
                _unharmed(world)
                _hold(world, report)
            if len(report.done) % EVERY == 0:
                _carries(world)
                _finds_nothing(world)
        _unharmed(world)
        _carries(world)
        _finds_nothing(world)
        _hold(world, report)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is a finding
        report.violated = f"{error}\n{world.log_tail()}"
    finally:
        report.fights = world.log_text().count('"event": "fighting"')
        world.close()


def _carries(world: World) -> None:
    """See that packets pass wherever links are declared, and come to no harm for who sends them."""
    if silences := invariants.silences(world):
        raise ViolatedError("; ".join(silences))
    _settle(world, set())


def _finds_nothing(world: World) -> None:
    """See that another pass has nothing to do: exit code 0."""
    kernel.run(*world.engine.words(world.file, "--dry-run"))


def _let_happen(world: World, name: str) -> Touched:
    """Let a fault happen; return whose links it may have touched, None if it cannot happen now."""
    world.idle.clear()
    touched = FAULTS[name](world)
    if world.idle and name in DRIFT:  # others may meet something that is gone
        raise ViolatedError(f"the fault did nothing: {world.idle}")
    return touched


def _settle(world: World, touched: set[str]) -> Standings:
    """Wait until everything is as declared, and status says so; return how the interfaces stand."""
    end, patience = time.monotonic() + world.seconds, 0.0
    lies: dict[str, float] = {}
    looks, whole = invariants.look(world), True
    while True:
        differs = invariants.differences(world, looks)
        status = world.engine.status()
        lies = _lies(differs, status, lies)
        wrong = differs or _said(world, status)
        if not wrong and whole:
            invariants.remember(world, looks)
            return invariants.standings(world, looks)
        if not wrong:  # and whatever has put it right may have done more
            looks, whole = invariants.look(world), True
            continue
        if _are_fought_over(status, wrong):  # and it is when it has begun to be put right
            patience = FOUGHT
        if time.monotonic() > end + patience:
            raise ViolatedError(f"not within {world.seconds} s (touched {touched}): {wrong}")
        world.wait(end + patience)
        looks, whole = invariants.look_again(world, looks, touched, wrong), "*" in touched


def _are_fought_over(status: dict[str, Any] | None, wrong: Sequence[str]) -> bool:
    """Tell whether something of what is wrong is taken for a fight."""
    links = (status or {"links": ()})["links"]
    fought = [link["key"] for link in links if link["state"] == "Fighting"]
    fought += [f"bridge {key.removeprefix('self:')} " for key in fought if key.startswith("self:")]
    return any(key in each for key in fought for each in wrong)


def _lies(
    differs: Sequence[str], status: dict[str, Any] | None, before: dict[str, float]
) -> dict[str, float]:
    """Return since when status has said what is not so, which it may not for long.

    That a link is Ready which is not as declared, or that all are connected though one is not. What
    nobody can know yet is awaited, and no lie.
    """
    differs = [each for each in differs if invariants.UNTOLD not in each]
    now = time.monotonic()
    links = status["links"] if status else ()
    ready = {link["key"] for link in links if link["state"] == "Ready"}
    wrong = {key for key in ready if any(each.startswith(f"{key}:") for each in differs)}
    if status and status["connected"] and differs:
        wrong.add(_EVERYTHING)
    lies = {key: before.get(key, now) for key in wrong}
    for key, since in lies.items():
        if now - since > BEHIND:
            raise ViolatedError(f"status calls {key} Ready, for {BEHIND} s already: {differs}")
    return lies


def _hold(world: World, report: Report) -> None:
    """See that the sidecar holds no more than when it was first looked at in this life of its own.

    What a pass holds for a moment does not count.
    """
    sizes, now = report.sizes, world.size()
    first = next((size for size in sizes if size["process"] == now["process"]), now)
    end = time.monotonic() + world.seconds
    while grown := _grown(first, now := world.size(), world):
        if time.monotonic() > end:
            held = f"{first}, now {now} of {world.descriptors()}"
            raise ViolatedError(f"more than at first: {', '.join(grown)}: {held}")
        world.wait(end)
    sizes.append({**now, "faults": len(report.done)})


def _grown(first: dict[str, int], now: dict[str, int], world: World) -> list[str]:
    more = {name: now[name] - first[name] for name in (*GROWTH, "containers")}
    more["descriptors"] -= world.engine.each * more["containers"] + world.engine.connections
    return [name for name, most in GROWTH.items() if more[name] > most]


def _said(world: World, status: dict[str, Any] | None) -> list[str]:
    if status is None:
        return ["the sidecar does not answer"]
    if crashes := status["crashes"]:
        return [f"{crash['scope']} crashed: {crash['reason']}" for crash in crashes]
    wanted = sum(len(world.declared.links(name)) for name in world.containers)
    ready = [link for link in status["links"] if link["state"] == "Ready"]
    others = [f"{link['key']}: {link['state']}" for link in status["links"] if link not in ready]
    if others:
        return others
    if away := {name: state for name, state in status["engines"].items() if state != "connected"}:
        return [f"engine {name}: {state}" for name, state in away.items()]
    return (
        [] if len(ready) == wanted and status["connected"] else [f"{len(ready)} of {wanted} Ready"]
    )


def _neighbours(before: Standings, now: Standings, touched: set[str]) -> None:
    """See that every container that was not touched has the interfaces that it had, unbroken."""
    for container in before.keys() & now.keys():
        if {container, "*"} & touched:
            continue
        for dev in before[container].keys() & now[container].keys():
            was, is_ = before[container][dev], now[container][dev]
            if not is_.goes_on(was, touched):
                raise ViolatedError(f"{container}:{dev} was {was}, and is {is_}")


def _unharmed(world: World) -> None:
    """See that what is not ours is what it was, in each namespace, and that nothing has crashed."""
    for line in world.log_text().splitlines():
        # Its event loop reads a socket of its own, too, where the kernel never has no room.
        if '"event": "crashed"' in line and "_read_from_self" not in line:
            raise ViolatedError(line)
    for name in (PLANE, OTHER, *world.containers):
        if harm := world.harmed(name):
            raise ViolatedError(harm)
    for harmed in world.added.values():
        if harm := harmed():
            raise ViolatedError(harm)


def table(reports: Sequence[Report]) -> list[tuple[str, int, float, float]]:
    """Return fault, times, median and maximum in milliseconds, over some runs."""
    rows = []
    for name in FAULTS:
        took = sorted(t for report in reports for t in report.took.get(name, ()))
        if took:
            rows.append((name, len(took), took[len(took) // 2] * 1e3, took[-1] * 1e3))
    return rows
