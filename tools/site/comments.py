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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = (
    *("docker", "podman", "reconcile", "mdc", "relink-start", "ip", "curl", "echo", "export"),
    *("aws", "tcpdump"),
)
_MARGIN = "#     "
_NO_COMMAND = re.compile(r".*(---|===)|\S+( \S+)?  +[^ #]")  # a picture, a table


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


def summary(file: Path) -> str:
    """Return the first paragraph of an example's first comment."""
    lines = itertools.takewhile(lambda line: _kind(line) == "prose", first_comment(file))
    return " ".join(line.removeprefix("#").strip() for line in lines)


def steps(file: Path, programs: Sequence[str] = PROGRAMS) -> list[Step]:
    """Return what the first comment of an example says to type, in order.

    Args:
        file: the example.
        programs: only what begins with these.

    Raises:
        ValueError: a line among commands begins with no program that is known here.
    """
    typed = [part for part in parts(file) if isinstance(part, Step)]
    return [step for step in typed if step.command.split()[0] in programs]


def parts(file: Path) -> list[Part]:
    """Return all that the first comment of an example says, in order.

    Raises:
        ValueError: a line among commands begins with no program that is known here.
    """
    found: list[Part] = []
    for kind, block in itertools.groupby(first_comment(file), key=_kind):
        lines = list(block)
        if kind == "indented":
            found += _indented([line.removeprefix(_MARGIN) for line in lines], file.name)
        elif kind == "prose":
            found.append(Prose(" ".join(line.removeprefix("#").strip() for line in lines)))
    return found


def _kind(line: str) -> str:
    if not line.removeprefix("#").strip():
        return "blank"
    return "indented" if line.startswith(_MARGIN) else "prose"


def _indented(lines: list[str], where: str) -> list[Part]:
    """Return what indented lines are, between which is no other."""
    if _NO_COMMAND.match(lines[0].strip()):
        return [Picture(tuple(lines))]
    found: list[Part] = []
    while lines:
        shown = [lines.pop(0)]
        while shown[-1].endswith("\\") and lines:
            shown.append(lines.pop(0))
        line = "".join(each.removesuffix("\\").lstrip() for each in shown)
        command, _, remark = (word.strip() for word in line.partition("#"))
        seen = tuple(re.findall(r'"([^"]+)"', remark))
        last = found[-1] if found else None
        if not command and isinstance(last, Step):
            found[-1] = replace(last, seen=last.seen + seen)
        elif command.split(" ")[0] not in PROGRAMS:
            raise ValueError(f"{where}: {command}: begins with none of {', '.join(PROGRAMS)}")
        else:
            left_running = command.endswith("&")
            command = command.removesuffix("&").strip()
            found.append(Step(command, seen, left_running, tuple(shown)))
    return found
