"""What a fault is.

A fault does its work and says which containers' links it may have touched: all others have to go
on without notice. It returns None where it cannot happen now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from tests.faults.world import World

Touched = set[str] | None  # containers, and bridges
Fault = Callable[[World], Touched]
ALL = {"*"}


def some(world: World, faults: Iterable[Fault], times: int = 1) -> set[str]:
    """Let some of these happen, of those that can now; return whose links they may have touched."""
    touched: set[str] = set()
    faults = list(faults)
    for fault in world.random.sample(faults, len(faults)):
        if (one := fault(world)) is not None:
            touched |= one
            times -= 1
        if not times:
            return touched
    raise AssertionError("too few of these faults can happen")


def until(what: Callable[[], bool], why: str, seconds: float = 10.0) -> None:
    """Wait for `what` to hold.

    Raises:
        AssertionError: it does not within the time; with `why` one waits for it.
    """
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {why}")
        time.sleep(0.01)
