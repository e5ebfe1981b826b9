"""Transcripts: what was typed at a real engine and what was seen, kept for the guides.

Tests write them while they play an example, or the README, as its text says; the site reads them.
One is a JSON file below .cache, which a guest kernel shares with the machine that it runs on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.site.console import cleaned

DIRECTORY = Path(__file__).resolve().parents[2] / ".cache" / "transcripts"
_ID = re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])([0-9a-f]{12})[0-9a-f]{52}\b")


@dataclass(frozen=True, slots=True)
class Entry:
    """One command that was typed, as its file has it, and what it printed on both outputs."""

    command: str
    output: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was typed, in order, and where.

    Attributes:
        where: the kernel and the engine's program, in words.
        entries: each ended with exit code 0; the test that typed them saw to that.
    """

    where: str
    entries: tuple[Entry, ...]

    def printed(self, commands: Sequence[str]) -> list[str]:
        """Return what each of some commands printed, which were typed in this order.

        Raises:
            KeyError: one of them was not typed.
        """
        left = list(self.entries)
        found = []
        for command in commands:
            at = next((n for n, each in enumerate(left) if each.command == command), None)
            if at is None:
                raise KeyError(command)
            found.append(left.pop(at).output)
        return found


def entry(command: str, output: str) -> Entry:
    """Make an entry: without colours, and full ids of containers as people see them."""
    return Entry(command, _ID.sub(r"\1", cleaned(output)))


def write(name: str, transcript: Transcript, directory: Path = DIRECTORY) -> None:
    """Keep a transcript under a name, instead of an earlier one."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{name}.json"
    file.write_text(json.dumps(asdict(transcript), indent=1, ensure_ascii=False) + "\n")


def read(name: str, directory: Path = DIRECTORY) -> Transcript | None:
    """Return the transcript of a name, None if there is none."""
    try:
        kept = json.loads((directory / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    return Transcript(kept["where"], tuple(Entry(**each) for each in kept["entries"]))
