"""Interferes with system calls of a process that runs, by strace(1): fails, signals or delays them.

What happened stands in its output, so that a fault can be sure that it did happen.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 3.0  # seconds


@contextmanager
def injected(pid: int, calls: str, what: str, told: Path) -> Iterator[None]:
    """Do `what` to system calls of a process and its threads, as strace's `inject=` has it.

    Counting (`when=`) begins now, for each thread. What was called is in the file `told`. Programs
    that it starts are interfered with, too, except by signals.

    Raises:
        RuntimeError: strace could not attach; with what it said.
    """
    told.write_text("")
    words = ["strace", "-f", "-p", str(pid), "-o", str(told)]
    if what.startswith("signal="):
        words += ["-b", "execve"]  # let go of what becomes another program
    process = subprocess.Popen(
        [*words, "-e", f"trace={calls}", "-e", f"inject={calls}:{what}"],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr
    try:
        said = process.stderr.readline()
        if "attached" not in said:
            raise RuntimeError(f"strace: {said}")
        yield
    finally:
        process.send_signal(signal.SIGINT)  # it lets go of what it traces
        try:
            process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            # It waits for a thread that is in vfork(2), whose child waits for it (strace 6.1).
            process.kill()
            process.communicate()


def happened(told: Path, seconds: float, name: str = "") -> bool:
    """Wait until something was injected; tell if it was within the time.

    Of a signal, by its name, it is told that it came, and not that it was injected (strace 6.1).
    """
    words = (f"--- {name} ", f"+++ killed by {name} ") if name else ("INJECTED",)
    return within(seconds, lambda: any(word in told.read_text() for word in words))


def within(seconds: float, what: Callable[[], bool]) -> bool:
    """Wait until `what` holds; tell if it did within the time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)  # neither a file nor a stop of no child of ours rings a bell
    return True
