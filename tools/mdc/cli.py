"""The command `mdc`: words in, an exit code out. Knows nothing of how modes are resolved."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence

from model.problems import ConfigError, Problem, printable
from reconciler import console
from reconciler.parsers import FAILED, Parser
from tools.mdc import plan as planning
from tools.mdc.plan import Plan
from tools.mdc.write import write

OK, CANNOT_RUN, NO_PROGRAM = 0, 126, 127

_DESCRIPTION = """\
Makes one compose project of modes, and runs compose on it.
A mode is a directory in MODES_DIR with, all optional, deps (modes it needs: a,
a|b, +a), compose.yaml, env and NAME/files/, a tree of files.
The shortest list that has all becomes one env file, which compose reads."""

_EPILOG = """\
environment: MODES_DIR (modes), ENV_FILE (.env), MDC_FILES_DIR (.files),
             DOCKER_COMPOSE (docker compose)
examples:
  mdc web,db up -d          these two and what they need
  mdc --dry-run web up      show what would be written and run
exit codes: 0 done; 1 an error, nothing was written; 126 DOCKER_COMPOSE cannot
            be run; 127 it is not there. Else compose's own."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = Parser(
        prog="mdc",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        usage="mdc [--dry-run] [--force] MODES [ARGUMENTS OF COMPOSE]",
    )
    made.add_argument("modes", metavar="MODES", help="separated by commas or blanks")
    rest = made.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS",
        help="all that follows is compose's; without it, compose does not run",
    )  # fmt: skip
    rest.required = False  # and an error does not say that it is
    made.add_argument(
        "--dry-run", action="store_true", help="print what would be written and run, and do nothing"
    )
    made.add_argument(
        "--force", action="store_true", help="replace files, and empty a directory, not made by mdc"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, unless compose takes the place of this process."""
    return console.run("mdc", lambda: _make(arguments))


def _make(arguments: Sequence[str] | None) -> int:
    options = parser().parse_args(arguments)
    try:
        chosen = planning.settings(os.environ)
        plan = planning.plan(options.modes, options.arguments, chosen)
        if not options.force and (lost := planning.foreign(plan)):
            return _refused(lost)
        if plan.command and not options.dry_run and not shutil.which(plan.command[0]):
            return _no_program(plan.command[0])
        left = [] if options.dry_run else write(plan)
    except ConfigError as error:
        return _refused(error.problems)
    except OSError as error:
        names = [str(name) for name in (error.filename, error.filename2) if name]
        where = printable(" -> ".join(names) or "mdc")
        print(f"{where}: {error.strerror}\nNothing was written.", file=sys.stderr)
        return FAILED
    if options.dry_run:
        return _show(plan)
    print(*left, f"mdc: {' '.join(plan.modes)} in {chosen.env_file}", sep="\n", file=sys.stderr)
    return _run(plan) if plan.command else OK


def _no_program(name: str) -> int:
    there = "/" in name and os.path.exists(name)  # noqa: PTH110 - a word that need be no path
    shown = printable(name)
    why = f"{shown} cannot be executed" if there else f"there is no program {shown}"
    print(f"DOCKER_COMPOSE: {why}", "Nothing was written.", sep="\n", file=sys.stderr)
    return CANNOT_RUN if there else NO_PROGRAM


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
    print(*lines, sep="\n")
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
