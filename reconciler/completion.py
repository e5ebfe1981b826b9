"""Shell completion of any argparse parser, by shtab; knows no option, only what words stand for."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

# What a person is to write for a path (the metavar of an option), and what shtab completes then.
_PATHS = {"FILE": "file", "PATH": "file", "DIR": "directory", "DIRECTORY": "directory"}


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return a script for bash, zsh or fish that completes the words of a program.

    An option whose metavar is FILE, PATH or DIR completes names of files or directories.
    """
    import shtab  # noqa: PLC0415 - nothing else needs it

    for action in _actions(parser):
        if action.metavar in _PATHS:
            kind = shtab.DIRECTORY if _PATHS[str(action.metavar)] == "directory" else shtab.FILE
            action.complete = kind  # type: ignore[attr-defined] # where shtab looks for it
    return str(shtab.complete(parser, shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse tells nobody otherwise
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for each in action.choices.values():
                yield from _actions(each)
