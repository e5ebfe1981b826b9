"""net2dot: the JSON of `reconcile --show-config` in, a graph for graphviz out, as with conlink."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from model.graph import declared
from model.problems import ConfigError, Place, Problem
from reconciler import console
from reconciler.drawing import show
from reconciler.parsers import Parser
from reconciler.sources import load_shown

FAILED = 1
_STDIN = "(stdin)"
_HELP = """\
example:
  reconcile show-config --compose-file compose.yaml > net.json
  net2dot < net.json | dot -Tsvg > net.svg
exit codes: 0 drawn; 1 an error"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return Parser(
        prog="net2dot",
        description="Draws what is declared, as dot, the language of graphviz.\n"
        "Reads what `reconcile show-config` prints, on stdin.",
        epilog=_HELP,
        usage="net2dot < FILE",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the configuration on stdin; return the exit code."""
    return console.run("net2dot", lambda: _draw(arguments))


def _draw(arguments: Sequence[str] | None) -> int:
    _known, unknown = parser().parse_known_args(arguments)
    if unknown:
        print(f"net2dot: unknown: {' '.join(unknown)}\nTry 'net2dot --help'.", file=sys.stderr)
        return FAILED
    if sys.stdin.isatty():
        parser().error("nothing on stdin; give it what `reconcile show-config` prints")
    try:
        config = load_shown(_text(), _STDIN)
    except ConfigError as error:
        for problem in error.problems:
            print(f"net2dot: {problem}", file=sys.stderr)
        return FAILED
    return show(declared(config), "dot")


def _text() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError([Problem(Place(_STDIN), "not UTF-8 text")]) from None


if __name__ == "__main__":
    sys.exit(main())
