"""The one env file, as bytes: what the modes say, then what mdc says. Reads and writes nothing."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from model.problems import ConfigError, Place, Problem
from tools.mdc.modes import Mode

MARK = b"# Written by mdc"  # the first words of a file that mdc may replace
BASE_NAME = ".mdc-compose.yaml"
# Empty as far as compose goes: without anything in it, versions 1 take it for one of another age.
BASE = MARK + (
    b". The first of the compose files: relative paths in all of them start from its directory.\n"
    b"networks: {default: {}}\n"
)
_PLAIN = re.compile(r"[A-Za-z0-9_./:,@%+-]*")
# A variable whose value is quoted; `open` where the quote has no end.
_QUOTED = re.compile(
    rb"""^[ \t]*(?:export[ \t]+)?[\w.-]+[ \t]*=[ \t]*"""
    rb"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?P<open>["']))""",
    re.MULTILINE | re.DOTALL,
)


def variables(modes: Sequence[Mode], env_file: Path) -> dict[str, str]:
    """Return what mdc itself says in the env file.

    Args:
        modes: in their order.
        env_file: the file to be; the project's directory is where it lies.

    Raises:
        ConfigError: the path of a mode would break the list that it is to stand in.
    """
    files = [mode.compose_file for mode in modes if mode.compose_file]
    return {
        "COMPOSE_FILE": _joined([env_file.parent / BASE_NAME, *files], ":"),
        "COMPOSE_DIR": str(env_file.parent.absolute()),
        "COMPOSE_PROFILES": ",".join(f"MODE_{mode.name}" for mode in modes),
        "MDC_MODE_DIRS": _joined([mode.directory for mode in modes], ","),
        **{f"MDC_MODE_{re.sub('[^a-z]', '_', mode.name)}": "enabled" for mode in modes},
    }


def content(modes: Sequence[Mode], ours: Mapping[str, str]) -> bytes:
    """Return the env file: each mode's lines as they are, then `ours`, which so have the last word.

    Raises:
        ConfigError: a value cannot be written so that every compose reads the same, or a quote that
            has no end would take in what comes after it.
    """
    if problems := [problem for mode in modes for problem in _unclosed(mode)]:
        raise ConfigError(problems)
    names = " ".join(mode.name for mode in modes)
    parts = [MARK + f" for the modes {names}; the next mdc replaces it.\n".encode()]
    for mode in modes:
        for path, lines in mode.env:
            text = lines.removeprefix(codecs.BOM_UTF8)
            end = b"" if text.endswith(b"\n") or not text else b"\n"
            parts += [b"\n# " + os.fsencode(_shown(path)) + b"\n", text, end]
    parts += [b"\n# mdc\n", *(_assignment(name, value) for name, value in ours.items())]
    return b"".join(parts)


def _unclosed(mode: Mode) -> list[Problem]:
    problems = []
    for path, lines in mode.env:
        for found in _QUOTED.finditer(lines):
            if found["open"]:
                start = found.start("open")
                line = lines.count(b"\n", 0, start) + 1
                place = Place(str(path), line, start - lines.rfind(b"\n", 0, start))
                message = f"the quote {found['open'].decode()} is not closed"
                problems.append(Problem(place, message))
    return problems


def _joined(paths: Sequence[Path], separator: str) -> str:
    problems = [
        Problem(Place(str(path)), f"a path with {separator!r} cannot stand in a list of paths")
        for path in paths
        if separator in str(path)
    ]
    if problems:
        raise ConfigError(problems)
    return separator.join(map(str, paths))


def _assignment(name: str, value: str) -> bytes:
    if _PLAIN.fullmatch(value):
        return f"{name}={value}\n".encode()
    # Nothing is special between single quotes, whichever program reads it; but what could end
    # them is read by each in its own way.
    if "'" in value or "\\" in value or not value.isprintable():
        message = f"{name} would be {value!r}: a path with a quote, a backslash or a control "
        raise ConfigError([Problem(Place(value), message + "character is not understood by all")])
    return f"{name}='{value}'\n".encode()


def _shown(path: Path) -> str:
    return str(path).replace("\n", "?").replace("\r", "?")
