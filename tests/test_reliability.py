"""RELIABILITY.md promises what tests show: each that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.faults.report import BEGIN, END

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "RELIABILITY.md").read_text()


def test_each_promise_names_tests_that_are_there() -> None:
    rows = [line.split("|") for line in TEXT.partition("## ")[0].splitlines() if line[:2] == "| "]
    promises = {row[1].strip(): re.findall(r"tests/[\w/.]+", row[2]) for row in rows[2:]}
    assert len(promises) > 20
    for promise, named in promises.items():
        missing = [name for name in named if not (ROOT / name).exists()]
        assert named, f"nothing shows that {promise}"
        assert not missing, f"{promise}: no {missing}"


def test_it_has_room_for_the_figures_of_a_long_run() -> None:
    assert TEXT.index(BEGIN) < TEXT.index(END)
