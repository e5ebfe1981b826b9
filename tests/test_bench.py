"""The benchmarks in a short form: each runs, checks what it measured and writes its rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cases import CASES
from bench.table import Target, row, text

ROOT = Path(__file__).parent.parent
COLUMNS = {"case", "n", "unit", "median", "min", "max", "floor", "ratio", "target", "holds"}


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.kernel
@pytest.mark.parametrize("case", CASES)
def test_each_case_works_and_leaves_nothing_behind(case: str, tmp_path: Path) -> None:
    before = _mounts(), Path("/proc/self/ns/net").readlink(), _links()
    file = tmp_path / "rows.json"
    done = bench("--case", case, "--n", "10", "--runs", "1", "--json", str(file))
    # 1 says that a target of time does not hold, which depends on the machine.
    assert done.returncode in (0, 1), done.stderr
    rows = json.loads(file.read_text())
    assert rows
    for each in rows:
        assert each.keys() == COLUMNS
        assert each["case"].split(":")[0].split(",")[0] in {case, "decoding"}
        assert each["min"] <= each["median"] <= each["max"]
        assert each["holds"] in (True, False, None)
        assert (each["holds"] is None) == (not each["target"])
        if each["unit"] == "writes":
            assert each["median"] == 0
        else:
            if case == "idle":  # nothing has to be done, so there is no floor
                continue
            assert each["min"] > 0
            assert each["floor"] > 0
            assert each["ratio"] == pytest.approx(each["median"] / each["floor"])
    assert len(done.stdout.splitlines()) == 2 + len(rows)
    assert (_mounts(), Path("/proc/self/ns/net").readlink(), _links()) == before


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if "node_" in line or "bench" in line]


def _links() -> list[str]:
    return [path.name for path in Path("/sys/class/net").glob("*node_*")]


@pytest.mark.kernel
def test_events_among_many_are_compared_with_events_among_ten(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    done = bench("--case", "event", "--n", "12", "--runs", "1", "--json", str(file))
    assert done.returncode in (0, 1), done.stderr
    rows = [(each["case"], each["n"], each["target"]) for each in json.loads(file.read_text())]
    assert rows == [("event", 12, ""), ("event, to 10", 12, "ratio ≤ 2")]


_SPOIL = """
from bench import floor, lab, live, measuring, wanted
lab.isolate()
lab.populate(2)
chosen = wanted.nodes(2)
for drift in live.DRIFTS:
    with measuring.connected(chosen), lab.Monitor() as monitor:
        monitor.settle()
        with lab.inside(2) as sock:
            floor.call(sock, drift.spoil(chosen[1], wanted.index_of(chosen[1])))
        heard = monitor.drain()
        try:
            wanted.check(chosen)
        except AssertionError as error:
            print(drift.name, heard > 0, error)
"""


@pytest.mark.kernel
def test_what_is_spoilt_is_heard_as_a_write_and_fails_the_check() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SPOIL], cwd=ROOT, capture_output=True, text=True, check=True
    )
    said = [line.split(" ", 2) for line in done.stdout.splitlines()]
    assert [words[:2] for words in said] == [["link", "True"], ["address", "True"], ["mtu", "True"]]
    assert "node_2" in said[0][2]
    assert "address" in said[1][2]
    assert "MTU" in said[2][2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--case", "nonsense"), "nonsense"),
        (("--n", "0"), "not a number from 1 to 9999"),
        (("--json", "/nowhere/rows.json"), "no directory"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_measured(
    words: tuple[str, ...], says: str
) -> None:
    done = bench(*words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_target_is_held_against_the_median_or_the_ratio() -> None:
    held = row("a", 10, "s", [1.0, 2.0, 9.0], floor=[1.0], target=Target("ratio", 2))
    assert (held.median, held.floor, held.ratio, held.holds) == (2.0, 1.0, 2.0, True)
    missed = row("a", 10, "s", [3.0], target=Target("median", 2.9))
    assert (missed.floor, missed.ratio, missed.holds) == (None, None, False)
    assert row("a", 10, "s", [3.0]).holds is None


def test_the_table_lines_up() -> None:
    lines = text(
        [
            row("a long name", 1000, "ms", [12.345], floor=[1.5], target=Target("ratio", 3)),
            row("b", 1, "s CPU", [0.001234]),
        ]
    ).splitlines()
    starts = [[line.index(word) for word in ("ms", "s CPU")[i : i + 1]] for i, line in
              enumerate(lines[1:])]  # fmt: skip
    assert starts == [[lines[0].index("unit")]] * 2
    assert lines[1].endswith("ratio ≤ 3  NO")
    assert "0.00123" in lines[2]
