"""The exit of real processes."""

from __future__ import annotations

import os
import queue
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from observers.process import ProcessWatch


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def exits() -> Iterator[tuple[ProcessWatch[str], queue.Queue[str]]]:
    before = descriptors()
    rung: queue.Queue[str] = queue.Queue()
    watch: ProcessWatch[str] = ProcessWatch(rung.put)
    yield watch, rung
    watch.close()
    watch.close()
    assert descriptors() == before, "every descriptor must be released"


def test_an_exit_rings_once(exits: tuple[ProcessWatch[str], queue.Queue[str]]) -> None:
    watch, rung = exits
    first, second = sleeper(), sleeper()
    assert watch.add(first.pid, "first")
    assert watch.add(second.pid, "second")
    end(first)
    assert rung.get(timeout=2) == "first"
    end(second)
    assert rung.get(timeout=2) == "second"
    assert rung.empty()


def test_what_is_gone_cannot_be_watched(
    exits: tuple[ProcessWatch[str], queue.Queue[str]],
) -> None:
    watch, rung = exits
    process = sleeper()
    end(process)
    assert not watch.add(process.pid, "gone")
    assert not watch.add(0, "none")
    watch.close()
    assert not watch.add(os.getpid(), "late")
    assert rung.empty()


def test_removed_and_replaced_processes_stay_silent(
    exits: tuple[ProcessWatch[str], queue.Queue[str]],
) -> None:
    watch, rung = exits
    removed, replaced, current = sleeper(), sleeper(), sleeper()
    watch.add(removed.pid, "removed")
    watch.add(replaced.pid, "web")
    watch.add(current.pid, "web")
    watch.remove("removed")
    watch.remove("never added")
    end(removed)
    end(replaced)
    end(current)
    assert rung.get(timeout=2) == "web"
    assert rung.empty()


def test_watching_leaks_no_descriptor(
    exits: tuple[ProcessWatch[str], queue.Queue[str]],
) -> None:
    watch, _ = exits
    process = sleeper()
    watch.add(process.pid, "a")
    before = descriptors()
    for _ in range(100):
        watch.add(process.pid, "a")
        watch.add(process.pid, "b")
        watch.remove("b")
    assert descriptors() == before
    end(process)
