"""What can be wrong with a declaration, with its place: data, printed elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """Where something was written: file, line and column, both from 1; line 0 is the whole file."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


NOWHERE = Place("(no file)")


@dataclass(frozen=True, order=True, slots=True)
class Problem:
    """One thing that is wrong at one place: what it is, and what is allowed."""

    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {printable(self.message)}"


def printable(text: str) -> str:
    r"""Return `text` on one line, with what would drive a terminal spelled out, as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))
