"""`python -m tests.faults.report DIRECTORY`: what long runs came to, written into RELIABILITY.md.

What a part of scripts/faults wrote is there under its name: `netns.json`, with what was tried and
how often, or `fuzz.txt`, lines of what tests measured; `fuzz-uml.txt`, on another kernel. It fails
if a run broke something, or had a fault less often than is promised.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tests.faults.driver import Report, Step, table
from tests.faults.kinds import LEAST

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
OK, FAILED = 0, 1
_RELIABILITY = Path(__file__).parents[2] / "RELIABILITY.md"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the long form: what it is, and how often each of its faults has to be in it."""

    title: str
    least: dict[str, int]


_SEQUENCES = {
    "netns": Part("Plain network namespaces", LEAST["netns"]),
    "docker": Part("Docker", LEAST["docker"]),
    "minutes": Part("Relink stopped for a minute each time", {"stopped for a while": 50}),
    "clock": Part("A clock that is set, on a kernel of its own", {"clock set": 50}),
}
_WHOLE = "whole.json"  # how long all parts took together
_LONGEST = 3600  # seconds that they may take
_SOAK, _HOUR = "soak", "An hour in one life of the sidecar"
_MEASURED = {
    "packets": "Floods of numbered packets between two containers",
    "crashes": "SIGKILL at every message of every example",
    "fuzz": "Whatever comes from outside, changed at random",
}
_RANDOM, _MORE = "random", "The same, sixty times as much, in a run of its own"
_OF = "Commit "  # as revision.line() begins
_COMMIT = re.compile(r"^(?:.*violations: \d+\. )?Commit (\S+),", re.MULTILINE)
_EXECUTIONS = re.compile(r"(\d+) executions, (\d+) refused, (\d+) s")


@dataclass(frozen=True, slots=True)
class Run:
    """Some sequences: of what (revision.line()), and how many seconds they took."""

    of: str
    seconds: int
    reports: tuple[Report, ...]


