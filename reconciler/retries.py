"""What failed, and when to try it again; what keeps coming back. Pure; time is an argument.

Who undoes what is done here is told by what is wanted, not by what is found: whoever writes another
value each time is an opponent like any other. Two signs make a fight: `FIGHT` repairs of one thing
without a look between that found it as it should be, or `MANY` with looks that did, each undone
within `CALM`. Who takes longer costs one repair each time, and is let do so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from actuators.requests import Verdict
from model.keys import Key, NsKey
from model.resources import FieldChange, Redirect, Resource
from reconciler.apply import Outcome
from reconciler.diff import Action, Change
from reconciler.needs import requires
from reconciler.plan import Plan

FIRST, LONGEST = 0.1, 60.0  # seconds
HURRIED = 1.0  # seconds between two tries however often its namespace rings
FIGHT = 3  # repairs in a row, none of which was ever found in place
MANY = 10  # repairs of one thing, each undone soon
CALM = 5.0  # seconds that a repair lasts, so that the next one has nothing to do with it
_TOLD = 4  # values of an opponent that are named

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


class Intent(NamedTuple):
    """What a step is about."""

    action: Action
    before: Resource | None
    after: Resource | None
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key in trouble.

    Attributes:
        intent: what was tried; another one, or another observation, starts failures afresh, and
            another wish starts repairs afresh.
        failures: how often in a row.
        due: when to try again.
        tried: when it was tried last, or repaired.
        message: why it failed, or what it fights over.
        verdict: what the last failure meant.
        repeats: how often it was repaired, and undone soon.
        row: how often of these without having been found in place.
        quiet: it was found in place, so that nothing waits.
        since: how many repairs it took to call it a fight; 0 if it is none.
        told: what was repaired, for people: each once.
    """

    intent: Intent
    failures: int = 0
    due: float = 0.0
    tried: float = 0.0
    message: str = ""
    verdict: Verdict = Verdict.RETRY
    repeats: int = 0
    row: int = 0
    quiet: bool = False
    since: int = 0
    told: tuple[str, ...] = ()

    @property
    def fighting(self) -> bool:
        """Somebody keeps undoing it."""
        return self.since > 0

    @property
    def waits(self) -> bool:
        """It is to be tried again when it is due."""
        return bool(self.failures) or (self.fighting and not self.quiet)


def _alone(method: Callable[Concatenate[Ledger, Asked], Answer]) -> Callable[
    Concatenate[Ledger, Asked], Answer
]:  # fmt: skip
    """Let nobody else into the ledger meanwhile."""

    @wraps(method)
    def call(self: Ledger, /, *args: Asked.args, **kwargs: Asked.kwargs) -> Answer:
        with self._lock:
            return method(self, *args, **kwargs)

    return call


