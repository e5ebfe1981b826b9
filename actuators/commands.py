"""Running declared commands in containers, each in a thread of its own; decides nothing about when.

The words of a command reach its program as they are: no shell is added. A command that was started
runs to its end whatever becomes of Relink; nothing here ever kills one.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from actuators.exec_engine import EngineExec
from actuators.exec_namespace import NamespaceExec
from actuators.execution import FAILED, NOT_EXECUTABLE, NotRunError
from model.replicas import Container
from model.resources import Command

LONGEST_LINE = 8192  # characters; a longer line comes in pieces of this length


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command.

    Attributes:
        command: what is run; its key says where and its `argv` what.
        container: the container as it was when the run was decided on.
        namespace: inode of its network namespace, which tells this life of the container from the
            next one: an engine keeps the id of a container that it restarts.
    """

    command: Command
    container: Container
    namespace: int


class Commands:
    """The commands that run now, from `start` until each has ended or `close` is called.

    Both callbacks are called from the thread of the command that they are about.

    Args:
        sockets: path of each engine's socket, by the name of its runtime.
        on_line: called with one line of what was printed, to standard output or error, without its
            end; what is not UTF-8 in it is replaced.
        on_end: called once with the exit code, after the last line. One that a signal ended has
            128 and its number. One that did not run has 125, 126 or 127 (see
            actuators/execution.py), and its last line says why: in the engine's words, or in ours
            after `relink: `.
    """

    def __init__(
        self,
        sockets: Mapping[str, str],
        on_line: Callable[[Run, str], None],
        on_end: Callable[[Run, int], None],
    ) -> None:
        self._sockets = sockets
        self._on_line = on_line
        self._on_end = on_end
        self._lock = threading.Lock()
        self._running: dict[Run, EngineExec | NamespaceExec] = {}
        self._closed = False

    def start(self, run: Run) -> None:
        """Run a command, and return at once; all of them run side by side.

        One that runs already is not started again, and nothing is after `close`.
        """
        container, argv = run.container, run.command.argv
        execution: EngineExec | NamespaceExec
        if container.runtime == "netns":
            execution = NamespaceExec(container.netns, run.namespace, argv)
        else:
            path = self._sockets[container.runtime]
            execution = EngineExec(container.runtime, path, container.id, argv)
        with self._lock:
            if self._closed or run in self._running:
                return
            self._running[run] = execution
        thread = threading.Thread(
            target=self._follow,
            args=(run, execution),
            name=f"command-{container.name}",
            daemon=True,  # a command may run for ever, and must not keep Relink from stopping
        )
        try:
            thread.start()
        except RuntimeError:  # what Python makes of EAGAIN (3.11)
            with self._lock:
                del self._running[run]
            self._say(run, "relink: no thread can be started for it; see the limit of pids")
            self._on_end(run, FAILED)

    def running(self) -> frozenset[Run]:
        """Return what has not ended."""
        with self._lock:
            return frozenset(self._running)

    def close(self) -> None:
        """Stop listening. What runs goes on to its end, in containers and namespaces alike.

        Its output goes nowhere from then on, and its exit code is not learned: an engine takes
        what is printed in a container; in a plain namespace, where nobody else reads it, a program
        that prints meets a closed pipe (SIGPIPE, see pipe(7)).
        """
        with self._lock:
            self._closed = True
            running = list(self._running.values())
        for execution in running:
            execution.interrupt()

    def _follow(self, run: Run, execution: EngineExec | NamespaceExec) -> None:
        texts = {1: Lines(), 2: Lines()}

        def take(stream: int, data: bytes, *, end: bool = False) -> None:
            for line in texts[stream].feed(data, end=end):
                self._say(run, line)

        try:
            _check(run.command.argv)
            code: int | None = execution.run(take)
            reason = ""
        except NotRunError as error:
            code, reason = error.code, str(error)
        for stream in texts:
            take(stream, b"", end=True)
        if reason:
            self._say(run, f"relink: {reason}")
        with self._lock:
            del self._running[run]
            closed = self._closed
        if code is not None and not closed:
            self._on_end(run, code)

    def _say(self, run: Run, line: str) -> None:
        if not self._closed:
            self._on_line(run, line)


class Lines:
    """Bytes of a stream, as they come, made into lines of text."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes, *, end: bool = False) -> list[str]:
        """Take bytes and return the lines that they complete; with `end`, the unfinished one too.

        A line ends with a line feed; a carriage return before it belongs to that end.
        """
        *lines, self._rest = (self._rest + self._decoder.decode(data, final=end)).split("\n")
        if self._rest and (end or len(self._rest) > LONGEST_LINE):
            cut = len(self._rest) if end else len(self._rest) // LONGEST_LINE * LONGEST_LINE
            lines.append(self._rest[:cut])
            self._rest = self._rest[cut:]
        return [piece for line in lines for piece in _pieces(line.removesuffix("\r"))]


def _pieces(line: str) -> list[str]:
    starts = range(0, len(line), LONGEST_LINE)
    return [line[at : at + LONGEST_LINE] for at in starts] or [""]


def _check(argv: tuple[str, ...]) -> None:
    """Raise NotRunError for what the kernel cannot pass to a program (execve(2))."""
    if not argv:
        raise NotRunError(NOT_EXECUTABLE, "the command is empty; name a program to run")
    for position, word in enumerate(argv):
        if "\0" in word:
            raise NotRunError(
                NOT_EXECUTABLE,
                f"word {position} of the command holds a NUL byte, which ends a word for the "
                "kernel; remove it",
            )
