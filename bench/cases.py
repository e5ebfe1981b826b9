"""The cases: each makes its state, measures Relink and the floor in turn, and checks the kernel."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench import codec, floor, wanted
from bench.lab import Monitor, inside, roster
from bench.sidecar import PROGRAM, ROOT, WORDS, Sidecar, resident
from bench.table import Row, Target, row
from bench.wanted import DEV, MTU, Node, nodes
from model import netlink as nl
from model.keys import NsKey
from model.wanted import Desired
from reconciler.containers import Roster
from reconciler.passes import run as run_pass
from reconciler.plan import Plan
from reconciler.teardown import tear_down

LARGE = 1000  # containers; what the absolute targets are about
START_UP = 4  # containers of the start-up case
_BASE = 10  # containers; what the cost of an event is compared with
_EVENTS, _DRIFTS = 20, 5  # repetitions in each run
_DEADLINE = 10.0  # seconds until a drift counts as not repaired
_QUIET = 0.25  # seconds; longer than the sidecar's debounce, so that no repair waits for another


@dataclass(slots=True)
class Bench:
    """One run of the bench: how often, and where chance comes from."""

    runs: int
    chance: random.Random = field(default_factory=lambda: random.Random(158))  # noqa: S311


Case = Callable[[Bench, int], Iterator[Row]]


def everything(steps: Plan, _desired: Desired) -> Plan:
    """Carry out the whole plan."""
    return steps


def clean() -> None:
    """Have no link anywhere."""
    try:
        floor.remove_all()
    except OSError:
        wanted.gone([])  # there was none


@contextmanager
def connected(chosen: Sequence[Node]) -> Iterator[None]:
    """Have the links of these containers, made by the floor, and none afterwards."""
    clean()
    made = floor.Create(chosen)
    try:
        made.run()
        wanted.check(chosen)
        yield
    finally:
        made.close()
        clean()


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds that pieces of work took: of the clock, and of processors (the kernel's included)."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def time(self, work: Callable[[], object]) -> None:
        """Do a piece of work and note what it took."""
        gc.collect()
        busy, started = time.process_time(), time.perf_counter()
        work()
        self.wall.append(time.perf_counter() - started)
        self.cpu.append(time.process_time() - busy)


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
            raw, lose = floor.Event(node, index), _lose_address(node, index)
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


@dataclass(frozen=True, slots=True)
class Drift:
    """Something that somebody does to a link, and how a raw program mends it.

    Attributes:
        name: what is lost or changed.
        spoil: encodes what does it, from the container and the index of its end.
        mend: mends it, from the container, a socket in it, one in the data plane and a descriptor
            of that.
    """

    name: str
    spoil: Callable[[Node, int], bytes]
    mend: Callable[[Node, int], tuple[bytes, bytes]]


def _set_mtu(index: int, mtu: int) -> bytes:
    body = nl.IFINFO.pack(0, 0, index, 0, 0)
    return nl.message(nl.RTM_SETLINK, nl.NLM_F_ACK, body, nl.u32(nl.IFLA_MTU, mtu))


def _lose_address(node: Node, index: int) -> bytes:
    message = floor.at_index(floor.address(node, nl.RTM_DELADDR), index)
    return floor.acknowledged([message])


DRIFTS = (
    Drift(
        "link",
        lambda _node, index: nl.message(
            nl.RTM_DELLINK, nl.NLM_F_ACK, nl.IFINFO.pack(0, 0, index, 0, 0)
        ),
        lambda node, plane: (floor.inner(node, plane), floor.acknowledged(floor.outer(node))),
    ),
    Drift(
        "address",
        _lose_address,
        lambda node, _plane: (floor.acknowledged([floor.address(node)]), b""),
    ),
    Drift(
        "mtu",
        lambda _node, index: _set_mtu(index, 1400),
        lambda _node, _plane: (_set_mtu(floor.INNER_INDEX, MTU), b""),
    ),
)


def drift(bench: Bench, n: int) -> Iterator[Row]:
    """Something is spoilt behind a real sidecar's back: the time until it is right again."""
    chosen = nodes(n)
    ours: dict[str, list[float]] = {}
    lowest: dict[str, list[float]] = {}
    with connected(chosen), Monitor() as monitor, floor.Mender() as mender:
        monitor.settle()
        for _ in range(bench.runs * _DRIFTS):
            for each in DRIFTS:
                node = bench.chance.choice(chosen)
                inner, outer = each.mend(node, mender.plane)
                with inside(node.number) as sock, _spoilt(each, node, monitor) as started:
                    assert monitor.wait(_DEADLINE)
                    mender.mend(sock, inner, outer, offload=each.name == "link")
                    taken = _until_right(node, monitor, started)
                lowest.setdefault(each.name, []).append(taken)
                monitor.settle(_QUIET)
        wanted.check(chosen)
    with Sidecar(), Monitor() as monitor:
        wanted.check(chosen)
        monitor.settle()
        for _ in range(bench.runs * _DRIFTS):
            for each in DRIFTS:
                node = bench.chance.choice(chosen)
                with _spoilt(each, node, monitor) as started:
                    assert monitor.wait(_DEADLINE)
                    taken = _until_right(node, monitor, started)
                ours.setdefault(each.name, []).append(taken)
                monitor.settle(_QUIET)
        wanted.check(chosen)
    wanted.gone(chosen)
    for name, values in ours.items():
        yield row(f"drift: {name}", n, "ms", values, floor=lowest[name])