@dataclass(slots=True)
class Ledger:
    """The retries of one sidecar; empty after a restart, which costs one more try and no more.

    A pass asks what is due in a thread of its own, while bells go on ringing.
    """

    entries: dict[Key, Entry] = field(default_factory=dict)
    # Where something changed since a pass asked what is due.
    _rang: set[NsKey] = field(default_factory=set, compare=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    @_alone
    def allow(self, plan: Plan, resources: Mapping[Key, Resource], now: float) -> Plan:
        """Return the plan without the steps that are not due, and without what needs them."""
        self._rang.clear()
        waiting: dict[Key, float] = {}
        steps: list[Change] = []
        for step in plan.steps:
            entry = self._seen(step, now)
            due = entry.due if entry else 0.0
            if step.after is not None:  # what it needs may have to wait longer than itself
                needs = requires(step.after, resources)
                due = max([due, *(waiting[key] for key in needs if key in waiting)])
            if due <= now:
                steps.append(step)
                continue
            waiting[step.key] = due
            if entry:
                self.entries[step.key] = replace(entry, due=due)
        return replace(plan, steps=tuple(steps))

    @_alone
    def note(
        self, plan: Plan, outcome: Outcome, looked_at: Callable[[Key], bool], now: float
    ) -> list[Key]:
        """Learn from a pass: `plan` as it was before `allow`. Return what began to fight.

        `looked_at` tells whether the pass looked at a key: one that it found as it should be is no
        longer in trouble.
        """
        steps = {step.key: step for step in plan.steps}
        for key in [k for k in self.entries if k not in steps and looked_at(k)]:
            entry = self.entries[key]
            if entry.repeats and now - entry.tried < CALM:
                self.entries[key] = replace(entry, quiet=True, row=0)
            else:
                del self.entries[key]
        began: list[Key] = []
        for failure in outcome.failures:
            if failure.needed:
                continue  # it is tried when what it needs is
            step = steps[failure.key]
            old = self._same(step)
            failures = old.failures + 1 if old else 1
            # The world moved: whoever looks again sees why, so the first time costs no wait.
            wait = _wait(failures)
            if failure.verdict == Verdict.VANISHED and failures == 1:
                wait = 0.0
            if step.key.ns in self._rang:  # and it may have been tried just before
                wait = min(wait, HURRIED)
            self.entries[step.key] = Entry(
                _intent(step), failures, now + wait, now, failure.message, verdict=failure.verdict
            )
        for step in outcome.done:
            old = self._same(step)
            entry = _repaired(step, old if old and not old.failures else None, now)
            if entry.fighting and not (old and old.fighting):
                began.append(step.key)
            self.entries[step.key] = entry
        return began

    @_alone
    def forget(self, unknown: Callable[[Key], bool]) -> None:
        """Start afresh with the keys for which `unknown` holds: their container lives anew.

        So does what leads to one of them: the other end of a patch is undone whenever this one
        goes, and nobody fights over it.
        """
        for key, entry in list(self.entries.items()):
            target = _leads_to(entry.intent)
            if unknown(key) or (target is not None and unknown(target)):
                del self.entries[key]

    @_alone
    def hurry(self, ns: NsKey) -> None:
        """Something changed in a namespace: what failed there may succeed now, once a second.

        So may what a pass that is under way has tried by now, and will tell of.
        """
        self._rang.add(ns)
        for key, entry in self.entries.items():
            if key.ns == ns and entry.failures:
                self.entries[key] = replace(entry, due=min(entry.due, entry.tried + HURRIED))

    @_alone
    def next_due(self) -> float | None:
        """Return when the next step may be tried again, None if nothing waits."""
        return min((e.due for e in self.entries.values() if e.waits), default=None)

    @_alone
    def due(self, now: float) -> set[NsKey | None]:
        """Return the namespaces of what may be tried again now; None is of what nobody wants."""
        return {
            key.ns if entry.intent.after else None
            for key, entry in self.entries.items()
            if entry.waits and entry.due <= now
        }

    def _seen(self, step: Change, now: float) -> Entry | None:
        """Take in that a difference is there; return what is known of it."""
        entry = self._same(step)
        if entry is None or not entry.quiet:
            return entry
        if now - entry.tried >= CALM:
            del self.entries[step.key]
            return None
        self.entries[step.key] = entry = replace(entry, quiet=False)
        return entry

    def _same(self, step: Change) -> Entry | None:
        entry, intent = self.entries.get(step.key), _intent(step)
        if entry is None or (entry.failures and entry.intent != intent):
            return None
        return entry if entry.intent.after == intent.after else None


def _repaired(step: Change, old: Entry | None, now: float) -> Entry:
    """Return what is known of a thing after one more repair."""
    repeats, row = (old.repeats + 1, old.row + 1) if old else (1, 1)
    told = (old.told if old else ())[:_TOLD]
    told += () if (what := _what(step)) in told else (what,)
    since = old.since if old else 0
    if not since and (row >= FIGHT or repeats >= MANY):
        since = repeats
    if not since:
        return Entry(_intent(step), tried=now, repeats=repeats, row=row, told=told)
    # The same words for as long as it lasts: they are news once.
    message = old.message if old and old.since else f"somebody keeps undoing it: {', '.join(told)}"
    due = now + _wait(repeats - since + 1)
    return Entry(
        _intent(step), due=due, tried=now, message=message, repeats=repeats, row=row, since=since,
        told=told,
    )  # fmt: skip


def _wait(times: int) -> float:
    """Return how long to wait after so many failures in a row; the exponent is bounded too."""
    return min(FIRST * float(1 << min(times - 1, 16)), LONGEST)


def _intent(step: Change) -> Intent:
    return Intent(step.action, step.before, step.after, step.fields)


def _leads_to(intent: Intent) -> Key | None:
    return intent.after.target if isinstance(intent.after, Redirect) else None


def _what(step: Change) -> str:
    return "; ".join(f"{f.name} {f.before!r} -> {f.after!r}" for f in step.fields) or step.action
