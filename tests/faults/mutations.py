"""`python -m tests.faults.mutations`: defects put into Relink on purpose, which faults must find.

A suite that finds nothing shows something only if it is known to find. Each defect is one that a
reconciler may well have; it is put into a copy of the sources, and sequences of faults run on the
copy until an invariant breaks.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import ends

OK, FAILED = 0, 1
_ROOT = Path(__file__).parents[2]
_NOT_SOURCES = (".git", ".venv", ".cache", "*.egg-info")


@dataclass(frozen=True, slots=True)
class Mutation:
    """A defect: `before` becomes `after` in a file.

    Attributes:
        runtime: where faults look for it.
        pinned: with a data plane that outlives the sidecar, which every second seed has there.
        events: how many may pass.
        kinds: words in the names of the faults that may find it; all may where there are none.
    """

    name: str
    file: str
    before: str
    after: str
    runtime: str = "netns"
    pinned: bool = False
    events: int = 400
    kinds: str = ""


MUTATIONS = (
    Mutation(
        "a look fails now and then, and the next one mends it",
        "reconciler/passes.py",
        "    facts = world.facts\n",
        "    facts = world.facts\n"
        "    if __import__('random').random() < 0.1:\n"
        "        raise RuntimeError('a defect')\n",
    ),
    Mutation(
        "a bridge is lowered for a moment when something is plugged into it",
        "actuators/links.py",
        "    index = numbers.index(link.key)\n    raising",
        "    index = numbers.index(link.key)\n"
        "    if link.master and (changed is None or 'master' in changed):\n"
        "        bridge = numbers.index(link.master_key())\n"
        "        flap = [_set(link, bridge, f, nl.IFF_UP) for f in (0, nl.IFF_UP)]\n"
        "        rest = replace(link, master=None)\n"
        "        own = _set(link, index, 0, 0, nl.u32(nl.IFLA_MASTER, bridge))\n"
        "        return [own, *flap, *_configure(rest, numbers, changed)]\n"
        "    raising",
    ),
    Mutation(
        "ownership is ignored",
        "reconciler/diff.py",
        "return resource.group == self.group or self._of_our_switch(resource)",
        "return True",
    ),
    Mutation(
        "another Relink's links are taken for our own",
        "reconciler/diff.py",
        "return resource.group == self.group or self._of_our_switch(resource)",
        "return self._marked(resource) or self._of_our_switch(resource)",
    ),
    Mutation(
        "a socket in a namespace is kept for the next pass",
        "observers/namespaces.py",
        "opened.sockets[ns] = open_socket()\n        opened.inodes[ns] = inode",
        "kept = open_socket.__dict__.setdefault(ns, open_socket())\n"
        "        opened.sockets[ns] = kept.dup()\n        opened.inodes[ns] = inode",
    ),
    Mutation(
        "routes are not heard of",
        "observers/doorbells.py",
        "    nl.RTNLGRP_IPV4_ROUTE,\n    nl.RTNLGRP_IPV6_ROUTE,\n",
        "",
    ),
    Mutation(
        "what rings during a pass is taken for answered by it",
        "reconciler/debounce.py",
        "        for scope in looked:\n",
        "        for scope in looked:\n            self.rung.pop(scope, None)\n",
        events=60,  # of more on so few links some are taken for a fight, and wait for a minute
        kinds="another while",
    ),
    Mutation(
        "an outer end is taken for silent",
        "observers/links.py",
        "silent = mode[0] == nl.IN6_ADDR_GEN_MODE_NONE",
        "silent = True",
    ),
    Mutation(
        "what is ours and not declared stays",
        "reconciler/diff.py",
        "        stale = {link.key for link in self._stale_links()}\n",
        "        stale = set[Key]()\n",
    ),
    Mutation(
        "routes, rules and tables that are not declared any more stay",
        "reconciler/diff.py",
        "if switched or link_of(key) not in going | self.remade:",
        "if switched:",
        kinds="file",
    ),
    Mutation(
        "each look leaves a descriptor open",
        "reconciler/loop.py",
        "        self.findings.begin()\n",
        "        self.findings.begin()\n        __import__('os').dup(2)\n",
    ),
    Mutation(
        "each look is remembered",
        "reconciler/loop.py",
        "        self.findings.begin()\n",
        "        self.findings.begin()\n"
        "        self.__dict__.setdefault('seen', []).append(bytearray(1 << 17))\n",
    ),
    Mutation(
        "addresses are different in each life of Relink",
        "model/addressing.py",
        'seed = f"{instance}\\0{owner}\\0{dev}".encode()',
        "seed = f\"{instance}\\0{owner}\\0{dev}{__import__('os').getpid()}\".encode()",
    ),
    Mutation(
        "a second sidecar of one name goes to work",
        "reconciler/control.py",
        "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
    ),
    Mutation(
        "a broken file is not told of",
        "reconciler/loop.py",
        "self.config_errors = tuple(str(problem) for problem in error.problems)",
        "self.config_errors = ()",
    ),
    Mutation(
        "an orderly end leaves what it made",
        "reconciler/loop.py",
        "if self.crashes.hopeless or self.settings.keep_on_exit:",
        "if True:",
    ),
    Mutation(
        "what the kernel could not tell is taken for nothing",
        "observers/doorbells.py",
        "                self._congested.add(sock)\n                yield Deaf()\n",
        "",
    ),
    Mutation(
        "what is not done is called Ready",
        "reconciler/status.py",
        "    for step in done.plan.steps:\n        entry =",
        "    for step in ():\n        entry =",
        kinds="busy",
    ),
    Mutation(
        "an engine that is heard again is not asked what runs",
        "reconciler/engines.py",
        'engine.relist, engine.deaf = True, ""',
        'engine.relist, engine.deaf = not engine.listed, ""',
        "docker",
    ),
    Mutation(
        "what an engine has not told of is taken for gone",
        "reconciler/loop.py",
        "            if in_sync:\n                return allowed\n",
        "            return allowed\n",
        "docker",
        pinned=True,
    ),
    Mutation(
        "who has waited longer and longer never waits less again",
        "reconciler/retries.py",
        "    return min(FIRST * ",
        "    times = _wait.all = getattr(_wait, 'all', 0) + 1\n    return min(FIRST * ",
        kinds="busy",
    ),
    Mutation(
        "what waits to be tried again is not hurried by a change",
        "reconciler/retries.py",
        "if key.ns == ns and entry.failures:",
        "if key.ns == ns and entry.failures < 0:",
        events=5,
        kinds="busy for long",
    ),
)


def main() -> int:
    """Try defects; return 0 if each was found, and nothing without one, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutations", description=__doc__)
    parser.add_argument("--only", metavar="WORDS", default="", help="whose name has these in it")
    parser.add_argument("--seed", type=int, default=1, help="of the sequence (1)")
    options = parser.parse_args()
    ends.in_order()
    failed = False
    sound: set[tuple[str, ...]] = set()
    for mutation in (each for each in MUTATIONS if options.only in each.name):
        words = _words(mutation, options.seed + mutation.pinned)
        if words not in sound:
            failed |= _say("without any defect", words, None)
            sound.add(words)
        failed |= _say(mutation.name, words, mutation)
    return FAILED if failed else OK


