"""What a host does to its processes: no room on disks, no right to write, no descriptors."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

from tests.faults import kernel
from tests.faults.injection import within
from tests.faults.kinds.drift import drift
from tests.faults.kinds.fault import ALL, Fault, Touched
from tests.faults.world import World

_RUN = "/run/relink"
_INODES = 1 << 20
_SOON = 0.3  # seconds
_LEAVING = 10.0  # seconds: until the kernel has taken back what a killed process had open
_EPOCH = time.time() - time.monotonic()  # when the machine was started, as its clock had it
_JUMPS = (1.0, 3600.0, 86400.0, 365 * 86400.0)  # seconds


def _disk_full(world: World) -> Touched:
    """Nothing can be added to the log, whatever there is to say."""
    if world.engine.plane_goes:
        return None
    filler = world.engine.directory / "filler"
    _fill(filler, bytes(1 << 16))
    _fill(world.log_file, b"\n")  # the rest of its last page
    world.afterwards.append(partial(_room_again, world, filler, world.log_file.stat().st_size))
    return drift(world)


def _room_again(world: World, filler: Path, said: int) -> None:
    """The next that is said tells how much is lost, if anything was to be said meanwhile."""
    filler.unlink()
    link = world.declared.links(world.containers[0])[0]
    kernel.ip([f"link set {link.inner} mtu {link.mtu - 8}"], world.place(link.container))
    if not within(_SOON * 10, lambda: '"lines_lost"' in world.log_since(said)):
        world.idle.append("nothing was to be said")


def _fill(file: Path, with_: bytes) -> None:
    with file.open("ab", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(with_)


def _run(options: str) -> None:
    kernel.run("mount", "-o", f"remount,{options}", _RUN)


def _read_only_run(world: World) -> Touched:
    """It starts with another place for its socket, and is found there."""
    if world.engine.plane_goes:
        return None
    world.end(signal.SIGKILL)
    _run("ro")
    world.afterwards.append(partial(_writable_run, world))
    return world.relaunch()


def _run_turns_read_only(world: World) -> Touched:
    """As a disk that fails does: the sidecar goes on, and another begins elsewhere."""
    if world.engine.plane_goes:
        return None
    _run("ro")
    world.afterwards.append(partial(_writable_run, world))
    drift(world)
    if world.engine.status() is None:
        raise AssertionError("it is not found any more")
    if code := world.end():
        raise AssertionError(f"exit code {code} of an orderly stop")
    world.relaunch()
    return ALL


def _writable_run(world: World) -> None:
    _run("rw")  # nobody looks for it where it is now
    world.end(signal.SIGKILL)
    world.relaunch()


def _full_run(world: World) -> Touched:
    """It does not start where no socket can be, and says why."""
    if world.engine.plane_goes:
        return None
    world.end(signal.SIGKILL)
    for file in Path(_RUN).iterdir():
        file.unlink()
    if not within(_LEAVING, lambda: _inodes() == 1):  # its directory
        raise AssertionError(f"somebody keeps {_inodes() - 1} files of who was killed")
    room = world.random.randint(0, 1)  # for the lock, but for no socket
    _run(f"nr_inodes={1 + room}")
    try:
        code, said = _refused(world.engine.words(world.file))
    finally:
        _run(f"nr_inodes={_INODES}")
    if code != 1 or _RUN not in said or "Traceback" in said:
        raise AssertionError(f"started without {_RUN}: {code} {said}")
    return world.relaunch()


def _inodes() -> int:
    return int(kernel.run("df", "--output=iused", _RUN).split()[-1])


def _refused(words: list[str]) -> tuple[int, str]:
    """Return the exit code of what should end at once, and what it said; if not, where it was."""
    own = os.environ | {"PYTHONFAULTHANDLER": "1"}
    output = subprocess.PIPE
    with subprocess.Popen(words, env=own, stdout=output, stderr=output, text=True) as process:
        try:
            said = process.communicate(timeout=60)[1]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            said = "".join(process.communicate(timeout=60))
        return process.returncode, said


def _few_descriptors(world: World) -> Touched:
    """It may open no more, or few more, for a while."""
    if world.engine.plane_goes:
        return None
    pid = world.engine.pid()
    last = max(int(file.name) for file in Path(f"/proc/{pid}/fd").iterdir())
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    lowered = last + 1 + world.random.randint(0, 4)
    said = world.log_file.stat().st_size
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowered, before[1]))
    try:
        touched = drift(world)
        if not within(_SOON, lambda: "too many open files" in world.log_since(said).lower()):
            world.idle.append("they were enough")
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    return touched


def _clock_set(world: World) -> Touched:
    """The time of day is another, forwards or back, by moments or years, and something drifts."""
    jump = world.random.choice(_JUMPS) * world.random.uniform(-1, 1)
    time.clock_settime(time.CLOCK_REALTIME, _EPOCH + time.monotonic() + jump)
    world.afterwards.append(_clock_right)
    return drift(world)


def _clock_right() -> None:
    time.clock_settime(time.CLOCK_REALTIME, _EPOCH + time.monotonic())


HOST: dict[str, Fault] = {
    "no room for the log": _disk_full,
    "/run read-only": _read_only_run,
    "/run turns read-only": _run_turns_read_only,
    "/run full": _full_run,
    "no more descriptors": _few_descriptors,
}

# On a machine of one's own, whose clock is nobody else's.
CLOCK: dict[str, Fault] = {"clock set": _clock_set}
