"""Cases of commands, from start to end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from bench import wanted
from bench.measuring import Bench, Spent
from bench.sidecar import PROGRAM, ROOT, WORDS
from bench.table import Row, Target, row
from bench.wanted import DEV, nodes

START_UP = 4  # containers of the start-up case


def start_up(bench: Bench, n: int) -> Iterator[Row]:
    """A command from its start to its end, among n containers."""

    def spend(words: list[str], code: int = 0) -> str:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout

    preview, version = [*PROGRAM, *WORDS, "--dry-run"], [*PROGRAM, "--version"]
    # Once each for the caches of the file system and of the interpreter.
    said = spend(preview, 2)
    assert all(f"node_{i}:{DEV}" in said for i in range(1, n + 1)), said
    assert spend(version).startswith("relink ")
    bare, dry, short = Spent(), Spent(), Spent()
    for _ in range(bench.runs):
        bare.time(lambda: spend([sys.executable, "-c", "pass"]))
        dry.time(lambda: spend(preview, 2))
        short.time(lambda: spend(version))
    wanted.gone(nodes(n))
    target = Target("median", 0.5)
    yield row("start-up: --dry-run", n, "s", dry.wall, floor=bare.wall, target=target)
    yield row("start-up: --version", n, "s", short.wall, floor=bare.wall)