def main() -> int:
    """Write the tables of some runs into RELIABILITY.md; return 1 if a run was not as promised."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.report", description=__doc__)
    parser.add_argument(
        "directory", metavar="DIRECTORY", type=Path, help="what scripts/faults left"
    )
    options = parser.parse_args()
    runs = {
        name: read(file)
        for name in (*_SEQUENCES, _SOAK)
        if (file := options.directory / f"{name}.json").exists()
    }
    texts = [sequences(name, run) for name, run in runs.items()]
    if _SOAK not in runs:
        texts.append(f"### {_HOUR}\n\nNot run with these; `scripts/faults soak report` does.")
    titles = dict(_MEASURED)
    if (options.directory / f"{_RANDOM}.txt").exists():
        titles[_RANDOM] = _MORE
    amiss = [f"{name}: did not come to its end" for name in _SEQUENCES if name not in runs]
    for name, title in titles.items():
        files = sorted(options.directory.glob(f"{name}*.txt"))
        if lines := [line for file in files for line in file.read_text().splitlines()]:
            texts.append(measured(title, lines))
        else:
            amiss.append(f"{name}: measured nothing")
    amiss += [each for name, run in runs.items() for each in lacking(name, run)]
    for file in sorted(options.directory.glob("*.code")):
        if (code := file.read_text().strip()) != "0":
            amiss.append(f"{file.stem}: exit code {code}")
    if (file := options.directory / _WHOLE).exists():
        took = json.loads(file.read_text())
        minutes, seconds = divmod(took["seconds"], 60)
        whole = f"All of it took {minutes} min {seconds} s on {took['processors']} processors"
        texts.insert(0, f"{whole}, the floods over Open vSwitch alone, the rest at once.")
        if took["seconds"] >= _LONGEST:
            amiss.append(f"{took['seconds']} seconds, and not less than {_LONGEST}")
    commits = {found for text in texts for found in _COMMIT.findall(text)}
    if len(commits) > 1 or any(not each.isalnum() for each in commits):
        amiss.append(f"of more than one commit, or of changed files: {', '.join(sorted(commits))}")
    if amiss:
        texts.insert(0, "\n".join(["Amiss:", "", *(f"- {each}" for each in amiss)]))
    insert(_RELIABILITY, "\n\n".join(texts))
    for each in amiss:
        print(each, file=sys.stderr)
    return FAILED if amiss else OK


def read(file: Path) -> Run:
    """Read what a run wrote."""
    told = json.loads(file.read_text())
    reports = []
    for row in told["reports"]:
        row["done"] = [Step(**step) for step in row["done"]]
        reports.append(Report(**row))
    return Run(told["of"], told["seconds"], tuple(reports))


def lacking(name: str, run: Run) -> Iterator[str]:
    """Say what a run is not that it should be."""
    for report in run.reports:
        if report.violated:
            yield f"{name}: seed {report.seed}: {report.violated.splitlines()[0]}"
    if name in _SEQUENCES:
        had = {fault: times for fault, times, _, _ in table(run.reports)}
        for fault, least in _SEQUENCES[name].least.items():
            if (times := had.get(fault, 0)) < least:
                yield f"{name}: {fault}: {times} times, and not {least}"


def sequences(name: str, run: Run) -> str:
    """Return what a run came to: how much, and a row for each kind of fault."""
    events = sum(report.faults for report in run.reports)
    violated = sum(bool(report.violated) for report in run.reports)
    seeds = [report.seed for report in run.reports]
    of_seeds = f"seeds {min(seeds)} to {max(seeds)}" if len(seeds) > 1 else f"seed {seeds[0]}"
    title = _SEQUENCES[name].title if name in _SEQUENCES else _HOUR
    what = (
        f"{events} faults, {of_seeds}, in {run.seconds / 60:.0f} minutes; violations: {violated}."
    )
    lines = [f"### {title}", "", f"{what} {run.of}", ""]
    if name == _SOAK:
        return "\n".join([*lines, *_growth(run.reports[0])])
    rows = {fault: row for fault, *row in table(run.reports)}
    lines += [
        *_sizes([report for report in run.reports if report.sizes]),
        "| fault | times | median, ms | worst, ms |",
        "| --- | ---: | ---: | ---: |",
    ]
    promised = (fault for fault, least in _SEQUENCES[name].least.items() if least)
    for fault in dict.fromkeys([*promised, *rows]):
        times, median, worst = rows.get(fault, (0, 0, 0))
        took = f"{median:.0f} | {worst:.0f}" if times else " | "
        lines.append(f"| {fault} | {times} | {took} |")
    return "\n".join(lines)


def measured(title: str, lines: Sequence[str]) -> str:
    """Return what tests measured, those of the same name that count executions together."""
    counts: dict[str, list[int]] = {}
    of = [line for line in lines if line.startswith(_OF)]
    told = []
    for line in lines:
        if line in of:
            continue
        name, _, words = line.removeprefix("test_").partition(": ")
        if found := _EXECUTIONS.search(words):
            before = counts.setdefault(name.partition("[")[0], [0, 0, 0])
            for at, more in enumerate(found.groups()):
                before[at] += int(more)
        else:
            told.append(f"- {name.replace('_', ' ')}: {words}")
    for name, (tried, refused, seconds) in counts.items():
        words = f"{tried} executions, {refused} refused, {seconds} s, none crashed"
        told.append(f"- {name.replace('_', ' ')}: {words}")
    return "\n".join([f"### {title}", "", *dict.fromkeys(of), "", *told])


def _sizes(reports: Sequence[Report]) -> list[str]:
    """Say what the sidecars held, how much more than earlier in the same life, and how long one is.

    How often what happened was taken for a fight is said there, too.
    """
    if not reports:
        return []
    lives = [
        list(life)
        for report in reports
        for _, life in groupby(report.sizes, key=lambda size: size["process"])
    ]
    most = max(size["rss"] for life in lives for size in life)
    grown = max(life[-1]["rss"] - life[0]["rss"] for life in lives)
    longest = max(life[-1]["faults"] - life[0]["faults"] for life in lives)
    held = f"A sidecar held at most {most / 1024:.0f} MiB"
    more = f"at most {grown / 1024:.1f} MiB more than when it was first looked at in its life"
    fights = sum(report.fights for report in reports)
    return [
        f"{held}, {more}; the longest life had {longest} faults between two such looks.",
        f"Links on which so much happened that it was taken for a fight: {fights}.",
        "",
    ]


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
