"""The command `relink-start`: words in, a container started. Knows no engine's words."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from model.problems import ConfigError, printable
from tools.start.command import ENGINES, Request, command, default_mode, socket_of, split

OK, FAILED, CANNOT_RUN, NO_PROGRAM = 0, 1, 126, 127

_DESCRIPTION = """\
Starts the sidecar for containers that no compose file describes.

It runs in a container of its own, in front of you, until it is stopped. The files that it reads are
mounted into it with the directory that they lie in, so that a changed file is noticed."""

_EPILOG = """\
Every other option is given to reconcile as it is, as in --dataplane host. What stands after '--'
is given to the engine's `run`, as in -- --name network --rm --detach --env NAME=value.

examples:
  relink-start --network-file net.yaml -- --name network --rm
  relink-start --network-file net.yaml --mode podman -- --rm -d     as yourself: rootless
  relink-start --network-file net.yaml --dry-run                    print the command

exit codes:
  0    --dry-run: the command was printed
  1    wrong words, a file that is not there, no socket: nothing was started
  126  the engine's program cannot be executed
  127  there is no such program: nothing was started
  Otherwise the exit code is that of `docker run` or `podman run`."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"relink-start: {message}\nTry 'relink-start --help'.", file=sys.stderr)
        sys.exit(FAILED)


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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="relink-start",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="relink-start [OPTIONS] [OPTIONS OF reconcile] [-- OPTIONS OF run]",
    )
    what = parser.add_argument_group("what to read (each may be repeated, or a list with colons)")
    for names, told in (
        (("--network-file", "--network-config"), "network configuration, YAML or JSON"),
        (("--compose-file",), "compose file with x-network"),
        (("--config-schema",), "check against this JSON Schema"),
    ):
        what.add_argument(*names, action=_File, dest="files", default=[], metavar="FILE", help=told)
    where = parser.add_argument_group("engines")
    where.add_argument(
        "--mode", choices=ENGINES, default=default_mode(),
        help="whose containers are connected (default here: %(default)s)",
    )  # fmt: skip
    where.add_argument(
        "--host-mode", choices=ENGINES, help="what runs the sidecar (default: the same)"
    )
    for engine in ENGINES:
        where.add_argument(
            f"--{engine}-socket", type=Path, metavar="PATH",
            help=f"{engine}'s socket on this machine (default: where its own client looks)",
        )  # fmt: skip
    parser.add_argument(
        "--image", default=os.environ.get("RELINK_IMAGE") or "relink",
        help="(default: relink, or RELINK_IMAGE)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the command, start nothing")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, unless the engine takes the place of this process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    options, more = _parser().parse_known_args(words[:end])
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
