"""A parser of a command line whose help fits a screen and whose errors say where help is.

Refuses to know any option. A console command makes its parser from this class; its manual page
(manual.py) and its completion in shells (completion.py) follow from the parser.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

FAILED = 1


class Parser(argparse.ArgumentParser):
    """An argument parser with two helps: `--help` fits a screen, `--help-all` has everything.

    Attributes:
        brief: titles of the groups that `--help` shows; None shows all, and there is one help.
    """

    def __init__(self, *, brief: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(
            **{
                "formatter_class": argparse.RawDescriptionHelpFormatter,
                "allow_abbrev": False,
                "add_help": False,
                **kwargs,
            }
        )
        self.brief = brief
        self.add_argument("-h", "--help", action="help", help="say what this does, and exit")
        if brief is not None:
            self.add_argument("--help-all", action=_HelpAll, help="the same with every option")

    def format_help(self) -> str:
        """Return the help that fits a screen."""
        return self.formatted(self.brief)

    def formatted(self, groups: Sequence[str] | None) -> str:
        """Return a help with the groups of these titles, with all of them for None."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for group in self._action_groups:
            if groups is None or group.title in groups:
                formatter.start_section(group.title)
                formatter.add_text(group.description)
                for action in group._group_actions:  # noqa: SLF001 - as argparse's own help does
                    if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
                        formatter.add_arguments(list(action._get_subactions()))  # noqa: SLF001
                    else:
                        formatter.add_argument(action)
                formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the words given, and where to read what is right; exit with 1."""
        print(f"{self.prog}: {message}\nTry '{self.prog} --help'.", file=sys.stderr)
        sys.exit(FAILED)


class _HelpAll(argparse._HelpAction):  # noqa: SLF001 - so that completion knows it takes no value
    def __call__(self, parser: argparse.ArgumentParser, *_rest: object) -> None:
        print(
            parser.formatted(None) if isinstance(parser, Parser) else parser.format_help(), end=""
        )
        parser.exit()
