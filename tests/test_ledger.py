from pathlib import Path

import pytest

from tests import ledger

GROUPS = {"kinds": ["link veth", "link dummy"], "netem": ["netem delay"]}


A, B = "test_kinds.py::test_made[a]", "test_kinds.py::test_made[b]"


def test_each_feature_is_listed_with_where_it_was_proved() -> None:
    proofs = {
        "kernel 6.18.1": {"link veth": {A: True}, "netem delay": {B: False}},
        "uml 6.1.9": {"link veth": {A: True}, "netem delay": {B: True}},
    }
    assert ledger.table(GROUPS, proofs) == (
        "kinds\n"
        "  link veth    kernel 6.18.1; uml 6.1.9\n"
        "  link dummy   -\n"
        "\n"
        "netem\n"
        "  netem delay  uml 6.1.9\n"
    )


def test_a_feature_without_a_test_is_a_fault_and_so_is_an_unknown_name() -> None:
    proofs = {"a": {"link veth": {A: True}, "netem delay": {A: True}, "netem dealy": {A: True}}}
    assert ledger.faults(GROUPS, proofs) == [
        "link dummy: no test was there to prove it",
        "netem dealy: not in features.txt",
    ]


def test_each_test_of_a_feature_has_to_pass_somewhere() -> None:
    groups = {"defects": ["defect 10"]}
    here, there = {"defect 10": {A: True, B: False}}, {"defect 10": {B: True}}
    assert ledger.faults(groups, {"kernel 6.18.1": here, "uml 6.1.9": there}) == []
    assert ledger.faults(groups, {"kernel 6.18.1": here}) == [f"defect 10: passed nowhere: {B}"]


def test_what_several_runs_proved_adds_up(tmp_path: Path) -> None:
    ledger.record("kernel 6.18.1", {"link veth": {A: False}}, tmp_path / "new")
    ledger.record("kernel 6.18.1", {"link veth": {B: True}, "route": {A: False}}, tmp_path / "new")
    ledger.record("kernel 6.18.1", {"route": {A: True}}, tmp_path / "new")
    ledger.record("kernel 6.18.1, docker", {"link veth": {A: True}}, tmp_path / "new")
    assert ledger.recorded(tmp_path / "new") == {
        "kernel 6.18.1": {"link veth": {A: False, B: True}, "route": {A: True}},
        "kernel 6.18.1, docker": {"link veth": {A: True}},
    }


def test_nothing_recorded_is_nothing_proved(tmp_path: Path) -> None:
    assert ledger.recorded(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [("link veth\n", "has no heading"), ("# a\nlink veth\n# b\nlink veth\n", "twice")],
)
def test_a_list_that_means_nothing_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ledger.parse(text)


def test_our_own_list_can_be_read() -> None:
    groups = ledger.parse(ledger.FEATURES.read_text())
    assert len(groups["defects of conlink that are not here"]) == 14
