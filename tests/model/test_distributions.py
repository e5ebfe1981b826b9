"""The tables of netem's distributions against those that come with tc, where tc is installed."""

from __future__ import annotations

import struct
from pathlib import Path
from statistics import fmean, pstdev

import pytest

from model.distributions import ENTRIES, SCALE, table

FILES = [path for where in ("/usr/lib", "/usr/share") for path in Path(where).rglob("tc/*.dist")]


def values(distribution: str) -> tuple[int, ...]:
    return struct.unpack(f"={ENTRIES}h", table(distribution))


@pytest.mark.parametrize("name", ["normal", "pareto", "paretonormal"])
def test_a_table_is_tc_s_but_for_its_last_digit(name: str) -> None:
    """1 of 8192 parts of a jitter: tc finds its normal quantiles in steps of 0.00005."""
    (path,) = [path for path in FILES if path.name == f"{name}.dist"]
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    theirs = [int(word) for line in lines for word in line.split()]
    ours = values(name)
    assert len(theirs) == len(ours)
    assert max(abs(a - b) for a, b in zip(theirs, ours, strict=True)) <= 1


def test_the_uniform_table_is_one_jitter_to_either_side() -> None:
    drawn = values("uniform")
    assert (drawn[0], drawn[-1], fmean(drawn)) == (2 - SCALE, SCALE - 2, 0)
    assert pstdev(drawn) == pytest.approx(SCALE / 3**0.5, rel=1e-3)


def test_the_normal_table_has_a_standard_deviation_of_one_jitter() -> None:
    assert pstdev(values("normal")) == pytest.approx(SCALE, rel=1e-3)
    assert fmean(values("normal")) == pytest.approx(0, abs=SCALE / 1000)
