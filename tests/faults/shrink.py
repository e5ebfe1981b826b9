"""Makes a sequence of faults that breaks something as short as it goes (delta debugging)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tests.faults.driver import Step


def shrink(
    steps: Sequence[Step], breaks: Callable[[Sequence[Step]], bool], seconds: float
) -> list[Step]:
    """Return a part of `steps`, in their order, for which `breaks` still holds.

    Larger parts are left out first, then smaller ones, until nothing can be left out or the time is
    over. A. Zeller, R. Hildebrandt: Simplifying and isolating failure-inducing input (2002).
    """
    end = time.monotonic() + seconds
    left = list(steps)
    size = max(1, len(left) // 2)
    while time.monotonic() < end:
        for start in range(0, len(left), size):
            if time.monotonic() > end:
                break
            fewer = left[:start] + left[start + size :]
            if fewer and breaks(fewer):
                left = fewer
                break
        else:
            if size == 1:
                break
            size = max(1, size // 2)
            continue
        size = min(size, max(1, len(left) // 2))
    return left
