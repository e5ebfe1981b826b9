r"""What the first comment of an example says: prose, pictures, and commands to type.

It knows how comments are written, not what any example is about, and types nothing. Lines indented
by five blanks are a picture, a table (its columns are two blanks apart) or commands, each of which
begins with one of PROGRAMS; ` \` continues it. Words in double quotes after `#`, behind a command
or on the next line, are seen in what it prints; `until "words"` waits for them in a log. `&` leaves
it running until the comment is at its end.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = (
    *("docker", "podman", "reconcile", "mdc", "relink-start", "ip", "curl", "echo", "export"),
    *("aws", "tcpdump"),
)
_INDENT = "#     "
_NO_COMMAND = re.compile(r" *(.*(---|===)|\S+( \S+)?  +[^# ])")  # a picture, a table


@dataclass(frozen=True, slots=True)
class Step:
    """One command, the words that are seen in its output, and whether it is left running.

    `shown` are its lines as they stand there.
    """

    command: str
    seen: tuple[str, ...] = ()
    left_running: bool = False
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Indented lines that are no commands."""

    lines: tuple[str, ...]


Part = Step | Prose | Picture


def first_comment(file: Path) -> list[str]:
    """Return the lines at the start of a file that are comments."""
    lines = file.read_text().splitlines()
    end = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:end]


def steps(file: Path, programs: Sequence[str] = PROGRAMS) -> list[Step]:
    """Return what the first comment of an example says to type, in order; see `parts`."""
    return [part for part in parts(file, programs) if isinstance(part, Step)]


def parts(file: Path, programs: Sequence[str] = PROGRAMS) -> list[Part]:
    """Return all that the first comment of an example says, in order.

    Args:
        file: the example.
        programs: of the commands only those that begin with these.

    Raises:
        ValueError: a line among commands begins with no program that is known here.
    """
    found: list[Part] = []
    for kind, block in itertools.groupby(first_comment(file), key=_kind):
        lines = tuple(block)
        if kind == "prose":
            found.append(Prose(" ".join(line.removeprefix("#").strip() for line in lines)))
        elif kind == "indented":
            shown = tuple(line.removeprefix(_INDENT) for line in lines)
            if _NO_COMMAND.match(shown[0]):
                found.append(Picture(shown))
            else:
                told = _commands(file, shown)
                found += [step for step in told if step.command.split()[0] in programs]
    return found


def _kind(line: str) -> str:
    if line.startswith(_INDENT):
        return "indented"
    return "prose" if line.removeprefix("#").strip() else "blank"


def _commands(file: Path, lines: Iterable[str]) -> list[Step]:
    found: list[Step] = []
    shown: list[str] = []
    for line in lines:
        shown.append(line)
        if line.endswith("\\"):
            continue
        whole = " ".join([*(part[:-1].strip() for part in shown[:-1]), line.strip()])
        typed, _, remark = (word.strip() for word in whole.partition("#"))
        seen = tuple(re.findall(r'"([^"]+)"', remark))
        if not typed and found:
            found[-1] = replace(found[-1], seen=found[-1].seen + seen)
        elif not typed or typed.split()[0] not in PROGRAMS:
            raise ValueError(f"{file.name}: {typed}: begins with none of {', '.join(PROGRAMS)}")
        else:
            command = typed.removesuffix("&").strip()
            found.append(Step(command, seen, typed.endswith("&"), tuple(shown)))
        shown = []
    return found
