"""What containers are while faults happen: named network namespaces, or Docker's (docker.py).

Each has the same verbs. Where a network namespace is, is told as a path, "" for our own.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.control import ask
from tests.faults import kernel
from tests.faults.kernel import LOOK, Seen, Teller
from tests.lab.waiting import until

INSTANCE = "faults"
PLANE = "relink"


def await_stop(pid: int) -> None:
    """Wait until a process that was sent SIGSTOP has stopped.

    Each of its threads goes on until it is scheduled next, which can take long on a busy machine.

    Raises:
        TimeoutError: it has not.
    """
    until(lambda: _states(pid) <= set("TtZX"), f"process {pid} stops", seconds=10, period=0.001)


def _states(pid: int) -> set[str]:
    """Return the states of the threads of a process (proc_pid_stat(5)); none if it is gone."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.add(task.read_text().rpartition(")")[2].split()[0])
    return found


@dataclass(slots=True)
class Named:
    """Containers are named network namespaces, the data plane is our own, Relink a process."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None
    tellers: dict[str, Teller] = field(default_factory=dict)

    runtime = "netns"
    plane_goes = False  # when the sidecar ends
    each = 2  # descriptors of a container: what tells of readiness, and who keeps it
    connections = 0  # that its client keeps open

    def target(self, name: str) -> str:
        """Return how ip-link(8) knows the namespace of a container."""
        return name

    def start(self, name: str) -> None:
        """Start a container."""
        kernel.run("ip", "netns", "add", name)

    def stop(self, name: str) -> None:
        """Stop a container, and forget it."""
        self._leave(name)
        kernel.run("ip", "netns", "delete", name)

    def restart(self, name: str) -> None:
        """Stop a container and start it again."""
        self.stop(name)
        self.start(name)

    def forget(self, name: str) -> None:
        """Know nothing of what a container was in an earlier life."""

    def path(self, name: str) -> str:
        """Return where the namespace of a container is, or that of the data plane."""
        return "" if name == PLANE else f"/run/netns/{name}"

    def look(self, name: str) -> Seen:
        """Look at the namespace of a container, or at the data plane."""
        place = self.path(name)
        if name in self.tellers and not self.tellers[name].is_in(place):
            self._leave(name)
        if name not in self.tellers:
            self.tellers[name] = Teller(place)
        return kernel.seen(*self.tellers[name].rows(*LOOK))

    def _leave(self, name: str) -> None:
        if name in self.tellers:
            self.tellers.pop(name).end()

    def words(self, file: Path, *more: str, instance: str = INSTANCE) -> list[str]:
        """Return the words that run a Relink on a file."""
        own = ("--runtime", "netns", "--instance", instance, "--network-file", str(file))
        return [sys.executable, "-m", "reconciler.cli", *own, *more]

    def launch(self, file: Path, log: Path) -> None:
        """Start the sidecar; the tick is an hour away, so that only what is heard is repaired."""
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                self.words(file, "--interval", "3600"),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Send the sidecar a signal."""
        assert self.process
        self.process.send_signal(number)
        if number == signal.SIGSTOP:
            await_stop(self.process.pid)

    def ended(self) -> int:
        """Wait for the sidecar's end; return its exit code."""
        assert self.process
        return self.process.wait(timeout=60)

    def pid(self) -> int:
        """Return the sidecar's process."""
        assert self.process
        return self.process.pid

    def status(self) -> dict[str, Any] | None:
        """Return what the sidecar says of itself; None where it does not answer."""
        try:
            return ask(INSTANCE)
        except OSError:
            return None

    def log(self) -> str:
        """Return what is not in the log's file."""
        return ""

    def close(self) -> None:
        """End the sidecar, if it still runs."""
        for name in list(self.tellers):
            self._leave(name)
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
