"""Noticing that a configuration file changed, however it was replaced."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from observers.inotify import IN_ATTRIB, IN_CLOSE_WRITE, IN_CREATE, IN_DELETE, IN_MOVED_TO, Inotify
from reconciler.sources import States, states

_EVENTS = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ATTRIB
_TOGETHER = 0.05  # seconds without a change: several files saved in a moment are read together
_LONGEST = 1.0  # seconds until files that are written on and on are read all the same


class FileWatch:
    """Calls `changed` in the running event loop, while it lives.

    An editor replaces a file rather than writing it, so the directory is watched, and its own
    directory for when it is replaced; a bind-mounted file changes without its directory, so the
    file is watched too. All that only says when to look: what counts is the file at the end of
    every link. Files that are not as they were `seen` when they were read have changed since.
    """

    def __init__(self, names: Iterable[str], changed: Callable[[], None], seen: States) -> None:
        self._paths = [Path(name).absolute() for name in names]
        self._changed = changed
        self._inotify = Inotify()
        self._watch()
        self._seen = seen
        self._pending: asyncio.TimerHandle | None = None
        self._found = self._seen
        self._since = 0.0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inotify.fd, self._rang)
        self.check()

    def _watch(self) -> None:
        """Watch what is there now; watching a thing twice is watching it once."""
        for path in self._paths:
            for target in (path, path.parent, path.parent.parent):
                with contextlib.suppress(OSError):
                    self._inotify.add(target, _EVENTS)

    def check(self) -> None:
        """Look at the files themselves."""
        if states(self._paths) != self._seen:
            self._soon()

    @property
    def is_quiet(self) -> bool:
        """Whether the files are what they were when they were last read, as far as is known."""
        return self._pending is None

    def close(self) -> None:
        """Stop watching."""
        self._loop.remove_reader(self._inotify.fd)
        self._inotify.close()
        if self._pending:
            self._pending.cancel()

    def _rang(self) -> None:
        self._inotify.read()
        self._watch()  # a directory that was replaced is another one
        self.check()

    def _soon(self) -> None:
        if self._pending:
            self._pending.cancel()
        else:
            self._since = self._loop.time()
        self._found = states(self._paths)
        self._pending = self._loop.call_later(_TOGETHER, self._now)

    def _now(self) -> None:
        found = states(self._paths)
        # Half a file may be a valid one: who writes it in place is waited for.
        if found != self._found and self._loop.time() - self._since < _LONGEST:
            self._soon()
            return
        self._pending = None
        self._seen = found
        self._watch()  # a file that was replaced is another one
        self._changed()
