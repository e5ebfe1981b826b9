"""Relink's own ends, and others of its kind."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import replace

from tests.faults import invariants, kernel
from tests.faults.kinds.configuration import change
from tests.faults.kinds.containers import SCALING
from tests.faults.kinds.drift import drift
from tests.faults.kinds.fault import ALL, Fault, Touched, some, until
from tests.faults.world import World


def _killed(world: World) -> Touched:
    world.end(signal.SIGKILL)
    return world.relaunch()


def _killed_at_work(world: World) -> Touched:
    """In the middle of putting something right, wherever it is then."""
    touched = drift(world)
    time.sleep(world.random.uniform(0, 0.004))  # no event tells where a pass is: chance does
    world.end(signal.SIGKILL)
    return touched | world.relaunch()


def _killed_and_drifted(world: World) -> Touched:
    if world.engine.plane_goes:
        return None
    world.end(signal.SIGKILL)
    touched = drift(world)
    return touched | world.relaunch()


def _killed_and_changed(world: World) -> Touched:
    """It comes back to another configuration, and to other containers."""
    world.end(signal.SIGKILL)
    touched = change(world) or set()
    touched |= some(world, SCALING)
    return touched | world.relaunch()


def _older(world: World) -> Touched:
    """It comes back to what was declared before."""
    before = replace(world.previous, mode=world.declared.mode)
    if before == world.declared:
        return None
    code = world.end(world.random.choice([signal.SIGKILL, signal.SIGTERM]))
    world.declare(before)
    world.relaunch()
    killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)  # as a parent has it, or an engine
    return set() if killed and not world.engine.plane_goes else ALL


def _stopped(world: World) -> Touched:
    """For a while, in which things change."""
    world.engine.signal(signal.SIGSTOP)
    touched = drift(world)
    time.sleep(world.stopped)  # nothing is awaited: that it does nothing is the fault
    touched |= some(world, SCALING)
    world.engine.signal(signal.SIGCONT)
    return touched


def _paused(world: World) -> Touched:
    world.engine.signal(signal.SIGSTOP)
    touched = drift(world, 2)
    touched |= some(world, SCALING)
    world.engine.signal(signal.SIGCONT)
    return touched


def _terminated(world: World) -> Touched:
    if code := world.end(signal.SIGTERM):
        raise AssertionError(f"exit code {code} of an orderly stop")
    if left := invariants.left(world):
        raise AssertionError(f"left after an orderly stop: {left}")
    world.relaunch()
    return ALL


def _terminated_at_work(world: World) -> Touched:
    drift(world)
    return _terminated(world)


def _second_of_the_same_name(world: World) -> Touched:
    words = world.engine.words(world.file)
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 1 or "another Relink runs" not in done.stderr:
        raise AssertionError(f"a second of the same name: {done.returncode} {done.stderr}")
    return set()


def _once_of_another_name(world: World) -> Touched:
    """Somebody else's Relink makes a link of its own in our containers, and takes it away."""
    name = world.random.choice(world.containers)
    file = world.file.with_name("others.yaml")
    link = f"container: {name}, bridge: others, dev: foreign0, ip: 10.9.0.1/24"
    file.write_text(f"links: [{{{link}}}]\n")
    for how in ("--once", "--destroy"):
        kernel.run(*world.engine.words(file, how, instance="others"))
    return set()


def _beside_another(world: World) -> Touched:
    """Somebody else's Relink has a link in our containers, and goes on while ours is put right."""
    file = world.file.with_name("others.yaml")
    name = world.random.choice(world.containers)
    link = f"container: {name}, bridge: foreign1, dev: foreign0, outer-dev: foreign2"
    bridge = "bridges: [{bridge: foreign1, mode: linux}]"
    file.write_text(f"{bridge}\nlinks: [{{{link}, ip: 10.9.0.1/24}}]\n")
    words = world.engine.words(file, "--interval", "3600", instance="others")
    other = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def is_there() -> bool:
        return "10.9.0.1/24" in world.engine.look(name).addresses("foreign0")

    def ends() -> None:
        kept = is_there()
        other.terminate()
        if (code := other.wait(60)) or not kept or is_there():
            raise AssertionError(f"another Relink's link in {name}: {kept=}, it ended with {code}")

    world.afterwards.append(ends)
    until(is_there, "another Relink has its link", 30)
    return drift(world)


RELINK: dict[str, Fault] = {
    "killed": _killed,
    "killed at work": _killed_at_work,
    "killed, and drift meanwhile": _killed_and_drifted,
    "killed, and others when it comes back": _killed_and_changed,
    "back to the file before": _older,
    "paused": _paused,
    "stopped for a while": _stopped,
    "terminated": _terminated,
    "terminated at work": _terminated_at_work,
    "a second one of the same name": _second_of_the_same_name,
    "one of another name": _once_of_another_name,
}

# Where it is a process of ours, which a signal ends.
BESIDE: dict[str, Fault] = {"another Relink beside it": _beside_another}
