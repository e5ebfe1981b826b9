"""The exit of real processes."""

from __future__ import annotations

import os
import platform
import queue
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from observers.process import ProcessWatch, how_it_ended


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
    watch: ProcessWatch[str] = ProcessWatch(lambda token, _fd: rung.put(token))
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


PARENT = """
import os, signal, subprocess, sys
child = subprocess.Popen(["sh", "-c", sys.argv[1]])
print(child.pid, flush=True)
if sys.argv[2] == "waits":
    child.wait()
    print("waited", flush=True)
os.close(1)
signal.pause()
"""
ENDS = {
    "exit 0": "ended with exit status 0",
    "exit 3": "ended with exit status 3",
    "kill -9 $$": "ended by signal 9",
    "kill $$": "ended by signal 15",
}


@pytest.mark.parametrize("script", ENDS)
def test_how_a_child_ended_is_told_and_it_is_waited_for(script: str) -> None:
    with subprocess.Popen(["sh", "-c", script]) as child:
        process = os.pidfd_open(child.pid)
        select.select([process], [], [], 5)
        assert how_it_ended(process) == ENDS[script]
        os.close(process)
        assert not Path(f"/proc/{child.pid}").exists()


@pytest.mark.parametrize("script", ENDS)
@pytest.mark.parametrize("parent", ["waits", "does not wait"])
def test_how_a_process_of_somebody_else_ended_is_told(script: str, parent: str) -> None:
    words = [sys.executable, "-c", PARENT, f"read go; {script}", parent]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin
        assert other.stdout
        process = os.pidfd_open(int(other.stdout.readline()))
        other.stdin.write(b"go\n")
        other.stdin.flush()
        select.select([process], [], [], 5)
        other.stdout.read()
        release = tuple(map(int, platform.release().split(".")[:2]))
        # An older kernel keeps nothing of a process whose parent has waited for it.
        lost = parent == "waits" and release < (6, 15)
        assert how_it_ended(process) == ("ended" if lost else ENDS[script])
        os.close(process)
        other.kill()
