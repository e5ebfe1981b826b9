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
    new = tmp_path / "new"
    ledger.record("kernel 6.18.1", {"link veth": {A: False}}, "s", new)
    ledger.record("kernel 6.18.1", {"link veth": {B: True}, "route": {A: False}}, "s", new)
    ledger.record("kernel 6.18.1", {"route": {A: True}}, "s", new)
    ledger.record("kernel 6.18.1, docker", {"link veth": {A: True}}, "s", new)
    assert ledger.recorded("s", new) == {
        "kernel 6.18.1": {"link veth": {A: False, B: True}, "route": {A: True}},
        "kernel 6.18.1, docker": {"link veth": {A: True}},
    }


def test_nothing_recorded_is_nothing_proved(tmp_path: Path) -> None:
    assert ledger.recorded("s", tmp_path / "none") == {}


def test_what_other_files_proved_does_not_count_and_is_forgotten(tmp_path: Path) -> None:
    ledger.record("kernel 6.18.1", {"link veth": {A: True}}, "before", tmp_path)
    ledger.record("uml 6.1.9", {"link veth": {A: True}}, "now", tmp_path)
    assert ledger.recorded("now", tmp_path) == {"uml 6.1.9": {"link veth": {A: True}}}
    stale, fresh = ledger.runs("now", tmp_path)
    assert stale.startswith("kernel 6.18.1: not counted, of other files, 20")
    assert fresh.startswith("uml 6.1.9: run 20")
    ledger.record("kernel 6.18.1", {"route": {A: True}}, "now", tmp_path)
    assert ledger.recorded("now", tmp_path)["kernel 6.18.1"] == {"route": {A: True}}


def test_a_source_is_its_files_but_prose_and_caches(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    file = tmp_path / "model/a.py"
    file.write_text("A = 1\n")
    before = ledger.source(tmp_path)
    for name in ("README.md", ".cache/ledger.txt", "model/__pycache__/a.pyc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("anything\n")
    assert ledger.source(tmp_path) == before
    file.write_text("A = 2\n")
    assert ledger.source(tmp_path) != before


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
