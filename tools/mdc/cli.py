"""The command `mdc`: words in, an exit code out. Knows nothing of how modes are resolved."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from model.problems import ConfigError, Problem, printable
from tools.mdc import plan as planning
from tools.mdc.plan import Plan
from tools.mdc.write import write

OK, FAILED, CANNOT_RUN, NO_PROGRAM = 0, 1, 126, 127

_DESCRIPTION = """\
Makes one compose project of modes, and runs compose on it.

A mode is a directory in MODES_DIR. All of these are optional in it:
  deps            the modes it needs: a, a|b (either), +a (if it is there, before this one)
  compose.yaml    its compose file (or compose.yml, docker-compose.yaml, docker-compose.yml)
  env, .env       lines for the env file
  */files/        trees of files, laid over each other below MDC_FILES_DIR

The shortest list of modes that has all it needs is put in order, and written down as one env file
that compose reads by itself from then on."""

_EPILOG = """\
environment:
  MODES_DIR       where the modes are (default: modes)
  ENV_FILE        the env file to write (default: .env)
  MDC_FILES_DIR   where the trees go; emptied first (default: .files)
  DOCKER_COMPOSE  what runs compose (default: docker compose)

examples:
  mdc web,db up -d          these two and what they need
  mdc 'web db|mock'         either-or, as in deps; only writes
  mdc --dry-run web up      show what would be written and run

exit codes:
  0    done
  1    wrong words, modes or settings, or something cannot be read or written: nothing was written
  126  what DOCKER_COMPOSE names cannot be executed
  127  what DOCKER_COMPOSE names is not there: nothing was written
  When compose runs, the exit code is its own."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"mdc: {message}\nTry 'mdc --help'.", file=sys.stderr)
        sys.exit(FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mdc",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="mdc [--dry-run] [--force] MODES [ARGUMENTS OF COMPOSE]",
    )
    parser.add_argument("modes", metavar="MODES", help="separated by commas or blanks")
    rest = parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS",
        help="all that follows is compose's; without it, compose does not run",
    )  # fmt: skip
    rest.required = False  # and an error does not say that it is
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be written and run, and do nothing"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace files, and empty a directory, not made by mdc"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, unless compose takes the place of this process."""
    options = _parser().parse_args(arguments)
    try:
        chosen = planning.settings(os.environ)
        plan = planning.plan(options.modes, options.arguments, chosen)
        if not options.force and (lost := planning.foreign(plan)):
            return _refused(lost)
        if options.dry_run:
            return _show(plan)
        if plan.command and not shutil.which(plan.command[0]):
            program = printable(plan.command[0])
            print(f"DOCKER_COMPOSE: there is no program {program}", file=sys.stderr)
            print("Nothing was written.", file=sys.stderr)
            return NO_PROGRAM
        left = write(plan)
    except ConfigError as error:
        return _refused(error.problems)
    except OSError as error:
        names = [str(name) for name in (error.filename, error.filename2) if name]
        where = printable(" -> ".join(names) or "mdc")
        print(f"{where}: {error.strerror}\nNothing was written.", file=sys.stderr)
        return FAILED
    print(*left, f"mdc: {' '.join(plan.modes)} in {chosen.env_file}", sep="\n", file=sys.stderr)
    return _run(plan) if plan.command else OK


def _refused(problems: Iterable[Problem]) -> int:
    lines = [printable(str(problem)) for problem in problems]
    print(*lines, "Nothing was written.", sep="\n", file=sys.stderr)
    return FAILED


def _show(plan: Plan) -> int:
    lines = [f"Modes: {' '.join(plan.modes)}"]
    for path, content in plan.files.items():
        shown = content.decode(errors="replace").splitlines()
        lines += ["", f"Would write {path}:", *(f"    {line}" for line in map(printable, shown))]
    if plan.overlay or plan.directory.exists():
        lines += ["", f"Would fill {plan.directory}, and empty it first:"]
        rows = [
            (printable(str(path)), printable(str(entry.source)))
            for path, entry in sorted(plan.overlay.items())
            if entry.kind != "directory"
        ]
        width = max((len(path) for path, _ in rows), default=0)
        lines += [f"    {path:{width}}  {source}" for path, source in rows]
    if plan.command:
        lines += ["", "Would run:", f"    {shlex.join(plan.command)}"]
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:  # `mdc --dry-run … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


def _run(plan: Plan) -> int:
    """Become compose. What mdc wrote counts, whatever the environment says of the same names."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in plan.names and not name.startswith("MDC_MODE_")
    }
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(plan.command[0], plan.command, environment)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"mdc: {plan.command[0]}: {error.strerror}", file=sys.stderr)
        return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main())