@contextmanager
def _spoilt(each: Drift, node: Node, monitor: Monitor) -> Iterator[float]:
    """Spoil a link and give the time at which it began.

    In a thread of its own: the kernel rings while it still takes a link apart, some 10 ms before
    it lets go of whoever told it to, and a repair need not wait for that.
    """
    message = each.spoil(node, wanted.index_of(node))
    with inside(node.number) as sock, ThreadPoolExecutor(1) as pool:
        monitor.drain()
        started = time.perf_counter()
        told = pool.submit(floor.call, sock, message)
        yield started
        told.result()


def _until_right(node: Node, monitor: Monitor, started: float) -> float:
    """Wait until a link is right, looking whenever the kernel rings; return the milliseconds."""
    while not wanted.is_right(node):
        left = started + _DEADLINE - time.perf_counter()
        assert left > 0, f"node_{node.number} was not repaired within {_DEADLINE:g} s"
        monitor.wait(left)
        monitor.drain()
    return (time.perf_counter() - started) * 1e3


def start_up(bench: Bench, n: int) -> Iterator[Row]:
    """A command from its start to its end, among n containers."""

    def spend(words: list[str], code: int = 0) -> str:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout

    preview, version = [*PROGRAM, *WORDS, "--dry-run"], [*PROGRAM, "--version"]
    # Once each for the caches of the file system and of the interpreter.
    said = spend(preview, 2)
    assert all(f"node_{i}:{DEV}" in said for i in range(1, n + 1)), said
    assert spend(version).startswith("relink ")
    bare, dry, short = Spent(), Spent(), Spent()
    for _ in range(bench.runs):
        bare.time(lambda: spend([sys.executable, "-c", "pass"]))
        dry.time(lambda: spend(preview, 2))
        short.time(lambda: spend(version))
    wanted.gone(nodes(n))
    target = Target("median", 0.5)
    yield row("start-up: --dry-run", n, "s", dry.wall, floor=bare.wall, target=target)
    yield row("start-up: --version", n, "s", short.wall, floor=bare.wall)


def memory(bench: Bench, n: int) -> Iterator[Row]:
    """Resident memory of a real sidecar that has made n links and heard what the kernel said."""
    del bench
    chosen = nodes(n)
    words = [sys.executable, "-c", "print(flush=True); open(0).read()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as bare:
        assert bare.stdin
        assert bare.stdout
        bare.stdout.read(1)  # it runs
        lowest, _ = resident(bare.pid)
        bare.stdin.close()
    with Sidecar() as sidecar, Monitor() as monitor:
        wanted.check(chosen)
        monitor.settle()
        now, most = sidecar.memory()
    wanted.gone(chosen)
    target = Target("median", 200) if n == LARGE else None
    yield row("memory", n, "MiB", [now], floor=[lowest], target=target)
    yield row("memory, at most", n, "MiB", [most], floor=[lowest])


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


CASES: dict[str, Case] = {
    "start-up": start_up,
    "create": create,
    "no-op": no_op,
    "event": event,
    "drift": drift,
    "memory": memory,
    "teardown": teardown,
    "codec": decoding,
}
