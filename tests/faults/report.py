"""`python -m tests.faults.report FILE…`: what long runs came to, written into RELIABILITY.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.driver import Report, Step, table

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
_RELIABILITY = Path(__file__).parents[2] / "RELIABILITY.md"
_WHAT = {
    "netns": "Plain network namespaces",
    "docker": "Docker",
    "minutes": "Plain network namespaces, Relink stopped for a minute each time",
    "soak": "An hour of containers that come and go, and drift, in one life of the sidecar",
}


@dataclass(frozen=True, slots=True)
class Run:
    """Some sequences: on what, or what for."""

    what: str
    reports: tuple[Report, ...]


def main() -> int:
    """Write the tables of some runs into RELIABILITY.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.report", description=__doc__)
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path,
                        help="what `python -m tests.faults --json` wrote")  # fmt: skip
    options = parser.parse_args()
    machine = f"Linux {platform.release()}, {os.cpu_count()} processors."
    insert(_RELIABILITY, "\n\n".join([machine, *(markdown(read(file)) for file in options.files)]))
    return 0


def read(file: Path) -> Run:
    """Read what a run wrote."""
    told = json.loads(file.read_text())
    reports = []
    for row in told["reports"]:
        row["done"] = [Step(**step) for step in row["done"]]
        reports.append(Report(**row))
    return Run(told["what"], tuple(reports))


def markdown(run: Run) -> str:
    """Return what a run came to: how much, and a row for each kind of fault."""
    events = sum(len(report.done) for report in run.reports)
    violated = sum(bool(report.violated) for report in run.reports)
    seeds = [report.seed for report in run.reports]
    of_seeds = f"seeds {min(seeds)} to {max(seeds)}" if len(seeds) > 1 else f"seed {seeds[0]}"
    what = f"{events} faults, {of_seeds}; violations: {violated}"
    lines = [f"{_WHAT[run.what]}: {what}.", ""]
    if run.what == "soak":
        return "\n".join([*lines, *_growth(run.reports[0])])
    lines += [
        *_sizes([report for report in run.reports if report.sizes]),
        "| fault | times | median, ms | worst, ms |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {times} | {median:.0f} | {worst:.0f} |"
            for name, times, median, worst in table(run.reports)
        ),
    ]
    return "\n".join(lines)


def _sizes(reports: Sequence[Report]) -> list[str]:
    """Say what the sidecars held at the end, and how much more than earlier in the same life."""
    if not reports:
        return []
    grown, most = 0, 0
    for report in reports:
        last = report.sizes[-1]
        lived = [size for size in report.sizes if size["process"] == last["process"]]
        grown = max(grown, last["rss"] - lived[0]["rss"])
        most = max(most, last["rss"])
    at_most = f"A sidecar held at most {most / 1024:.0f} MiB at the end of a sequence"
    return [f"{at_most}, {grown / 1024:.1f} MiB more than when it was first looked at.", ""]


def _growth(report: Report) -> list[str]:
    """Say what the sidecar held at the start, in the middle and at the end."""
    sizes = report.sizes
    moments = {"start": sizes[0], "middle": sizes[len(sizes) // 2], "end": sizes[-1]}
    return [
        "| | descriptors | threads | processes | resident memory, MiB | containers |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {moment} | {size['descriptors']} | {size['threads']} | {size['processes']}"
            f" | {size['rss'] / 1024:.1f} | {size['containers']} |"
            for moment, size in moments.items()
        ),
    ]


def insert(file: Path, text: str) -> None:
    """Put a text between the two marks of a file.

    Raises:
        ValueError: it has not both of them, in this order.
    """
    before, begin, rest = file.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{file}: lacks {BEGIN} or {END}")
    file.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
