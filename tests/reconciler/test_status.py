"""Status of a link: Ready when the kernel agrees with every part of it, else the worst part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actuators.requests import Verdict
from model.keys import SELF, Key, NsKey, link_key
from model.resources import Address, Link, Qdisc, Resource
from model.snapshot import Snapshot
from model.wanted import Desired, Obstacle
from reconciler.apply import Failure, Outcome
from reconciler.diff import Change
from reconciler.passes import Pass
from reconciler.plan import Plan
from reconciler.retries import Entry, Intent, Ledger
from reconciler.status import LinkStatus, all_connected, judge

NS = NsKey("container", "node_1", "1")
INNER = Link(key=link_key(NS, "eth0"), kind="veth", peer=link_key(SELF, "node_1-eth0"))
OUTER = Link(key=link_key(SELF, "node_1-eth0"), kind="veth", peer=INNER.key, master="s1")
ADDRESS = Address(key=Key(NS, "address", "eth0", "10.0.0.1/24"), ip="10.0.0.1/24")
PARTS = (INNER, OUTER, ADDRESS)
RESOURCES: dict[Key, Resource] = {r.key: r for r in PARTS}
MAKE = tuple(Change(action="create", key=r.key, after=r) for r in PARTS)
DESIRED = Desired(
    RESOURCES, {INNER.key: "why"}, {INNER.key: tuple(RESOURCES)}, (), bridges={INNER.key: "s1"}
)

INTENT = Intent("create", None, None, ())


def a_pass(plan: Plan, outcome: Outcome | None = None) -> Pass:
    return Pass(DESIRED, Snapshot({}, {}, {}), plan, outcome)


def judged(
    plan: Plan, outcome: Outcome | None = None, ledger: Ledger | None = None
) -> tuple[str, str]:
    (found,) = judge(a_pass(plan, outcome), ledger).values()
    assert found.key == INNER.key
    return found.state, found.message


def test_a_link_without_a_difference_is_ready() -> None:
    assert judge(a_pass(Plan())) == {
        INNER.key: LinkStatus(INNER.key, "Ready", "", ("10.0.0.1/24",), "s1", "why")
    }


def test_a_preview_is_pending() -> None:
    assert judged(Plan(MAKE[2:])) == ("Pending", "node_1:eth0 10.0.0.1/24: to create")


def test_what_was_carried_out_is_ready() -> None:
    assert judged(Plan(MAKE), Outcome(done=MAKE)) == ("Ready", "")


def test_one_part_not_carried_out_is_enough() -> None:
    state, message = judged(Plan(MAKE), Outcome(done=MAKE[:2]))
    assert (state, message) == ("Pending", "node_1:eth0 10.0.0.1/24: to create")


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        (Verdict.VANISHED, "Pending"),
        (Verdict.RETRY, "Backoff"),
        (Verdict.REFUSED, "Refused"),
        (Verdict.UNSUPPORTED, "Unsupported"),
    ],
)
def test_a_failure_is_what_the_kernel_meant(verdict: Verdict, state: str) -> None:
    outcome = Outcome(MAKE[:2], (Failure(ADDRESS.key, verdict, "EBUSY: busy"),))
    assert judged(Plan(MAKE), outcome) == (state, "node_1:eth0 10.0.0.1/24: EBUSY: busy")


def test_a_step_that_waits_for_its_time_backs_off() -> None:
    ledger = Ledger({ADDRESS.key: Entry(INTENT, failures=2, due=9.0, message="EBUSY: busy")})
    assert judged(Plan(MAKE), Outcome(done=MAKE[:2]), ledger) == (
        "Backoff",
        "node_1:eth0 10.0.0.1/24: EBUSY: busy",
    )


@pytest.mark.parametrize(
    ("verdict", "state"),
    [(Verdict.UNSUPPORTED, "Unsupported"), (Verdict.REFUSED, "Refused"),
     (Verdict.VANISHED, "Backoff")],
)  # fmt: skip
def test_what_waits_is_still_what_the_kernel_meant(verdict: Verdict, state: str) -> None:
    entry = Entry(INTENT, failures=2, due=9.0, message="no", verdict=verdict)
    outcome = Outcome(done=MAKE[:2])
    assert judged(Plan(MAKE), outcome, Ledger({ADDRESS.key: entry}))[0] == state


def test_what_only_a_person_mends_is_told_with_its_key_and_place() -> None:
    netem = Qdisc(key=Key(NS, "qdisc", "eth0", "root"), netem=None)
    step = Change(action="create", key=netem.key, after=netem, because="net.yaml:3:3 (service a)")
    desired = Desired(
        {netem.key: netem}, {INNER.key: "why"}, {INNER.key: (INNER.key, netem.key)}, ()
    )
    for verdict, place in (
        (Verdict.UNSUPPORTED, "; declared at net.yaml:3:3 (service a)"),
        (Verdict.RETRY, ""),
    ):
        outcome = Outcome((), (Failure(netem.key, verdict, "no netem"),))
        (found,) = judge(Pass(desired, Snapshot({}, {}, {}), Plan((step,)), outcome)).values()
        assert found.message == f"netem: no netem{place}"


def test_a_fight_is_told_even_after_a_success() -> None:
    ledger = Ledger({INNER.key: Entry(INTENT, repeats=3, since=3, message="mtu 1 -> 2")})
    assert judged(Plan(MAKE), Outcome(done=MAKE), ledger) == ("Fighting", "mtu 1 -> 2")


def test_what_waits_for_a_bridge_that_is_fought_over_says_so() -> None:
    bridge = Link(key=link_key(SELF, "s1"), kind="bridge")
    steps = (Change(action="create", key=bridge.key, after=bridge), *MAKE)
    desired = Desired(
        {bridge.key: bridge, **RESOURCES}, {INNER.key: "why"}, {INNER.key: tuple(RESOURCES)}, ()
    )
    fought = Entry(INTENT, repeats=3, since=3, message="somebody keeps undoing it")
    of_its_own = Entry(INTENT, failures=2, message="EBUSY")
    for entries, state, message in (
        ({bridge.key: fought}, "Blocked", "node_1:eth0: waits for self:s1: somebody keeps"),
        ({OUTER.key: of_its_own}, "Backoff", "self:node_1-eth0: EBUSY"),
    ):
        made = Pass(desired, Snapshot({}, {}, {}), Plan(steps), Outcome())
        found = judge(made, Ledger(dict(entries)))[INNER.key]
        assert (found.state, found.message[: len(message)]) == (state, message)


def test_an_entry_without_trouble_is_no_trouble() -> None:
    ledger = Ledger({INNER.key: Entry(INTENT, repeats=1)})
    assert judged(Plan(MAKE), Outcome(done=MAKE), ledger) == ("Ready", "")
    assert judged(Plan(MAKE[:1]), None, ledger)[0] == "Pending"


@pytest.mark.parametrize(
    ("obstacle", "state"),
    [
        ("blocked", "Blocked"),
        ("conflict", "Conflict"),
        ("refused", "Refused"),
        ("unsupported", "Unsupported"),
    ],
)
def test_an_obstacle_to_any_part_is_the_links(obstacle: str, state: str) -> None:
    for part in PARTS:
        stands = Obstacle(part.key, obstacle, "why not")  # type: ignore[arg-type]
        assert judged(Plan((), (stands,))) == (state, "why not")


def test_the_worst_part_is_the_links() -> None:
    plan = Plan(
        MAKE[2:],
        (Obstacle(INNER.key, "blocked", "gone"), Obstacle(OUTER.key, "conflict", "taken")),
    )
    assert judged(plan) == ("Conflict", "taken")


def test_an_obstacle_of_no_link_stands_for_itself() -> None:
    tunnel = Obstacle(link_key(SELF, "vxlan-7"), "unsupported", "not yet")
    found = judge(a_pass(Plan((), (tunnel,))))
    assert found[tunnel.key] == LinkStatus(tunnel.key, "Unsupported", "not yet")
    assert found[INNER.key].state == "Ready"
    assert not all_connected(found)


def test_a_foreign_address_to_remove_is_no_status() -> None:
    other = Address(key=Key(NS, "address", "eth9", "10.9.0.1/24"), ip="10.9.0.1/24")
    step = Change(action="delete", key=other.key, before=other)
    assert set(judge(a_pass(Plan((step,))))) == {INNER.key}


def test_all_links_connected_is_said_only_of_links() -> None:
    ready = LinkStatus(INNER.key, "Ready")
    assert all_connected({INNER.key: ready})
    assert not all_connected({})
    assert not all_connected({INNER.key: ready, OUTER.key: LinkStatus(OUTER.key, "Pending")})


def test_a_link_that_is_not_even_wanted_has_its_status() -> None:
    desired = Desired({}, {}, {INNER.key: (INNER.key,)}, ())
    stands = Obstacle(INNER.key, "refused", "past its prefix")
    found = judge(Pass(desired, Snapshot({}, {}, {}), Plan((), (stands,))))
    assert found == {INNER.key: LinkStatus(INNER.key, "Refused", "past its prefix")}


def test_a_note_is_told_of_what_is_ready_and_the_plans_comes_first() -> None:
    noted = replace(DESIRED, notes={INNER.key: "mtu 1400 to fit vxlan-7"})

    def message(plan: Plan) -> str:
        return judge(Pass(noted, Snapshot({}, {}, {}), plan))[INNER.key].message

    assert message(Plan()) == "mtu 1400 to fit vxlan-7"
    assert message(Plan(notes={INNER.key: "mtu 1300, that of its parent"})) == (
        "mtu 1300, that of its parent"
    )
    assert message(Plan(MAKE[:1])) == "node_1:eth0: to create"


def test_what_has_no_link_of_its_own_is_told_with_the_link_that_needs_it() -> None:
    table = Key(NS, "nat", "", "relink-1")
    needy = replace(DESIRED, parts={INNER.key: (INNER.key, table)})
    stands = Obstacle(table, "conflict", "taken")
    found = judge(Pass(needy, Snapshot({}, {}, {}), Plan((), (stands,))))
    assert [(s.state, s.message) for s in found.values()] == [("Conflict", "taken")]
