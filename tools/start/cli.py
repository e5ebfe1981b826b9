"""The command `relink-start`: words in, a container started. Knows no engine's words."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.problems import ConfigError, printable
from reconciler import console
from reconciler.parsers import FAILED, Parser
from tools.start.command import ENGINES, Request, command, default_mode, socket_of, split

OK, CANNOT_RUN, NO_PROGRAM = 0, 126, 127

_DESCRIPTION = """\
Starts the sidecar for containers outside of compose.
It runs in front of you. The directories of its files are mounted, so that a
changed file is noticed."""

_EPILOG = """\
examples (all other options are reconcile's; those after -- are the engine's):
  relink-start --network-file net.yaml -- --name network --rm
  relink-start --network-file net.yaml --mode podman -- --detach    rootless too
exit codes: 0 printed; 1 an error, nothing was started; 126 the engine's program
            cannot be run; 127 it is not there. Else that of its run."""

_READ, _START = "what to read (each may be a list with colons)", "what to start"


class _File(argparse.Action):
    """Keeps files of all kinds in the order in which they were named."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse calls it so
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        namespace.files = [*namespace.files, (option_string, values)]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = Parser(
        prog="relink-start",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        usage="relink-start [OPTIONS] [OPTIONS OF reconcile] [-- OPTIONS OF run]",
        brief=(_READ, _START),
    )
    read, start, more = (made.add_argument_group(title) for title in (_READ, _START, "more"))
    for group, names, does in (
        (read, ("--network-file", "--network-config"), "network configuration, YAML or JSON"),
        (read, ("--compose-file",), "compose file with x-network"),
        (more, ("--config-schema",), "check against this JSON Schema"),
    ):
        group.add_argument(
            *names, action=_File, dest="files", default=[], metavar="FILE", help=does
        )
    start.add_argument("--dry-run", action="store_true", help="print the command, start nothing")
    start.add_argument(
        "--mode", choices=ENGINES, default=default_mode(), metavar="ENGINE",
        help="docker or podman: whose containers are connected (default: the first there)",
    )  # fmt: skip
    start.add_argument(
        "--host-mode", choices=ENGINES, metavar="ENGINE",
        help="what runs the sidecar (default: the same)",
    )  # fmt: skip
    start.add_argument(
        "--image", default=os.environ.get("RELINK_IMAGE") or "relink", metavar="NAME",
        help="the sidecar's (default: RELINK_IMAGE, else relink)",
    )  # fmt: skip
    for engine in ENGINES:
        more.add_argument(
            f"--{engine}-socket", type=Path, metavar="PATH",
            help=f"{engine}'s socket on this machine (default: where its own client looks)",
        )  # fmt: skip
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, unless the engine takes the place of this process."""
    return console.run("relink-start", lambda: _start(arguments))


def _start(arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    options, more = parser().parse_known_args(words[:end])
    try:
        run = command(_request(options, more, words[end + 1 :]))
    except ConfigError as error:
        lines = [printable(str(problem)) for problem in error.problems]
        print(*lines, "Nothing was started.", sep="\n", file=sys.stderr)
        return FAILED
    except OSError as error:
        where = printable(str(error.filename))
        print(f"{where}: {error.strerror}\nNothing was started.", file=sys.stderr)
        return FAILED
    if options.dry_run:
        print(shlex.join(run))
        return OK
    if not shutil.which(run[0]):
        print(f"There is no program {run[0]}.\nNothing was started.", file=sys.stderr)
        return NO_PROGRAM
    sys.stdout.flush()
    try:
        os.execvp(run[0], run)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"relink-start: {run[0]}: {error.strerror}", file=sys.stderr)
        return CANNOT_RUN


def _request(options: argparse.Namespace, more: list[str], run_options: list[str]) -> Request:
    own: Path | None = getattr(options, f"{options.mode}_socket")
    return Request(
        mode=options.mode,
        host_mode=options.host_mode or options.mode,
        image=options.image,
        socket=own.absolute() if own else socket_of(options.mode, os.environ, os.geteuid()),
        files=tuple(split(options.files)),
        options=tuple(more),
        run_options=tuple(run_options),
    )


if __name__ == "__main__":
    sys.exit(main())
