"""Rows of figures, and how they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

_COLUMNS = ("case", "n", "unit", "median", "min", "max", "floor", "ratio", "target", "holds")


@dataclass(frozen=True, slots=True)
class Target:
    """What must hold: the median, or its ratio to the floor, is at most so much."""

    of: Literal["median", "ratio"]
    most: float


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure.

    Attributes:
        case: what was measured.
        n: how many containers there were.
        unit: of `median`, `min`, `max` and `floor`.
        floor: median of the same by a raw program in the same run.
        target: what must hold, in words.
        holds: whether it does; None without a target.
    """

    case: str
    n: int
    unit: str
    median: float
    min: float
    max: float
    floor: float | None = None
    ratio: float | None = None
    target: str = ""
    holds: bool | None = None

    def data(self) -> dict[str, Any]:
        """Return the row as plain data, for JSON."""
        return asdict(self)


def row(
    case: str,
    n: int,
    unit: str,
    values: Sequence[float],
    *,
    floor: Sequence[float] = (),
    target: Target | None = None,
) -> Row:
    """Sum up what was measured."""
    median = statistics.median(values)
    lowest = statistics.median(floor) if floor else None
    ratio = median / lowest if lowest else None
    words, holds = "", None
    if target:
        judged = median if target.of == "median" else ratio
        words = f"{target.of} ≤ {target.most:g}"
        holds = judged is not None and judged <= target.most
    return Row(case, n, unit, median, min(values), max(values), lowest, ratio, words, holds)


def text(rows: Sequence[Row]) -> str:
    """Return the rows as a table that lines up."""
    cells = [_COLUMNS, *(tuple(_cell(each, name) for name in _COLUMNS) for each in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(_COLUMNS))]
    left = {"case", "unit", "target", "holds"}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if name in left else cell.rjust(width)
            for name, cell, width in zip(_COLUMNS, line, widths, strict=True)
        ).rstrip()
        for line in cells
    )


def _cell(each: Row, name: str) -> str:
    value = getattr(each, name)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value) or "-"
