"""Waiting for something to become true, never longer than a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tests.lab.features import guest

Answer = TypeVar("Answer")

PERIOD = 0.02  # seconds between two looks
PATIENCE = 5 if guest() == "qemu" else 1  # an emulated machine is so much slower


def patient(seconds: float) -> float:
    """Return how long to wait on this machine for what takes at most `seconds` on any other."""
    return seconds * PATIENCE


def until(
    look: Callable[[], Answer],
    what: str,
    *,
    seconds: float = 30.0,
    explain: Callable[[], str] = str,
    period: float = PERIOD,
) -> Answer:
    """Call `look` until its answer is true, and return that answer.

    Args:
        look: one look at the world; must not raise for what is merely not there yet.
        what: what is awaited, for the failure.
        seconds: the deadline.
        explain: called at the deadline, for what a reader of the failure wants to see (a log).
        period: seconds between two looks.

    Raises:
        TimeoutError: the deadline passed; with the last answer and what `explain` says.
    """
    seconds = patient(seconds)
    end = time.monotonic() + seconds
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s; last {answer!r}\n{explain()}")
        time.sleep(period)
