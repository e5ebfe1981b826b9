"""`python -m tests.faults`: sequences of faults on a live network, and what they came to.

Each sequence has namespaces, a sidecar and files of its own. A sequence in which an invariant did
not hold is made as short as it goes, and is told with what to type to see it again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from tests.faults import daemon, foreign, kernel
from tests.faults.docker import Docker
from tests.faults.driver import Limits, Report, Step, replay, run, table
from tests.faults.engines import Named
from tests.faults.kinds import FAULTS, OF_RUNTIME, SOAK
from tests.faults.shrink import shrink
from tests.faults.topology import Declared
from tests.faults.world import World
from tests.kernel.lab import CLONE_NEWNET, private_run, unshare
from tests.lab import ends, revision

OK, FAILED = 0, 1
_PINNED = 2  # of so many sequences on Docker one has a data plane that outlives the sidecar
_SWITCHED = 5  # one sequence of so many has Open vSwitch
# Runtime, seed, how much, only these steps, seconds to make them fewer.
Work = tuple[str, int, Limits, Sequence[Step] | None, float]


def _number(word: str) -> int:
    """Return a number from 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not word.isdecimal() or not int(word):
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 1")
    return int(word)


def main() -> int:
    """Run some sequences; return 0 if every invariant held in all of them, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runtime", choices=("netns", "docker"), default="netns",
                        help="what containers are (netns)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="of the first sequence (1)")
    parser.add_argument("--events", type=_number, default=200, help="faults in a sequence (200)")
    parser.add_argument("--kinds", metavar="WORDS", default="",
                        help="only faults whose name has these in it")  # fmt: skip
    parser.add_argument("--soak", metavar="MINUTES", type=float,
                        help="only containers that come and go and drift, for so long")  # fmt: skip
    parser.add_argument(
        "--sequences", type=_number, default=1, help="how many, with seeds in turn (1)"
    )
    parser.add_argument("--workers", type=_number, default=1, help="sequences at a time (1)")
    parser.add_argument("--only", metavar="JSON", help="of the sequence only these steps")
    parser.add_argument("--shrink", metavar="SECONDS", type=float, default=300.0,
                        help="how long to make what broke something shorter (300)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", type=Path, help="write what happened there, too")
    options = parser.parse_args()
    if os.geteuid():
        parser.error("only root can make namespaces, and trace what is in them")
    try:
        only = [Step(*step) for step in json.loads(options.only)] if options.only else None
    except (ValueError, TypeError):
        only = []
    if options.only and (not only or any(step.name not in FAULTS for step in only)):
        parser.error("--only: not what a violated sequence has printed")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: {options.json.parent} is no directory")
    kinds = tuple(name for name in OF_RUNTIME[options.runtime] if options.kinds in name)
    if not kinds:
        parser.error(f"no fault has {options.kinds!r} in its name")
    limits = Limits(options.events, kinds=kinds)
    if options.soak:
        limits = Limits(sys.maxsize, options.soak * 60, SOAK)
    seeds = range(options.seed, options.seed + options.sequences)
    work = [(options.runtime, seed, limits, only, options.shrink) for seed in seeds]
    if options.runtime == "docker":
        daemon.furnish()
    return _all(work, options)


def _all(work: Sequence[Work], options: argparse.Namespace) -> int:
    started = time.monotonic()
    ends.in_order()
    # A process of its own for each: namespaces are entered for good.
    with multiprocessing.get_context("fork").Pool(options.workers, maxtasksperchild=1) as pool:
        reports = []
        for report in pool.imap_unordered(_apart, work, chunksize=1):
            reports.append(report)
            _progress(reports, len(work))
            if report.violated:
                _tell(report, options.runtime)  # and what goes on may take an hour
        # In order: a worker that SIGTERM finds just forked, in Python's own hook (3.11), drops the
        # exception from it and waits for work for ever.
        pool.close()
        pool.join()
    reports.sort(key=lambda report: report.seed)
    for name, times, median, worst in table(reports):
        print(f"{name:40} {times:6}  {median:8.1f} ms  {worst:8.1f} ms")
    for report in reports:
        if not report.violated:
            _tell(report, options.runtime)
    if options.json:
        told = {
            "of": revision.line(),
            "seconds": round(time.monotonic() - started),
            "reports": [asdict(report) for report in reports],
        }
        options.json.write_text(json.dumps(told) + "\n")
    return FAILED if any(report.violated for report in reports) else OK


def _progress(reports: Sequence[Report], sequences: int) -> None:
    """Say how far it is, a line for each sequence that has ended."""
    if sequences == 1:
        return
    faults = sum(report.faults for report in reports)
    violated = sum(bool(report.violated) for report in reports)
    told = f"{len(reports)} of {sequences} sequences, {faults} faults, {violated} violations"
    print(told, file=sys.stderr, flush=True)


def _tell(report: Report, runtime: str) -> None:
    sizes = [" ".join(f"{k} {v}" for k, v in size.items()) for size in report.sizes]
    held = f"; {sizes[0]}; at the end {sizes[-1]}" if sizes else ""
    fights = f"; {report.fights} taken for a fight" if report.fights else ""
    if not report.violated:
        faults = f"{report.faults} faults, every invariant held"
        print(f"seed {report.seed}: {faults}{held}{fights}")
        return
    steps = [(step.number, step.name) for step in report.done]
    where = f"fault {len(steps)}, {steps[-1][1]}" if steps else "before any fault"
    print(f"seed {report.seed}: {where}: {report.violated}", file=sys.stderr)
    stopped = os.environ.get("FAULTS_STOPPED")
    words = ["env", f"FAULTS_STOPPED={stopped}"] if stopped else []
    words += [sys.executable, "-m", "tests.faults", "--runtime", runtime]
    words += ["--seed", str(report.seed), "--only", json.dumps(steps)]
    print(f"again: {shlex.join(words)}", file=sys.stderr)


def _apart(work: Work) -> Report:
    """Run a sequence in namespaces of its own; make it short if it breaks something."""
    runtime, seed, limits, only, seconds = work
    # Of its own, too, is what an engine mounts: whoever takes a copy of the mounts of this machine
    # would keep namespaces of containers alive that have ended.
    private_run()
    report = _sequence(runtime, seed, limits, only)
    if report.violated and not only and seconds:
        shorter = shrink(
            report.done,
            lambda steps: bool(_sequence(runtime, seed, limits, steps).violated),
            seconds,
        )
        again = _sequence(runtime, seed, limits, shorter)
        report = again if again.violated else report
    return report


def _sequence(runtime: str, seed: int, limits: Limits, only: Sequence[Step] | None) -> Report:
    unshare(CLONE_NEWNET)  # for what listens, and of named namespaces for the data plane
    with TemporaryDirectory(prefix="relink-faults-") as directory:
        if runtime == "docker":
            with daemon.dockerd() as engine:
                pinned = not seed % _PINNED
                world = World(Docker(Path(directory), engine, pinned), Random(seed))
                return _played(world, seed, limits, only)
        # Where Relink has its socket when /run cannot have it.
        os.environ["XDG_RUNTIME_DIR"] = directory
        with _disk(Path(directory)) as disk:
            mode = "linux" if seed % _SWITCHED else "ovs"
            declared = Declared(mode=mode, translates=foreign.TABLES)
            world = World(Named(disk), Random(seed), declared=declared)
            return _played(world, seed, limits, only)


def _played(world: World, seed: int, limits: Limits, only: Sequence[Step] | None) -> Report:
    return run(world, seed, limits) if only is None else replay(world, seed, only)


@contextmanager
def _disk(directory: Path) -> Iterator[Path]:
    """A disk of one's own, which can be full."""
    disk = directory / "disk"
    disk.mkdir()
    kernel.run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk))
    try:
        yield disk
    finally:
        kernel.run("umount", str(disk))


if __name__ == "__main__":
    sys.exit(main())
