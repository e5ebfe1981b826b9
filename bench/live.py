"""Cases of a real sidecar that runs: how soon it hears, how much it holds."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bench import floor, wanted
from bench.floor import lose_address
from bench.lab import BRIDGE, Monitor, appear, declare, disappear, inside
from bench.measuring import LARGE, Bench, connected
from bench.sidecar import Sidecar, resident
from bench.table import Row, Target, row
from bench.wanted import MTU, PREFIX, Node, nodes
from model import netlink as nl

_DRIFTS = 5  # of each kind in each run
_DEADLINE = 10.0  # seconds until a drift counts as not repaired
_QUIET = 0.25  # seconds; longer than the sidecar's debounce, so that no repair waits for another


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
        lose_address,
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


def appearing(bench: Bench, n: int) -> Iterator[Row]:
    """A container appears among n others: the time until its link is right."""
    node = Node(n + 1)
    ours: list[float] = []
    lowest: list[float] = []
    with connected(nodes(n)), Monitor() as monitor, floor.Mender() as mender:
        monitor.settle()
        for _ in range(bench.runs * _DRIFTS):
            inner, outer = floor.inner(node, mender.plane), floor.acknowledged(floor.outer(node))
            with _appeared(node, monitor) as started, inside(node.number) as sock:
                mender.mend(sock, inner, outer, offload=True)
                lowest.append(_until_right(node, monitor, started))
    with Sidecar(), Monitor() as monitor:
        monitor.settle()
        for _ in range(bench.runs * _DRIFTS):
            with _appeared(node, monitor) as started:
                ours.append(_until_right(node, monitor, started))
        wanted.check(nodes(n))
    target = Target("median", 6) if n == LARGE else None
    yield row("appearing", n, "ms", ours, floor=lowest, target=target)


@contextmanager
def _appeared(node: Node, monitor: Monitor) -> Iterator[float]:
    """Have one more container for a while; give the time at which it was there."""
    appear(node.number)
    try:
        yield time.perf_counter()
    finally:
        disappear(node.number)
        monitor.settle(_QUIET)


def changing(bench: Bench, n: int) -> Iterator[Row]:
    """A file of n links with one of them changed: the time until the kernel has the change.

    The floor is the one message that it takes.
    """
    chosen = [Node(number, alone=True) for number in range(1, n + 1)]
    ours: list[float] = []
    lowest: list[float] = []
    try:
        declare(_entries(chosen))
        with Sidecar(), Monitor() as monitor:
            wanted.check(chosen)
            monitor.settle()
            for turn in range(bench.runs * _DRIFTS):
                at = bench.chance.randrange(n)
                chosen[at] = replace(chosen[at], mtu=1400 + turn)
                node, text = chosen[at], _entries(chosen)
                monitor.drain()
                started = time.perf_counter()
                declare(text)
                ours.append(_until_right(node, monitor, started))
                with inside(node.number) as sock:
                    message = _set_mtu(wanted.index_of(node), node.mtu)
                    started = time.perf_counter()
                    floor.call(sock, message)
                    lowest.append((time.perf_counter() - started) * 1e3)
                monitor.settle(_QUIET)
            wanted.check(chosen)
    finally:
        declare()
    wanted.gone(chosen)
    target = Target("median", 60) if n == LARGE else None
    yield row("changing", n, "ms", ours, floor=lowest, target=target)


def _entries(chosen: Sequence[Node]) -> str:
    lines = [
        f"- {{container: node_{node.number}, bridge: {BRIDGE}, mtu: {node.mtu},"
        f" ip: {socket.inet_ntoa(node.ip)}/{PREFIX}}}\n"
        for node in chosen
    ]
    return f"links:\n{''.join(lines)}"


def idle(bench: Bench, n: int) -> Iterator[Row]:
    """What a sidecar with its ordinary tick takes of a processor while nothing happens."""
    seconds = 60 if bench.runs > 1 else 5
    with Sidecar(interval=30) as sidecar, Monitor() as monitor:
        monitor.settle()
        monitor.drain()
        before = sidecar.busy()
        time.sleep(seconds)
        share = (sidecar.busy() - before) / seconds * 100
        writes = monitor.drain()
        wanted.check(nodes(n))
    wanted.gone(nodes(n))
    target = Target("median", 0.3) if n == LARGE else None
    yield row("idle", n, "% of a core", [share], target=target)
    yield row("idle", n, "writes", [writes], target=Target("median", 0))
