"""Trees of files laid over each other: what comes from where, then the making of it.

Knows neither modes nor what the files are for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from model.problems import ConfigError, Place, Problem

DIRECTORY, FILE, LINK = "directory", "file", "symbolic link"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing of the result: what it is, and the last that brought it."""

    kind: str
    source: Path


Overlay = dict[PurePath, Entry]  # below the top; a directory before what is in it


def overlay(trees: Iterable[tuple[str, Path]]) -> Overlay:
    """Return what lies where when each tree is laid over those before it.

    Args:
        trees: the name that a tree gets at the top, and its directory. Symbolic links in it stay
            what they are; nothing is read or written through them.

    Raises:
        ConfigError: with everything that is no file, or a directory here and something else there.
        OSError: a directory cannot be read.
    """
    result: Overlay = {}
    problems: list[Problem] = []
    for name, top in trees:
        _lay(PurePath(name), Entry(DIRECTORY, top), result, problems)
    if problems:
        raise ConfigError(problems)
    return result


def _lay(at: PurePath, entry: Entry, result: Overlay, problems: list[Problem]) -> None:
    before = result.get(at, entry)
    if DIRECTORY in (before.kind, entry.kind) and before.kind != entry.kind:
        message = f"is a {entry.kind}, and {before.source} is a {before.kind}: rename one of them"
        problems.append(Problem(Place(str(entry.source)), message))
        return
    result[at] = entry
    if entry.kind == DIRECTORY:
        with os.scandir(entry.source) as found:
            inside = sorted(found, key=lambda each: each.name)
        for each in inside:
            if kind := _kind(each):
                _lay(at / each.name, Entry(kind, Path(each.path)), result, problems)
            else:
                message = "is neither a file nor a directory nor a symbolic link: take it away"
                problems.append(Problem(Place(each.path), message))


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return LINK
    if entry.is_dir(follow_symlinks=False):
        return DIRECTORY
    return FILE if entry.is_file(follow_symlinks=False) else ""


def build(entries: Overlay, into: Path) -> None:
    """Make everything in an empty directory; permissions and times are kept.

    Raises:
        OSError: something cannot be read or made; what was made by then stays.
    """
    for at, entry in entries.items():
        target = into / at
        if entry.kind == LINK:
            target.symlink_to(entry.source.readlink())
        elif entry.kind == FILE:
            shutil.copy2(entry.source, target, follow_symlinks=False)
        else:
            target.mkdir()
            # Whoever made it has to be able to fill it now, and to take it away the next time.
            target.chmod(entry.source.stat().st_mode & 0o7777 | 0o700)
