"""The console commands, and where the parser of each is: for completion and manual pages."""

from __future__ import annotations

import argparse
from importlib import import_module

# Each name of [project.scripts] and the function, as module:name, that makes its parser.
PROGRAMS = {
    "reconcile": "reconciler.arguments:parser",
    "mdc": "tools.mdc.cli:parser",
    "net2dot": "tools.net2dot:parser",
    "relink-start": "tools.start.cli:parser",
}


def parser_of(program: str) -> argparse.ArgumentParser:
    """Return the parser of a console command."""
    module, _, name = PROGRAMS[program].partition(":")
    made: argparse.ArgumentParser = getattr(import_module(module), name)()
    return made
