"""What failed is tried again, later each time; what keeps coming back is told once."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actuators.requests import Verdict
from model.keys import SELF, Key, NsKey, link_key
from model.resources import Address, FieldChange, Link, Redirect, Resource
from reconciler.apply import Failure, Outcome
from reconciler.diff import Change
from reconciler.plan import Plan
from reconciler.retries import CALM, FIGHT, FIRST, HURRIED, LONGEST, MANY, Ledger

NS = NsKey("container", "a", "1")
LINK = Link(key=link_key(NS, "eth0"), kind="veth", mtu=1500)
ADDRESS = Address(key=Key(NS, "address", "eth0", "10.0.0.1/24"), ip="10.0.0.1/24")
RESOURCES: dict[Key, Resource] = {LINK.key: LINK, ADDRESS.key: ADDRESS}
MAKE = Change(action="create", key=LINK.key, after=LINK)
GIVE = Change(action="create", key=ADDRESS.key, after=ADDRESS)
MTU = Change(
    action="modify", key=LINK.key, before=replace(LINK, mtu=9000), after=LINK,
    fields=(FieldChange("mtu", 9000, 1500),),
)  # fmt: skip


def failed(step: Change, verdict: Verdict = Verdict.RETRY) -> Outcome:
    return Outcome(failures=(Failure(step.key, verdict, "EBUSY: busy"),))


def done(*steps: Change) -> Outcome:
    return Outcome(done=steps)


def note(ledger: Ledger, outcome: Outcome, now: float, *steps: Change) -> list[Key]:
    return ledger.note(Plan(steps), outcome, lambda _key: True, now)


def allowed(ledger: Ledger, now: float, *steps: Change) -> list[Key]:
    return [step.key for step in ledger.allow(Plan(steps), RESOURCES, now).steps]


def test_bells_ring_while_a_pass_asks_what_is_due() -> None:
    ledger = Ledger()
    steps = [replace(MAKE, key=link_key(NS, f"eth{n}")) for n in range(300)]
    stop = threading.Event()
    wrong: list[BaseException] = []

    def ring() -> None:
        try:
            while not stop.is_set():
                ledger.hurry(NS)
                ledger.next_due()
        except RuntimeError as error:  # dictionary changed size during iteration
            wrong.append(error)

    bells = threading.Thread(target=ring)
    bells.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for turn in range(0, 100, 10):
            note(ledger, done(*steps), turn, *steps)
            note(ledger, done(), turn + 1)  # in place: quiet
            allowed(ledger, turn + CALM + 2, *steps)  # too long ago to be counted: forgotten
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        bells.join()
    assert not wrong


def test_an_empty_ledger_allows_everything() -> None:
    ledger = Ledger()
    assert allowed(ledger, 0.0, MAKE, GIVE) == [LINK.key, ADDRESS.key]
    assert ledger.next_due() is None
    assert ledger.due(1e9) == set()


def test_a_failure_waits_twice_as_long_each_time_up_to_a_minute() -> None:
    ledger = Ledger()
    now, waits = 100.0, []
    for _ in range(14):
        note(ledger, failed(MAKE), now, MAKE)
        due = ledger.next_due()
        assert due is not None
        waits.append(due - now)
        assert allowed(ledger, due - 0.001, MAKE) == []
        assert allowed(ledger, due, MAKE) == [LINK.key]
        assert ledger.due(due - 0.001) == set()
        assert ledger.due(due) == {NS}
        now = due
    assert waits[:4] == pytest.approx([FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST])
    assert waits[-1] == LONGEST
    assert waits == sorted(waits)


def test_what_rings_while_it_is_tried_is_not_lost_to_the_failure_that_is_told_afterwards() -> None:
    ledger = Ledger()
    for n in range(10):
        note(ledger, failed(MAKE), n, MAKE)
    assert ledger.next_due() == pytest.approx(9 + FIRST * 2**9)
    allowed(ledger, 70.0, MAKE)
    ledger.hurry(NS)
    note(ledger, failed(MAKE), 70.5, MAKE)
    assert ledger.next_due() == 70.5 + HURRIED
    allowed(ledger, 71.5, MAKE)
    note(ledger, failed(MAKE), 71.6, MAKE)
    assert ledger.next_due() == 71.6 + LONGEST, "it rang for one pass, and counts for one"


def test_a_failure_that_never_ends_does_not_overflow() -> None:
    ledger = Ledger()
    for _ in range(3000):
        note(ledger, failed(MAKE), 0.0, MAKE)
    assert ledger.next_due() == LONGEST


def test_what_needs_a_waiting_step_waits_too() -> None:
    ledger = Ledger()
    note(ledger, failed(MAKE), 0.0, MAKE, GIVE)
    assert allowed(ledger, 0.01, MAKE, GIVE) == []
    assert allowed(ledger, FIRST, MAKE, GIVE) == [LINK.key, ADDRESS.key]


def test_other_steps_do_not_wait() -> None:
    ledger = Ledger()
    note(ledger, failed(GIVE), 0.0, MAKE, GIVE)
    assert allowed(ledger, 0.01, MAKE, GIVE) == [LINK.key]


def test_a_deletion_needs_nothing() -> None:
    ledger = Ledger()
    note(ledger, failed(MAKE), 0.0, MAKE)
    gone = Change(action="delete", key=ADDRESS.key, before=ADDRESS)
    assert allowed(ledger, 0.01, MAKE, gone) == [ADDRESS.key]


@pytest.mark.parametrize(
    "step",
    [
        replace(MAKE, after=replace(LINK, mtu=1400)),  # another intent
        replace(MAKE, action="modify", before=LINK),  # another observation
    ],
)
def test_a_new_intent_or_observation_starts_afresh(step: Change) -> None:
    ledger = Ledger()
    for _ in range(5):
        note(ledger, failed(MAKE), 0.0, MAKE)
    assert allowed(ledger, 0.01, step) == [LINK.key]
    note(ledger, failed(step), 0.0, step)
    assert ledger.next_due() == FIRST


def test_a_world_that_moved_is_looked_at_again_at_once_but_only_once() -> None:
    ledger = Ledger()
    note(ledger, failed(MAKE, Verdict.VANISHED), 5.0, MAKE)
    assert ledger.due(5.0) == {NS}
    note(ledger, failed(MAKE, Verdict.VANISHED), 5.0, MAKE)
    assert ledger.next_due() == 5.0 + 2 * FIRST


def test_what_is_found_as_it_should_be_is_forgotten() -> None:
    ledger = Ledger()
    note(ledger, failed(MAKE), 0.0, MAKE)
    ledger.note(Plan(), Outcome(), lambda key: key.ns == SELF, 0.0)
    assert ledger.entries, "it was not looked at"
    ledger.note(Plan(), Outcome(), lambda key: key.ns == NS, 0.0)
    assert not ledger.entries


def test_success_after_failure_waits_for_nothing() -> None:
    ledger = Ledger()
    note(ledger, failed(MAKE), 0.0, MAKE)
    assert note(ledger, done(MAKE), FIRST, MAKE) == []
    assert ledger.next_due() is None


def test_a_step_that_keeps_coming_back_is_a_fight_told_once() -> None:
    ledger = Ledger()
    began = [note(ledger, done(MTU), float(n), MTU) for n in range(FIGHT + 2)]
    assert began == [[]] * (FIGHT - 1) + [[LINK.key]] + [[], []]
    entry = ledger.entries[LINK.key]
    assert entry.fighting
    assert entry.message == "somebody keeps undoing it: mtu 9000 -> 1500"
    assert ledger.next_due() == FIGHT + 1 + 4 * FIRST
    assert allowed(ledger, FIGHT + 1.0, MTU) == []


def test_a_fight_over_a_whole_thing() -> None:
    ledger = Ledger()
    for _ in range(FIGHT):
        note(ledger, done(MAKE), 0.0, MAKE)
    assert ledger.entries[LINK.key].message == "somebody keeps undoing it: create"


def test_a_long_fight_does_not_overflow() -> None:
    ledger = Ledger()
    for _ in range(3000):
        note(ledger, done(MTU), 0.0, MTU)
    assert ledger.next_due() == LONGEST


def test_a_quiet_pass_is_no_end_of_a_fight_but_quiet_time_is() -> None:
    ledger = Ledger()
    for _ in range(FIGHT):
        note(ledger, done(MTU), 0.0, MTU)
    note(ledger, Outcome(), 0.0)
    assert ledger.next_due() is None, "nothing waits while nothing is undone"
    assert allowed(ledger, 1.0, MTU) == [LINK.key]
    assert note(ledger, done(MTU), 1.0, MTU) == [], "it was told"
    assert ledger.next_due() == 1.0 + 2 * FIRST
    note(ledger, Outcome(), 1.0)
    later = 1.0 + CALM
    assert allowed(ledger, later, MTU) == [LINK.key]
    note(ledger, done(MTU), later, MTU)
    assert ledger.next_due() is None
    note(ledger, Outcome(), later + CALM)
    assert not ledger.entries


def test_repairs_that_last_are_never_a_fight() -> None:
    ledger = Ledger()
    for n in range(5 * MANY):
        now = n * CALM
        assert allowed(ledger, now, MTU) == [LINK.key]
        assert note(ledger, done(MTU), now, MTU) == []
        note(ledger, Outcome(), now)
    assert ledger.next_due() is None


def to_mtu(found: int) -> Change:
    fields = (FieldChange("mtu", found, 1500),)
    return replace(MTU, before=replace(LINK, mtu=found), fields=fields)


@given(
    values=st.lists(st.integers(68, 9000), min_size=1, max_size=6),
    reactions=st.lists(st.floats(0.0, CALM - 0.1), min_size=1, max_size=4),
    pace=st.sampled_from(["quick", "slow"]),
)
@settings(max_examples=60, deadline=None)
def test_an_opponent_who_answers_soon_is_told_of_once_and_costs_ever_less(
    values: list[int], reactions: list[float], pace: str
) -> None:
    """Simulated: it writes its values in turn, each so long after it saw its last one undone.

    A quick one does before anybody looks whether the repair is in place.
    """
    ledger, now = Ledger(), 0.0
    repairs: list[float] = []
    told: list[float] = []
    for value, reaction in zip(cycle(values), cycle(reactions), strict=False):
        if now > 400:
            break
        step = to_mtu(value)
        if not allowed(ledger, now, step):
            note(ledger, Outcome(), now, step)  # a look that may only look
            due = ledger.next_due()
            assert due is not None
            now = max(now, due)
            assert ledger.due(now) == {NS}
            assert allowed(ledger, now, step) == [LINK.key]
        told += [now] * len(note(ledger, done(step), now, step))
        repairs.append(now)
        if pace == "slow":
            note(ledger, Outcome(), now)
        now += 0.01 if pace == "quick" else 0.01 + reaction
    assert len(told) == 1
    assert len([at for at in repairs if at <= told[0]]) <= MANY
    most = max(len([at for at in repairs if start <= at < start + 60]) for start in repairs)
    assert most <= MANY + 10
    assert len([at for at in repairs if 280 <= at < 400]) <= 3, "one a minute at last"
    (entry,) = ledger.entries.values()
    assert entry.message.startswith("somebody keeps undoing it: mtu ")
    assert all(f"mtu {value} -> 1500" in entry.message for value in set(values[:FIGHT]))


def test_a_held_step_stays_in_the_ledger() -> None:
    ledger = Ledger()
    note(ledger, failed(MAKE), 0.0, MAKE)
    note(ledger, Outcome(), 0.01, MAKE)
    assert ledger.next_due() == FIRST


def test_what_is_forgotten_starts_afresh() -> None:
    ledger = Ledger()
    note(ledger, failed(MAKE), 0.0, MAKE)
    ledger.forget(lambda key: key in (LINK.key, ADDRESS.key))
    assert allowed(ledger, 0.01, MAKE) == [LINK.key]


def test_the_other_end_of_a_patch_starts_afresh_with_what_it_leads_to() -> None:
    ledger = Ledger()
    target = link_key(SELF, "a-eth0")
    redirect = Redirect(key=Key(SELF, "redirect", "b-eth0"), target=target)
    again = Change(
        action="modify", key=redirect.key, before=replace(redirect, target=None), after=redirect,
        fields=(FieldChange("target", None, target),),
    )  # fmt: skip
    for life in range(MANY * 2):
        assert not note(ledger, done(again), life * CALM / MANY, again)
        ledger.forget(lambda key: key == target)
    assert ledger.entries == {}


def test_what_nobody_wants_is_tried_again_by_a_look_at_everything() -> None:
    """A look at its container alone need not see it."""
    ledger = Ledger()
    gone = Change(action="delete", key=LINK.key, before=LINK)
    note(ledger, failed(gone), 0.0, gone)
    assert ledger.due(FIRST) == {None}
    note(ledger, failed(GIVE), 0.0, gone, GIVE)
    assert ledger.due(FIRST) == {None, NS}
