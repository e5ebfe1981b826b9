"""When to look: bells with a scope go in, scopes that are due come out. Pure; time is an argument.

The first bell of a scope after silence is due at once. One that rings soon after its scope was
served (often our own writes, heard back) waits for quiet, but never longer than `LONGEST`. The look
that finds our writes in place answers them: the next bell is a first one again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from model.keys import NsKey

QUIET = 0.05  # seconds without another bell
LONGEST = 0.5  # seconds from the first bell

Scope = NsKey | None  # None is everything


@dataclass(slots=True)
class Debounce:
    """Bells that wait; times are seconds of a clock that never goes back."""

    rung: dict[Scope, tuple[float, float]] = field(default_factory=dict)  # first, last
    served: dict[Scope, float] = field(default_factory=dict)
    written: set[Scope] = field(default_factory=set)
    held: dict[Scope, float] = field(default_factory=dict)

    def ring(self, scope: Scope, now: float) -> None:
        """Note that somebody should look at `scope`."""
        first, _ = self.rung.get(scope, (now, now))
        self.rung[scope] = (first, now)

    def hold(self, scope: Scope, until: float) -> None:
        """Let nobody look at `scope` for its own sake before then: a look at it crashed."""
        self.held[scope] = until

    def due_at(self) -> float | None:
        """Return when the next scope is due, None if none waits."""
        return min(map(self._due, self.rung), default=None)

    def take(
        self, now: float, is_about_all: Callable[[frozenset[NsKey]], bool] = lambda _: False
    ) -> frozenset[NsKey] | Literal[False] | None:
        """Take the scopes that are due: a set, None for everything, False for nothing.

        What `is_about_all` is a look at everything, and waits as long as that has to.
        """
        due = [scope for scope in self.rung if self._due(scope) <= now]
        if not due:
            return False
        if None in due:
            due = list(self.rung)  # a look at everything answers every bell
        for scope in due:
            del self.rung[scope]
        taken = frozenset(scope for scope in due if scope is not None)
        if None not in due and not is_about_all(taken):
            return taken
        if self.held.get(None, now) > now:
            self.ring(None, now)
            return False
        return None

    def done(self, scopes: frozenset[NsKey] | None, now: float, *, wrote: bool) -> None:
        """Note that a look at `scopes` ended, and whether anything was changed."""
        self.served = {s: at for s, at in self.served.items() if now - at < QUIET}
        looked: tuple[Scope, ...] = (None,) if scopes is None else tuple(scopes)
        self.held = {s: until for s, until in self.held.items() if until > now}
        for scope in looked:
            if wrote or scope not in self.written:
                self.served[scope] = now
            else:
                self.served.pop(scope, None)
        if wrote:
            self.written.update(looked)
        else:
            self.written.difference_update(self.written if scopes is None else looked)

    def _due(self, scope: Scope) -> float:
        return max(self._answerable(scope), self.held.get(scope, 0.0))

    def _answerable(self, scope: Scope) -> float:
        first, last = self.rung[scope]
        served = max(self.served.get(scope, -1.0), self.served.get(None, -1.0))
        if served < 0 or first - served >= QUIET:
            return first
        return min(last + QUIET, first + LONGEST)
