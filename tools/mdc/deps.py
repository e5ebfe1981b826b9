"""The language of `deps` files: names, either-or, order only. Knows no directory and no mode."""

from __future__ import annotations

import re
from dataclasses import dataclass

from model.problems import ConfigError, Place, Problem

# What a directory, a compose profile and a list with colons or commas all take.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ENTRY = re.compile(r"[^\s,]+")


@dataclass(frozen=True, slots=True)
class Need:
    """One entry: any one of `names` is enough.

    Attributes:
        names: the modes that the entry names, in its order, each once.
        place: where the entry stands.
        order_only: the mode comes first where it is there, and nothing asks for it (`+a`).
    """

    names: tuple[str, ...]
    place: Place
    order_only: bool = False


def parse(text: str, file: str) -> list[Need]:
    """Return the entries of a `deps` file, or of a list of modes that somebody typed.

    Entries are separated by blanks, ends of lines and commas: `a`, `a|b` (either), `+a` (order
    only). `#` begins a comment.

    Args:
        text: what is in the file.
        file: its name, for places.

    Raises:
        ConfigError: with every entry that is none, each with its place.
    """
    needs: list[Need] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        for match in _ENTRY.finditer(line.partition("#")[0]):
            place = Place(file, number, match.start() + 1)
            entry = match[0].removeprefix("+")
            order_only = entry != match[0]
            names = tuple(dict.fromkeys(entry.split("|")))
            if wrong := _wrong(match[0], names, order_only=order_only):
                problems.append(Problem(place, wrong))
            else:
                needs.append(Need(names, place, order_only))
    if problems:
        raise ConfigError(problems)
    return needs


def _wrong(entry: str, names: tuple[str, ...], *, order_only: bool) -> str:
    """Return what is wrong with an entry, empty when nothing is."""
    if "" in names:
        return f"{entry!r} lacks a name; write a|b and +a without blanks"
    if not all(map(_NAME.fullmatch, names)):
        return (
            f"{entry!r} is not the name of a mode: letters, digits, '_', '.' and '-', "
            "the first a letter, a digit or '_'"
        )
    if order_only and len(names) > 1:
        return f"{entry!r}: order only is about one mode; write {' '.join(f'+{n}' for n in names)}"
    return ""
