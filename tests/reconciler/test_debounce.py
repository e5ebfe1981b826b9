"""When to look: at once after silence, in quiet after a storm, and never too late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.keys import NsKey
from reconciler.debounce import LONGEST, QUIET, Debounce

A, B = NsKey("container", "a", "1"), NsKey("container", "b", "2")


def test_silence() -> None:
    bells = Debounce()
    assert bells.due_at() is None
    assert bells.take(100.0) is False


def test_the_first_bell_is_due_at_once() -> None:
    bells = Debounce()
    bells.ring(A, 10.0)
    assert bells.due_at() == 10.0
    assert bells.take(10.0) == frozenset({A})
    assert bells.take(10.0) is False
    assert bells.due_at() is None


def test_all_that_is_due_is_served_together() -> None:
    bells = Debounce()
    bells.ring(A, 10.0)
    bells.ring(B, 10.1)
    assert bells.take(10.1) == frozenset({A, B})


def test_everything_answers_every_bell() -> None:
    bells = Debounce()
    bells.ring(A, 10.0)
    bells.ring(None, 10.0)
    assert bells.take(10.0) is None
    assert bells.take(99.0) is False


def test_a_bell_right_after_its_scope_was_served_waits_for_quiet() -> None:
    bells = Debounce()
    bells.done(frozenset({A}), 10.0, wrote=True)
    bells.ring(A, 10.01)
    assert bells.take(10.01) is False
    assert bells.due_at() == 10.01 + QUIET
    bells.ring(A, 10.04)
    assert bells.due_at() == 10.04 + QUIET
    assert bells.take(10.04 + QUIET) == frozenset({A})


def test_a_storm_is_served_within_the_longest_wait() -> None:
    bells = Debounce()
    bells.done(frozenset({A}), 10.0, wrote=True)
    now = 10.01
    while bells.take(now) is False:
        bells.ring(A, now)
        now += QUIET / 2
        assert now < 10.01 + LONGEST + QUIET
    assert now >= 10.01 + LONGEST


def test_another_scope_is_not_held_up() -> None:
    bells = Debounce()
    bells.done(frozenset({A}), 10.0, wrote=True)
    bells.ring(A, 10.01)
    bells.ring(B, 10.01)
    assert bells.take(10.01) == frozenset({B})
    assert bells.take(10.01 + QUIET) == frozenset({A})


def test_what_is_a_look_at_everything_waits_as_long_as_that_has_to() -> None:
    bells = Debounce()
    bells.hold(None, 11.0)
    bells.ring(A, 10.0)
    assert bells.take(10.0, lambda _scope: True) is False
    assert bells.due_at() == 11.0
    bells.ring(B, 10.5)
    assert bells.take(10.5, lambda scope: scope == {A}) == frozenset({B})
    assert bells.take(11.0, lambda _scope: True) is None
    assert bells.due_at() is None


def test_after_a_look_at_everything_every_scope_waits() -> None:
    bells = Debounce()
    bells.done(None, 10.0, wrote=True)
    bells.ring(A, 10.01)
    assert bells.due_at() == 10.01 + QUIET


def test_a_bell_long_after_is_due_at_once() -> None:
    bells = Debounce()
    bells.done(frozenset({A}), 10.0, wrote=True)
    bells.ring(A, 10.0 + QUIET)
    assert bells.due_at() == 10.0 + QUIET


def test_a_bell_during_a_pass_is_due_after_it() -> None:
    bells = Debounce()
    bells.ring(A, 10.0)
    bells.take(10.0)
    bells.ring(A, 10.02)  # while it is looked at
    bells.done(frozenset({A}), 10.3, wrote=True)
    due = bells.due_at()
    assert due is not None
    assert due <= 10.02 + LONGEST


def test_a_look_that_only_heard_our_own_writes_holds_nothing_up() -> None:
    bells = Debounce()
    bells.done(frozenset({A}), 10.0, wrote=True)
    bells.done(frozenset({A}), 10.06, wrote=False)  # the echo
    bells.ring(A, 10.07)
    assert bells.take(10.07) == frozenset({A})
    bells.done(frozenset({A}), 10.07, wrote=False)
    bells.ring(A, 10.08)
    assert bells.take(10.08) is False, "two looks in a row that changed nothing are a storm"


def test_a_quiet_look_at_everything_ends_every_echo() -> None:
    bells = Debounce()
    bells.done(frozenset({A}), 10.0, wrote=True)
    bells.done(None, 10.2, wrote=False)
    assert bells.written == set()


def test_what_was_served_long_ago_is_forgotten() -> None:
    bells = Debounce()
    for number in range(1000):
        bells.done(frozenset({NsKey("container", str(number))}), float(number), wrote=False)
    assert len(bells.served) == 1


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 0.3),
        st.sampled_from(["ring", "look"]),
        st.sampled_from([A, B, None]),
        st.booleans(),
    ),
    max_size=60,
)


@given(events=EVENTS)
def test_every_bell_is_answered_in_time(
    events: list[tuple[float, str, NsKey | None, bool]],
) -> None:
    bells = Debounce()
    now = 1.0
    waiting: dict[NsKey | None, float] = {}
    for wait, what, scope, wrote in events:
        now += wait
        if what == "ring":
            bells.ring(scope, now)
            waiting.setdefault(scope, now)
            continue
        taken = bells.take(now)
        if taken is not False:
            answered = set(waiting) if taken is None else taken
            waiting = {s: at for s, at in waiting.items() if s not in answered}
            bells.done(taken, now, wrote=wrote)
        assert all(now - at < LONGEST + 1e-9 for at in waiting.values()), "somebody waits too long"
    due = bells.due_at()
    assert (due is None) == (not waiting)
    assert all(due is not None and due <= at + LONGEST for at in waiting.values())
