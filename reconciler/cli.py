"""The command line: words in, an exit code out. Imports only what the chosen command needs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reconciler import console
from reconciler.arguments import parse, parser
from reconciler.programs import parser_of

if TYPE_CHECKING:
    from reconciler.sources import Loaded, Sources

OK, FAILED, CHANGES = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return console.run("reconcile", lambda: _run(parse(arguments)))


def _run(options: argparse.Namespace) -> int:
    if options.command in ("status", "metrics"):
        from reconciler import asking  # noqa: PLC0415 - each command imports what it needs

        ask = asking.status if options.command == "status" else asking.metrics
        try:
            answered = ask(options)
        except OSError as error:
            parser().error(f"no answer from a sidecar: {error}")
        if answered is not None:
            return answered
        if options.command == "metrics":
            parser().error("no sidecar answers here; start one, or name it by --instance")
        if not (options.network_file or options.compose_file):
            parser().error("no sidecar runs here; give --compose-file or --network-file to look")
    if options.command in _PRINTED:
        print(_PRINTED[options.command](options), end="")
        return OK
    from reconciler import sources  # noqa: PLC0415 - --help and --version need none of it

    found = sources.Sources(
        tuple(part for each in options.network_file for part in each.split(":") if part),
        tuple(part for each in options.compose_file for part in each.split(":") if part),
        os.environ,
        options.config_schema,
    )
    needless = options.command == "status" or options.destroy
    if not found.paths() and not needless:
        parser().error("give --network-file or --compose-file: nothing says what to connect")
    from model.problems import ConfigError  # noqa: PLC0415

    try:
        loaded = sources.load(found)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        count = len(error.problems)
        told = f"{count} error{'s' * (count != 1)}"
        if not (options.destroy and (options.instance or options.compose_project)):
            print(f"{told}; nothing was changed.", file=sys.stderr)
            return FAILED
        print(f"{told}; what is there is removed all the same.", file=sys.stderr)
        loaded = sources.NOTHING
    if options.show_config or options.command == "show-config":
        print(json.dumps(loaded.document.bare(), indent=2))
        return OK
    if options.command == "validate":
        counts = [
            f"{len(entries)} {name if len(entries) > 1 else name[:-1]}"
            for name in ("links", "bridges", "tunnels", "commands")
            if (entries := getattr(loaded.config, name))
        ]
        print(f"Valid: {', '.join(counts) or 'nothing is declared'}.")
        return OK
    if options.command == "graph" and not options.live:
        from model import graph  # noqa: PLC0415
        from reconciler import drawing  # noqa: PLC0415

        mode = options.default_bridge_mode
        return drawing.show(graph.declared(loaded.config, loaded.replicas, mode), options.format)
    return _live(options, loaded, found)


def _print_schema(options: argparse.Namespace) -> str:
    from reconciler import schemas  # noqa: PLC0415

    return schemas.text(schemas.compose() if options.compose else schemas.network())


def _print_completion(options: argparse.Namespace) -> str:
    from reconciler import completion  # noqa: PLC0415

    return completion.script(parser_of(options.program), options.shell)


def _print_man(options: argparse.Namespace) -> str:
    from reconciler import manual  # noqa: PLC0415

    return manual.page(parser_of(options.program))


_PRINTED = {"schema": _print_schema, "completion": _print_completion, "man": _print_man}


def _live(options: argparse.Namespace, loaded: Loaded, found: Sources) -> int:
    """Run what looks at the world."""
    from reconciler import commands  # noqa: PLC0415

    try:
        return commands.run(options, loaded, found)
    except commands.CommandError as error:
        print(f"reconcile: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
