"""What every case needs: how often, what was spent, and links to begin with."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench import floor, wanted
from bench.table import Row
from bench.wanted import Node

LARGE = 1000  # containers; what the absolute targets are about


@dataclass(slots=True)
class Bench:
    """One run of the bench: how often, and where chance comes from."""

    runs: int
    chance: random.Random = field(default_factory=lambda: random.Random(158))  # noqa: S311


Case = Callable[[Bench, int], Iterator[Row]]


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
