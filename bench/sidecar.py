"""A real sidecar process over the containers of the bench."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Self

from bench.lab import CONFIG, INSTANCE

ROOT = Path(__file__).parent.parent
PROGRAM = (sys.executable, "-m", "reconciler.cli")
WORDS = ("--runtime", "netns", "--instance", INSTANCE, "--network-file", str(CONFIG))
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LONGEST = 120  # seconds until a thousand links are up, on a slow machine


class Sidecar:
    """A sidecar that has connected all links; stopped, and its links removed, at the end.

    Its tick is an hour away, if nothing else is said: it does what the kernel rang for.
    """

    def __init__(self, interval: int = 3600) -> None:
        self._log: Queue[str] = Queue()
        self._said: list[str] = []
        self._process = subprocess.Popen(
            [*PROGRAM, *WORDS, "--interval", str(interval)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_stop_with_parent,  # noqa: PLW1509 - no other thread runs yet
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        try:
            self._until("All links connected")
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_LONGEST)
        finally:
            self._process.kill()
            self._process.wait()

    def memory(self) -> tuple[float, float]:
        """Return resident memory, now and at most so far, in MiB."""
        return resident(self._process.pid)

    def busy(self) -> float:
        """Return the seconds of processors it has used, the kernel's on its behalf included."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): 14 and 15

    def _read(self) -> None:
        for line in self._process.stderr or ():
            self._log.put(line)
        self._log.put("")

    def _until(self, event: str) -> None:
        while True:
            try:
                line = self._log.get(timeout=_LONGEST)
            except Empty:
                line = ""
            self._said.append(line)
            if not line:
                raise AssertionError(f"no {event!r} from the sidecar:\n{''.join(self._said[-20:])}")
            if line.startswith("{") and json.loads(line)["event"] == event:
                return


def _stop_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def resident(pid: int) -> tuple[float, float]:
    """Return resident memory of a process, now and at most so far, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = {name: value for name, _, value in (line.partition(":") for line in lines)}
    now, most = (int(values[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, most
