"""The short form: a few sequences of faults; `make faults` is the long one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.faults.driver import Step
from tests.faults.shrink import shrink
from tests.lab import engine
from tests.lab.waiting import patient


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_every_invariant_holds_after_each_fault(seed: int) -> None:
    """Each sequence has a process and namespaces of its own; the fifth has Open vSwitch."""
    _held("netns", seed, 30)


def test_a_lack_of_processes_is_lived_through() -> None:
    _held("netns", 3, 4, "--kinds", "EAGAIN")


@pytest.mark.docker
def test_every_invariant_holds_whatever_becomes_of_an_engine() -> None:
    """It is one of its own, so that it can be killed."""
    if why := engine.unable():
        pytest.skip(f"{why}; .ci/run runs it")
    _held("docker", 1, 30)


def _held(runtime: str, seed: int, events: int, *more: str) -> None:
    words = ("--runtime", runtime, "--seed", str(seed), "--events", str(events), "--shrink", "0")
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *words, *more],
        capture_output=True,
        text=True,
        timeout=patient(300),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"seed {seed}: {events} faults, every invariant held" in done.stdout


STEPS = [Step(number, name) for number, name in enumerate("abcdefghij", 1)]


@pytest.mark.parametrize("guilty", ["c", "aj", "bce", "abcdefghij"])
def test_what_breaks_is_found_among_what_does_not(guilty: str) -> None:
    def breaks(steps: Sequence[Step]) -> bool:
        return set(guilty) <= {step.name for step in steps}

    assert "".join(step.name for step in shrink(STEPS, breaks, 10)) == guilty
