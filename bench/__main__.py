"""`python -m bench`: measure, print a table, and fail if a target does not hold."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.cases import CASES
from bench.lab import isolate, populate
from bench.measuring import Bench, clean
from bench.programs import START_UP
from bench.table import Row, text

OK, MISSED, IMPOSSIBLE = 0, 1, 2


def _count(word: str) -> int:
    if word.isascii() and word.isdigit() and 1 <= int(word[:6]) <= 9999:
        return int(word)
    raise argparse.ArgumentTypeError(f"{word!r} is not a number from 1 to 9999")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure Relink on the real kernel, beside a raw program that does the same. "
        "Needs root, or a user namespace.",
        epilog="exit codes: 0 every target holds; 1 one does not; 2 nothing can be measured here",
        allow_abbrev=False,
    )
    parser.add_argument("--case", action="append", choices=CASES, help="(default: all)")
    parser.add_argument(
        "--n", action="append", type=_count, metavar="N",
        help="containers; may be repeated (default: 10 100 1000)",
    )  # fmt: skip
    parser.add_argument("--runs", type=_count, default=5, metavar="R", help="(default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here too")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen cases; return the exit code."""
    options = _parser().parse_args(arguments)
    target: Path | None = options.json.absolute() if options.json else None
    if target and not target.parent.is_dir():
        print(f"bench: {target.parent} is no directory", file=sys.stderr)
        return IMPOSSIBLE
    try:
        isolate()
    except OSError as error:
        print(f"bench: {error}; run as root or where user namespaces are allowed", file=sys.stderr)
        return IMPOSSIBLE
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows: list[Row] = []
    try:
        for each in measure(
            options.case or list(CASES), sorted(set(options.n or ())), options.runs
        ):
            rows.append(each)
            _progress(each)
    except KeyboardInterrupt:
        print("\nbench: stopped", file=sys.stderr)
        return 130
    finally:
        clean()  # the rest goes with this process
    print(f"Linux {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
    print(text(rows))
    if target:
        target.write_text(json.dumps([each.data() for each in rows], indent=2) + "\n")
    return MISSED if any(each.holds is False for each in rows) else OK


def measure(cases: Sequence[str], numbers: Sequence[int], runs: int) -> Iterator[Row]:
    """Yield the rows of some cases, fewest containers first."""
    bench = Bench(runs)
    if "start-up" in cases:
        populate(START_UP)
        yield from CASES["start-up"](bench, START_UP)
    for n in numbers or (10, 100, 1000):
        populate(n)
        for name in cases:
            if name != "start-up":
                yield from CASES[name](bench, n)


def _progress(each: Row) -> None:
    if sys.stderr.isatty():
        print(f"{each.case} {each.n}: {each.median:.3g} {each.unit}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
