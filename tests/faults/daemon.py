"""A Docker engine that may be hurt: nobody else's containers, images or sockets are in its reach.

There are places for two, which keep their data between runs, so that the images are there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import APIClient

from tests.faults.unix_http import get
from tests.lab.engine import HOME, STATE, environment
from tests.lab.engine import dockerd as engine_of_tests
from tests.lab.images import ALPINE, RELINK, make_all
from tests.lab.waiting import until

_PATIENCE = 60  # seconds


@dataclass(frozen=True, slots=True)
class Place:
    """Where one engine is, alone. Its name is that of its namespace in containerd, too."""

    name: str

    @property
    def data(self) -> Path:
        """What it keeps."""
        return HOME / self.name

    @property
    def run(self) -> Path:
        """What is gone with it."""
        return STATE / self.name

    @property
    def socket(self) -> Path:
        """Where it answers."""
        return self.run / "engine.sock"

    @property
    def settings(self) -> Path:
        """What it reads again when it is told to."""
        return self.run / "daemon.json"

    @property
    def log(self) -> Path:
        """What it has said."""
        return HOME / f"{self.name}.log"


def _end(file: Path, place: Place) -> None:
    """End a process that a run left behind which was ended itself."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(file.read_text())
        if f"{place.run}/" in Path(f"/proc/{pid}/cmdline").read_text():
            descriptor = os.pidfd_open(pid)
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], _PATIENCE)
            os.close(descriptor)
    # Where nobody reaps a process that was killed, a new one takes it for alive.
    file.unlink(missing_ok=True)


PLACES = (Place("faults"), Place("faults-2"))  # as many may be at a time


class Daemon:
    """The engine's process; what runs in its containers outlives it if `live_restore` says so."""

    def __init__(self, place: Place) -> None:
        self.place = place
        url = f"unix://{place.socket}"
        self.client: Any = APIClient(url, version="1.41", timeout=_PATIENCE)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, live_restore: bool = True) -> None:
        """Start it.

        Raises:
            RuntimeError: it ended at once; with the end of its log.
            TimeoutError: it does not answer; with the end of its log.
        """
        place = self.place
        _end(place.run / "pid", place)  # first, as it would start the other again
        _end(place.run / "exec/containerd/containerd.pid", place)
        self._write(live_restore=live_restore)
        arguments = {
            "data-root": place.data, "exec-root": place.run / "exec", "pidfile": place.run / "pid",
            "host": f"unix://{place.socket}", "config-file": place.settings, "log-level": "warn",
            "containerd-namespace": place.name,
            "containerd-plugins-namespace": f"{place.name}-plugins",
            "bridge": "none", "iptables": "false",
        }  # fmt: skip
        with place.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["dockerd", *(f"--{key}={value}" for key, value in arguments.items())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        process = self._process
        until(
            lambda: get(place.socket, "/_ping") == b"OK" or process.poll() is not None,
            "dockerd answers", seconds=_PATIENCE, explain=self._end_of_log,
        )  # fmt: skip
        if process.poll() is not None:
            raise RuntimeError(f"dockerd ended with {process.returncode}\n{self._end_of_log()}")
        self.client.close()  # its connections were to the one before

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it without warning, and its containerd, as in a crash of the whole service."""
        assert self._process
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.place.run / "exec/containerd/containerd.pid").read_text())
            os.kill(pid, signal.SIGKILL)

    def stop(self, *, live_restore: bool) -> None:
        """End it in order; its containers end with it or go on."""
        assert self._process
        if self._process.poll() is not None:
            return
        if not live_restore:
            self.set(live_restore=False)
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def set(self, *, live_restore: bool) -> None:
        """Say whether containers go on without it."""
        self._write(live_restore=live_restore)
        self.signal(signal.SIGHUP)
        until(
            lambda: self.client.info()["LiveRestoreEnabled"] == live_restore,
            "dockerd has read its settings",
        )

    def recover(self) -> None:
        """Have it run, whatever was done to it."""
        assert self._process
        if self._process.poll() is None:
            self.signal(signal.SIGCONT)
        else:
            self.start()

    def empty(self) -> None:
        """Take away all containers and networks that somebody made in it."""
        for container in self.client.containers(all=True):
            self.client.remove_container(container["Id"], force=True)
        self.client.prune_networks()

    def _write(self, *, live_restore: bool) -> None:
        self.place.settings.write_text(json.dumps({"live-restore": live_restore}))

    def _end_of_log(self) -> str:
        return "\n".join(self.place.log.read_text(errors="replace").splitlines()[-30:])


@contextmanager
def dockerd(places: Sequence[Place] = PLACES) -> Iterator[Daemon]:
    """Have an engine that has nothing but the images; at the end nothing of it runs."""
    with ExitStack() as stack:
        daemon = Daemon(_free(places, stack))
        daemon.start()
        try:
            daemon.empty()  # what an interrupted run has left
            yield daemon
        finally:
            daemon.empty()
            daemon.stop(live_restore=True)


def _free(places: Sequence[Place], stack: ExitStack) -> Place:
    """Take the first place that is free, or wait for the last."""
    for place in places:
        for directory in (place.data, place.run):
            directory.mkdir(parents=True, exist_ok=True)
        turn = stack.enter_context((place.run / "lock").open("w"))
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return place
    fcntl.flock(turn, fcntl.LOCK_EX)
    return place


def furnish() -> None:
    """Bring the images in: those of the other tests, made there."""
    with engine_of_tests():
        make_all()
        for place in PLACES:
            with dockerd([place]):
                for image in (ALPINE, RELINK):
                    _bring(image, place)


def _bring(image: str, place: Place) -> None:
    own = ["docker", f"--host=unix://{place.socket}"]
    wanted = _output(["docker", "image", "inspect", "--format={{.Id}}", image])
    there = _output([*own, "image", "inspect", "--format={{.Id}}", image])
    if wanted == there:
        return
    packed = subprocess.Popen(["docker", "save", image], env=environment(), stdout=subprocess.PIPE)
    load = [*own, "load", "--quiet"]
    subprocess.run(load, stdin=packed.stdout, stdout=subprocess.DEVNULL, check=True)
    packed.wait()


def _output(words: Sequence[str]) -> str:
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    return done.stdout.strip()
