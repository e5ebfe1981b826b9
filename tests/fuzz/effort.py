"""How much is tried: little with every change, much with `RELINK_FAULTS=long`; and its figures.

`RELINK_TRIES` is how many times as much as with every change that is, 10 if it is not set.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings

LONG = os.environ.get("RELINK_FAULTS") == "long"
_MOST = 256 << 10  # KiB that this process may hold more than ever before
_FACTOR = int(os.environ.get("RELINK_TRIES", "10"))

Test = TypeVar("Test", bound=Callable[..., Any])


def tries(number: int) -> Callable[[Test], Test]:
    """Try so many examples, and many times as many in the long form, new ones each time."""
    return settings(
        max_examples=number * (_FACTOR if LONG else 1),
        derandomize=not LONG and "CI" in os.environ,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class Count:
    """How often something was tried, and how long all of it took."""

    def __init__(self) -> None:
        self.tried = 0
        self.refused = 0


@contextmanager
def counted(measured: Callable[[str], None]) -> Iterator[Count]:
    """Count executions in the body, and say at its end how many there were.

    Raises:
        AssertionError: they took more memory than such files may.
    """
    count, started, before = Count(), time.monotonic(), _most_held()
    yield count
    took = time.monotonic() - started
    measured(f"{count.tried} executions, {count.refused} refused, {took:.0f} s, none crashed")
    grown = _most_held() - before
    assert grown < _MOST, f"{grown >> 10} MiB more at once"


def _most_held() -> int:
    """Return how many KiB this process has held at once, at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
