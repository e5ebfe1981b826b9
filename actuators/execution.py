"""What every way to run a command shares: where output goes, and why a command did not run."""

from __future__ import annotations

from collections.abc import Callable

# Exit status of a command that did not run, as docker-run(1) and sh(1) have it: the engine or the
# namespace failed; the program may not or cannot be executed; there is no such program.
FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
SIGNALLED = 128  # and the number of the signal

# Takes the number of a stream (1 standard output, 2 standard error) and bytes from it.
Take = Callable[[int, bytes], None]


class NotRunError(Exception):
    """A command was not run, or nothing is known of its end; the message says why.

    Attributes:
        code: what stands for its exit code.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
