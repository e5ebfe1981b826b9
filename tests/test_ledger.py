from pathlib import Path

import pytest

from tests import ledger

GROUPS = {"kinds": ["link veth", "link dummy"], "netem": ["netem delay"]}


def test_each_feature_is_listed_with_where_it_was_proved() -> None:
    proved = {"link veth": ["kernel 6.18.1", "uml 6.1.9"], "netem delay": ["uml 6.1.9"]}
    assert ledger.table(GROUPS, proved) == (
        "kinds\n"
        "  link veth    kernel 6.18.1; uml 6.1.9\n"
        "  link dummy   -\n"
        "\n"
        "netem\n"
        "  netem delay  uml 6.1.9\n"
    )


def test_a_feature_proved_nowhere_is_a_fault_and_so_is_an_unknown_name() -> None:
    proved = {"link veth": ["a"], "netem delay": ["a"], "netem dealy": ["a"]}
    assert ledger.faults(GROUPS, proved) == [
        "link dummy: proved nowhere",
        "netem dealy: proved, but not in features.txt",
    ]
    assert (
        ledger.faults(GROUPS, dict.fromkeys(["link veth", "link dummy", "netem delay"], "")) == []
    )


def test_what_several_runs_proved_adds_up(tmp_path: Path) -> None:
    ledger.record("kernel 6.18.1", {"link veth": ["test_a"]}, tmp_path / "new")
    ledger.record("kernel 6.18.1", {"link veth": ["test_b"], "route": ["test_c"]}, tmp_path / "new")
    ledger.record("kernel 6.18.1, docker", {"link veth": ["test_d"]}, tmp_path / "new")
    assert ledger.recorded(tmp_path / "new") == {
        "link veth": ["kernel 6.18.1", "kernel 6.18.1, docker"],
        "route": ["kernel 6.18.1"],
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
