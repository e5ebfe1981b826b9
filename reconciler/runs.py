"""The commands that were started and what became of them, until the kernel keeps it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from actuators.commands import Commands, Run
from model.keys import Key, NsKey
from model.replicas import Container
from model.resources import Command

Ended = tuple[int, int]  # inode of the namespace it ran in, exit code


@dataclass(slots=True)
class Runs:
    """Commands that run, and the exit codes that no pass has written down yet.

    Args of the callbacks: the command, and a line of its output or its exit code. They are called
    from the command's own thread.
    """

    sockets: Mapping[str, str]
    on_line: Callable[[Command, str], None]
    on_end: Callable[[Command, int], None]
    ended: dict[Key, Ended] = field(default_factory=dict)
    _commands: Commands | None = None
    _idle: threading.Condition = field(default_factory=threading.Condition)

    def start(self, command: Command, container: Container, inode: int) -> None:
        """Run a command, and return at once."""
        if self._commands is None:
            self._commands = Commands(
                self.sockets, lambda run, line: self.on_line(run.command, line), self._end
            )
        self._commands.start(Run(command, container, inode))

    def starter(self, containers: Mapping[NsKey, Container]) -> Callable[[Command, int], None]:
        """Return what starts commands in these containers, for `apply.Hands`."""
        return lambda command, inode: self.start(command, containers[command.key.ns], inode)

    def _end(self, run: Run, code: int) -> None:
        with self._idle:
            self.ended[run.command.key] = (run.namespace, code)
            self._idle.notify_all()
        self.on_end(run.command, code)

    def running(self) -> frozenset[Key]:
        """Return what has not ended."""
        if self._commands is None:
            return frozenset()
        return frozenset(run.command.key for run in self._commands.running())

    def wait(self) -> None:
        """Wait until everything that was started has ended."""
        with self._idle:
            while self.running() - self.ended.keys():
                self._idle.wait(1)

    def written(self, key: Key) -> None:
        """Forget an exit code that the kernel keeps now."""
        self.ended.pop(key, None)

    def forget(self, ns: NsKey) -> None:
        """Forget the exit codes of a life that is over: the kernel gives its inode to another."""
        for key in [key for key in list(self.ended) if key.ns == ns]:
            self.written(key)

    def close(self) -> None:
        """Stop listening; what runs goes on."""
        if self._commands is not None:
            self._commands.close()
