"""A Docker engine that may be hurt: nobody else's containers, images or sockets are in its reach.

It keeps its data between runs, so that the images are there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from docker import APIClient

from tests.faults.http import get
from tests.lab.engine import HOME, STATE, environment
from tests.lab.engine import dockerd as engine_of_tests
from tests.lab.images import ALPINE, RELINK, make_all
from tests.lab.waiting import until

DATA, RUN = HOME / "faults", STATE / "faults"
SOCKET = RUN / "engine.sock"
NAME = RUN.name  # of its namespace, should it share containerd with another engine
_SETTINGS = RUN / "daemon.json"
_LOG = HOME / "faults.log"
_PATIENCE = 60  # seconds


class Daemon:
    """The engine's process; what runs in its containers outlives it if `live_restore` says so."""

    def __init__(self) -> None:
        self.client: Any = APIClient(f"unix://{SOCKET}", version="1.41", timeout=_PATIENCE)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, live_restore: bool = True) -> None:
        """Start it.

        Raises:
            RuntimeError: it ended at once; with the end of its log.
            TimeoutError: it does not answer; with the end of its log.
        """
        # Where nobody reaps the containerd of a killed engine, a new one takes it for alive.
        with contextlib.suppress(FileNotFoundError):
            (RUN / "exec/containerd/containerd.pid").unlink()
        self._write(live_restore=live_restore)
        arguments = {
            "data-root": DATA, "exec-root": RUN / "exec", "pidfile": RUN / "pid",
            "host": f"unix://{SOCKET}", "config-file": _SETTINGS, "log-level": "warn",
            "containerd-namespace": NAME, "containerd-plugins-namespace": f"{NAME}-plugins",
            "bridge": "none", "iptables": "false",
        }  # fmt: skip
        with _LOG.open("ab") as log:
            self._process = subprocess.Popen(
                ["dockerd", *(f"--{key}={value}" for key, value in arguments.items())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        process = self._process
        until(
            lambda: get(SOCKET, "/_ping") == b"OK" or process.poll() is not None,
            "dockerd answers", seconds=_PATIENCE, explain=_end_of_log,
        )  # fmt: skip
        if process.poll() is not None:
            raise RuntimeError(f"dockerd ended with {process.returncode}\n{_end_of_log()}")
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
            pid = int((RUN / "exec/containerd/containerd.pid").read_text())
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
        _SETTINGS.write_text(json.dumps({"live-restore": live_restore}))


@contextmanager
def dockerd() -> Iterator[Daemon]:
    """Have an engine that has nothing but the images; at the end nothing of it runs."""
    for directory in (DATA, RUN):
        directory.mkdir(parents=True, exist_ok=True)
    daemon = Daemon()
    with (RUN / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        daemon.start()
        try:
            daemon.empty()  # what an interrupted run has left
            yield daemon
        finally:
            daemon.empty()
            daemon.stop(live_restore=True)


def furnish() -> None:
    """Bring the images in: those of the other tests, made there."""
    with engine_of_tests():
        make_all()
        with dockerd():
            for image in (ALPINE, RELINK):
                own = ["docker", f"--host=unix://{SOCKET}"]
                wanted = _output(["docker", "image", "inspect", "--format={{.Id}}", image])
                there = _output([*own, "image", "inspect", "--format={{.Id}}", image])
                if wanted != there:
                    packed = subprocess.Popen(
                        ["docker", "save", image], env=environment(), stdout=subprocess.PIPE
                    )
                    load = [*own, "load", "--quiet"]
                    subprocess.run(load, stdin=packed.stdout, stdout=subprocess.DEVNULL, check=True)
                    packed.wait()


def _output(words: Sequence[str]) -> str:
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _end_of_log() -> str:
    return "\n".join(_LOG.read_text(errors="replace").splitlines()[-30:])
