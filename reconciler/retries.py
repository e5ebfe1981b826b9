"""What failed, and when to try it again; what keeps coming back. Pure; time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from actuators.requests import Verdict
from model.keys import Key, NsKey
from model.resources import Resource
from reconciler.apply import Outcome
from reconciler.diff import Change
from reconciler.needs import requires
from reconciler.plan import Plan

FIRST, LONGEST = 0.1, 60.0  # seconds
HURRIED = 1.0  # seconds between two tries however often its namespace rings
FIGHT = 3  # passes in a row with the same difference


@dataclass(frozen=True, slots=True)
class Entry:
    """One key in trouble.

    Attributes:
        intent: what was tried; another intent or another observation starts afresh.
        failures: how often in a row.
        due: when to try again.
        tried: when it was tried last.
        message: why it failed, or what it fights over.
        verdict: what the last failure meant.
        repeats: how often in a row the step succeeded and the same difference came back.
        fighting: it came back too often.
    """

    intent: tuple[object, ...]
    failures: int = 0
    due: float = 0.0
    tried: float = 0.0
    message: str = ""
    repeats: int = 0
    fighting: bool = False
    verdict: Verdict = Verdict.RETRY


@dataclass(slots=True)
class Ledger:
    """The retries of one sidecar; empty after a restart, which costs one more try and no more."""

    entries: dict[Key, Entry] = field(default_factory=dict)

    def allow(self, plan: Plan, resources: Mapping[Key, Resource], now: float) -> Plan:
        """Return the plan without the steps that are not due, and without what needs them."""
        waiting: dict[Key, float] = {}
        steps: list[Change] = []
        for step in plan.steps:
            entry = self._same(step)
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

    def note(
        self, plan: Plan, outcome: Outcome, looked_at: Callable[[Key], bool], now: float
    ) -> list[Key]:
        """Learn from a pass: `plan` as it was before `allow`. Return what began to fight.

        `looked_at` tells whether the pass looked at a key: one that it found as it should be is no
        longer in trouble.
        """
        steps = {step.key: step for step in plan.steps}
        for key in [k for k in self.entries if k not in steps and looked_at(k)]:
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
            self.entries[step.key] = Entry(
                _intent(step), failures, now + wait, now, failure.message, verdict=failure.verdict
            )
        for step in outcome.done:
            old = self._same(step)
            repeats = old.repeats + 1 if old and not old.failures else 1
            entry = Entry(_intent(step), repeats=repeats)
            if repeats >= FIGHT:
                wait = _wait(repeats - FIGHT + 1)
                entry = replace(entry, due=now + wait, fighting=True, message=_fight(step))
                if not (old and old.fighting):
                    began.append(step.key)
            self.entries[step.key] = entry
        return began

    def forget(self, unknown: Callable[[Key], bool]) -> None:
        """Start afresh with the keys for which `unknown` holds: their container lives anew."""
        for key in [key for key in self.entries if unknown(key)]:
            del self.entries[key]

    def hurry(self, ns: NsKey) -> None:
        """Something changed in a namespace: what failed there may succeed now, once a second."""
        for key, entry in self.entries.items():
            if key.ns == ns and entry.failures:
                self.entries[key] = replace(entry, due=min(entry.due, entry.tried + HURRIED))

    def next_due(self) -> float | None:
        """Return when the next step may be tried again, None if nothing waits."""
        return min((e.due for e in self.entries.values() if e.failures or e.fighting), default=None)

    def due(self, now: float) -> set[NsKey]:
        """Return the namespaces of what may be tried again now."""
        return {
            key.ns
            for key, entry in self.entries.items()
            if (entry.failures or entry.fighting) and entry.due <= now
        }

    def _same(self, step: Change) -> Entry | None:
        entry = self.entries.get(step.key)
        return entry if entry and entry.intent == _intent(step) else None


def _wait(times: int) -> float:
    """Return how long to wait after so many failures in a row; the exponent is bounded too."""
    return min(FIRST * float(1 << min(times - 1, 16)), LONGEST)


def _intent(step: Change) -> tuple[object, ...]:
    before, after = step.before, step.after
    return step.action, before, after, step.fields


def _fight(step: Change) -> str:
    what = "; ".join(f"{f.name} {f.before!r} -> {f.after!r}" for f in step.fields)
    return f"somebody keeps undoing it: {what or step.action}"
