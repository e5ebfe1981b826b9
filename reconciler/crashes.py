"""Exceptions that nobody expected: told whole, counted by where they happen, and lived through.

This is the one place that catches everything. Refuses to know what is tried again, and how.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog

log = structlog.get_logger()

ROW = 10  # crashes in a row of one scope, after which the process gives up
EXIT = 70  # EX_SOFTWARE of sysexits.h: an internal software error
FIRST, LONGEST = 0.1, 2.0  # seconds until what crashed is tried again
_FRAMES = 30  # of a traceback, the innermost; that of endless recursion has a thousand


@dataclass(slots=True)
class Crash:
    """What became of a confined block.

    Attributes:
        reason: the exception in words, empty where none was raised.
        delay: seconds until it should be tried again.
    """

    reason: str = ""
    delay: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.reason)


@dataclass(slots=True)
class Row:
    """Crashes of one scope with nothing in between that went well."""

    count: int
    reason: str


@dataclass(slots=True)
class Crashes:
    """What crashed, by scope, until it goes well again; may be used by any thread.

    `give_up` is called when the same scope has crashed `ROW` times in a row.
    """

    give_up: Callable[[], None] = lambda: None
    rows: dict[str, Row] = field(default_factory=dict)
    hopeless: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def confined(self, scope: str, *, counts: bool = True) -> Iterator[Crash]:
        """Report what the block raises, and go on after it; what goes well ends the row.

        With `counts` off it never ends the process: for what is no part of keeping links, and is
        not tried again for its own sake.
        """
        crash = Crash()
        try:
            yield crash
        except Exception as error:  # noqa: BLE001 - whatever it is, what was not concerned goes on
            crash.reason, crash.delay = self.note(scope, error, counts=counts)
        else:
            self.went_well(scope)

    def note(self, scope: str, error: BaseException, *, counts: bool = True) -> tuple[str, float]:
        """Report an exception; return it in words, and the seconds to wait.

        Args:
            scope: what was looked at: a container, everything, an engine, a thread.
            error: what was raised.
            counts: whether it is tried again, and a row of these ends the process.
        """
        reason = _words(error)
        with self._lock:
            row = self.rows.setdefault(scope, Row(0, reason))
            row.count, row.reason = row.count + 1, reason
            count = row.count
            ends = counts and count >= ROW and not self.hopeless
            self.hopeless = self.hopeless or ends
        delay = min(FIRST * 2.0 ** min(count - 1, 16), LONGEST)
        again = {"again_in": delay} if counts else {}
        log.error(
            "crashed", scope=scope, reason=reason, in_a_row=count, **again, traceback=_lines(error)
        )
        if ends:
            log.critical("gave_up", scope=scope, reason=reason, in_a_row=count, exit_code=EXIT)
            self.give_up()
        return reason, delay

    def went_well(self, scope: str) -> None:
        """End the row of a scope."""
        with self._lock:
            self.rows.pop(scope, None)

    def all_went_well(self, *prefixes: str) -> None:
        """End the rows of every scope that begins so."""
        with self._lock:
            for scope in [each for each in self.rows if each.startswith(prefixes)]:
                del self.rows[scope]

    def ends_if_quiet(self, scope: str, loop: asyncio.AbstractEventLoop) -> None:
        """End the row of something that only waits, when it has for `LONGEST` seconds again."""
        row = self.rows.get(scope)
        if row:
            loop.call_later(LONGEST, self._quiet, scope, row.count)

    def _quiet(self, scope: str, count: int) -> None:
        row = self.rows.get(scope)
        if row and row.count == count:
            self.went_well(scope)

    def data(self) -> list[dict[str, Any]]:
        """Return the rows as plain data, for status."""
        with self._lock:
            rows = sorted(self.rows.items())
        return [{"scope": where, "reason": row.reason, "in_a_row": row.count}
                for where, row in rows]  # fmt: skip


def _words(error: BaseException) -> str:
    said = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _lines(error: BaseException) -> list[str]:
    told = "".join(traceback.format_exception(error, limit=-_FRAMES))
    return told.rstrip("\n").split("\n")
