"""Cases of passes: what they cost beside a raw program that does the same."""

from __future__ import annotations

from collections.abc import Iterator

from bench import codec, floor, wanted
from bench.lab import Monitor, inside, roster
from bench.measuring import LARGE, Bench, Spent, clean, connected
from bench.table import Row, Target, row
from bench.wanted import nodes
from model.keys import NsKey
from model.wanted import Desired
from reconciler.containers import Roster
from reconciler.passes import run as run_pass
from reconciler.plan import Plan
from reconciler.teardown import tear_down

_BASE = 10  # containers; what the cost of an event is compared with
_EVENTS = 20  # in each run


def everything(steps: Plan, _desired: Desired) -> Plan:
    """Carry out the whole plan."""
    return steps


def create(bench: Bench, n: int) -> Iterator[Row]:
    """From containers and a file to n links: desired state, look, plan, apply."""
    chosen, known = nodes(n), roster()
    ours, lowest = Spent(), Spent()

    def converge() -> None:
        fresh = Roster(known.config, known.facts)
        fresh.replace("netns", known.containers.values())
        done = run_pass(fresh.world(), decide=everything)
        assert done.outcome
        assert not done.outcome.failures, done.outcome.failures[0]

    with connected(chosen):  # once before: the first link of a namespace takes longer
        pass
    for _ in range(bench.runs):
        made = floor.Create(chosen)
        lowest.time(made.run)
        wanted.check(chosen)
        assert not run_pass(known.world()).plan.steps
        made.close()
        clean()
        wanted.gone(chosen)
        ours.time(converge)
        wanted.check(chosen)
        assert not run_pass(known.world()).plan.steps
        clean()
    target = Target("ratio", 3) if n >= LARGE else None
    yield row("create", n, "s", ours.wall, floor=lowest.wall, target=target)
    yield row("create", n, "s CPU", ours.cpu, floor=lowest.cpu)


def no_op(bench: Bench, n: int) -> Iterator[Row]:
    """A full pass that finds everything as it should be."""
    chosen, world = nodes(n), roster().world()
    ours, lowest = Spent(), Spent()
    writes = 0
    look = floor.Look(chosen)

    def full() -> None:
        done = run_pass(world, decide=everything)
        assert not done.plan.steps, done.plan.steps[0]
        assert sum(key.type == "address" for key in done.snapshot.resources) >= n

    with connected(chosen), Monitor() as monitor:
        monitor.settle()
        for _ in range(bench.runs):
            lowest.time(look.run)
            monitor.drain()
            ours.time(full)
            writes += monitor.drain()
        wanted.check(chosen)
    target = Target("median", 2) if n == LARGE else None
    yield row("no-op", n, "s CPU", ours.cpu, floor=lowest.cpu, target=target)
    yield row("no-op", n, "s", ours.wall, floor=lowest.wall)
    yield row("no-op", n, "writes", [writes], target=Target("median", 0))


def event(bench: Bench, n: int) -> Iterator[Row]:
    """One container lost its address: the scoped pass that its event leads to.

    Among n containers and among ten in turn, so that both meet the same weather.
    """
    ours: list[float] = []
    lowest: list[float] = []
    base: list[float] = []
    for _ in range(bench.runs):
        if n > _BASE:
            _events(bench, _BASE, base, [])
        _events(bench, n, ours, lowest)
    yield row("event", n, "ms", ours, floor=lowest)
    if n > _BASE:
        yield row(f"event, to {_BASE}", n, "ms", ours, floor=base, target=Target("ratio", 2))


def _events(bench: Bench, n: int, ours: list[float], lowest: list[float]) -> None:
    """Measure events among n containers; Relink knows of no others."""
    chosen, known = nodes(n), roster()
    numbers = {int(ns.name.rpartition("_")[2]): ns for ns in known.containers}
    few = Roster(known.config, known.facts)
    few.replace("netns", [known.containers[numbers[node.number]] for node in chosen])
    world = few.world()
    with connected(chosen), Monitor() as monitor:
        monitor.settle()
        for _ in range(_EVENTS):
            node = bench.chance.choice(chosen)
            scope = frozenset((numbers[node.number],))
            index = wanted.index_of(node)
            raw, lose = floor.Event(node, index), floor.lose_address(node, index)
            with inside(node.number) as sock:
                floor.call(sock, lose)
                lowest.append(codec.timed(raw.run))
                assert wanted.is_right(node)
                floor.call(sock, lose)

            def scoped(scope: frozenset[NsKey] = scope) -> None:
                done = run_pass(world, scope, decide=everything)
                assert done.outcome
                assert len(done.outcome.done) == 1

            ours.append(codec.timed(scoped))
            assert wanted.is_right(node)
        wanted.check(chosen)


def teardown(bench: Bench, n: int) -> Iterator[Row]:
    """Removing every link and the bridge; the floor removes a whole interface group at once."""
    chosen, world = nodes(n), roster().world()
    ours, lowest = Spent(), Spent()
    for _ in range(bench.runs):
        with connected(chosen):
            lowest.time(floor.remove_all)
            wanted.gone(chosen)
        with connected(chosen):
            ours.time(lambda: tear_down(world))
            wanted.gone(chosen)
    yield row("teardown", n, "s", ours.wall, floor=lowest.wall)


def decoding(bench: Bench, n: int) -> Iterator[Row]:
    """A dump of the data plane's links, decoded; the floor is receiving it."""
    with connected(nodes(n)), Monitor() as monitor:
        monitor.settle()
        lowest = [codec.timed(codec.receive) for _ in range(bench.runs)]
        datagrams = codec.receive()
    assert codec.ours(datagrams) == codec.theirs(datagrams)
    for name, decode in (("ours", codec.ours), ("pyroute2", codec.theirs)):
        values = [codec.timed(lambda d=decode: d(datagrams)) for _ in range(bench.runs)]  # type: ignore[misc]
        yield row(f"decoding: {name}", n, "ms", values, floor=lowest)
