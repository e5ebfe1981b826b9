"""What lies in the directories of modes: the only reading of them. Decides nothing."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.problems import ConfigError, Place, Problem
from tools.mdc.deps import Need, parse

DEPS = "deps"
ENV_FILES = ("env", ".env")
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
TREE = "files"


@dataclass(frozen=True, slots=True)
class Mode:
    """One mode: its name, its directory, and what it brings.

    Attributes:
        name: that of the directory.
        directory: as it was given, absolute or relative to the working directory.
        compose_file: the first of COMPOSE_FILES that is there.
        env: each of ENV_FILES that is there, with its bytes.
        trees: each subdirectory's name, with the directory `files` that is in it.
    """

    name: str
    directory: Path
    compose_file: Path | None
    env: tuple[tuple[Path, bytes], ...]
    trees: tuple[tuple[str, Path], ...]


def graph(directory: Path, wanted: Sequence[Need]) -> dict[str, list[Need]]:
    """Return the entries of every mode that `wanted` could lead to.

    Raises:
        ConfigError: with every entry that is none or names a mode that is not there.
        OSError: a file or directory cannot be read.
    """
    there = _names(directory)
    found: dict[str, list[Need]] = {}
    problems: list[Problem] = []
    waiting = list(wanted)
    while waiting:
        need = waiting.pop()
        for name in need.names:
            if name not in there:
                problems.append(Problem(need.place, _missing(name, directory, there)))
            elif name not in found and not need.order_only:
                found[name] = []
                try:
                    found[name] = _deps(directory / name / DEPS)
                except ConfigError as error:
                    problems += error.problems
                waiting += found[name]
    if problems:
        raise ConfigError(problems)
    return found


def read(directory: Path) -> Mode:
    """Return what is in the directory of a mode.

    Raises:
        OSError: a file or directory cannot be read.
    """
    entries = {entry.name: entry for entry in os.scandir(directory)}
    composes = [name for name in COMPOSE_FILES if name in entries and entries[name].is_file()]
    env = [directory / name for name in ENV_FILES if name in entries and entries[name].is_file()]
    services = [name for name in sorted(entries) if name[0] != "." and entries[name].is_dir()]
    return Mode(
        name=directory.name,
        directory=directory,
        compose_file=directory / composes[0] if composes else None,
        env=tuple((path, path.read_bytes()) for path in env),
        trees=tuple(
            (name, directory / name / TREE)
            for name in services
            if (directory / name / TREE).is_dir()
        ),
    )


def _names(directory: Path) -> list[str]:
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _deps(path: Path) -> list[Need]:
    try:
        return parse(path.read_text(encoding="utf-8-sig"), str(path))
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        problem = Problem(Place(str(path)), f"is not UTF-8, from byte {error.start} on")
        raise ConfigError([problem]) from None


def _missing(name: str, directory: Path, there: Iterable[str]) -> str:
    shown = [each for each in there if not each.startswith(".")]
    near = difflib.get_close_matches(name, shown, 1)
    hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(shown) or 'none'}"
    return f"no mode {name}: {directory} has no directory of that name{hint}"