def _words(mutation: Mutation, seed: int) -> tuple[str, ...]:
    words = ("--runtime", mutation.runtime, "--seed", str(seed), "--kinds", mutation.kinds)
    return (*words, "--events", str(mutation.events), "--shrink", "0")


def _say(name: str, words: Sequence[str], mutation: Mutation | None) -> bool:
    """Say what faults find; tell whether that is wrong."""
    started = time.monotonic()
    found = _found(words, mutation)
    took = f"{time.monotonic() - started:.0f} s"
    print(f"{name}: {found or 'nothing found'} ({took}; {' '.join(words)})", flush=True)
    return bool(found) != bool(mutation)


def _found(words: Sequence[str], mutation: Mutation | None) -> str:
    """Return the fault and the invariant that a sequence on a copy of the sources ends with."""
    with tempfile.TemporaryDirectory(prefix="relink-mutation-") as directory:
        root = Path(directory)
        skipped = shutil.ignore_patterns(*_NOT_SOURCES)
        shutil.copytree(_ROOT, root, ignore=skipped, dirs_exist_ok=True)
        if mutation:
            _change(root / mutation.file, mutation)
        # -P would keep the copy out: what is imported has to be what is in this directory.
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults", *words],
            cwd=root, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode == OK:
        return ""
    told = [line for line in done.stderr.splitlines() if line.startswith("seed ")]
    if done.returncode != FAILED or not told:
        raise RuntimeError(f"no faults could be tried: {done.stderr}")
    return told[0].partition(": ")[2]


def _change(file: Path, mutation: Mutation) -> None:
    text = file.read_text()
    if text.count(mutation.before) != 1:
        raise ValueError(f"{mutation.name}: {mutation.file} has not once {mutation.before!r}")
    file.write_text(text.replace(mutation.before, mutation.after))


if __name__ == "__main__":
    sys.exit(main())
