"""What an example's first comment says to type, and what one then sees; and typing it.

It knows how comments are written, not what any example is about. Lines indented by five blanks are
a picture, a table (its columns are two blanks apart) or commands, each of which begins with one of
PROGRAMS; ` \\` continues it. Words in double quotes after `#`, behind a command or on the next
line, are seen in what it prints; `until "words"` waits for them in a log. `&` leaves it running
until the comment is at its end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.compose import command as compose_command
from tests.lab.engine import environment
from tests.lab.waiting import patient, until

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = ("docker", "podman", "reconcile", "ip", "curl", "echo", "export")
_INDENTED = re.compile(r"#     +(\S.*)")
_NO_COMMAND = re.compile(r".*(---|===)|\S+( \S+)?  +[^# ]")  # a picture, a table
_CLEANING = re.compile(r"\b(down|stop|rm|delete|destroy)\b")
_LASTING = re.compile(r"\b(exec|logs|curl)\b")  # may be too early, and then is typed again


@dataclass(frozen=True, slots=True)
class Step:
    """One command, the words that are seen in its output, and whether it is left running."""

    command: str
    seen: tuple[str, ...] = ()
    left_running: bool = False


def first_comment(file: Path) -> list[str]:
    """Return the lines at the start of a file that are comments."""
    lines = file.read_text().splitlines()
    end = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:end]


def steps(file: Path, programs: Sequence[str] = PROGRAMS) -> list[Step]:
    """Return what the first comment of an example says to type, in order.

    Args:
        file: the example.
        programs: only what begins with these.

    Raises:
        ValueError: a line among commands begins with no program that is known here.
    """
    joined = re.sub(r"\\\n#\s+", "", "\n".join(first_comment(file)))
    found: list[Step] = []
    for block in _blocks(joined.splitlines()):
        if _NO_COMMAND.match(block[0]):
            continue
        for line in block:
            typed, _, remark = line.partition("#")
            seen = tuple(re.findall(r'"([^"]+)"', remark))
            typed = typed.strip()
            if not typed:
                found[-1] = Step(found[-1].command, found[-1].seen + seen, found[-1].left_running)
            elif typed.split()[0] not in PROGRAMS:
                raise ValueError(f"{file.name}: {typed}: begins with none of {', '.join(PROGRAMS)}")
            else:
                found.append(Step(typed.removesuffix("&").strip(), seen, typed.endswith("&")))
    return [step for step in found if step.command.split()[0] in programs]


def _blocks(lines: Iterable[str]) -> list[list[str]]:
    """Return what is indented, without that: the lines of each block, between which is none."""
    matches = [_INDENTED.fullmatch(line) for line in lines]
    blocks = itertools.groupby(matches, key=bool)
    return [[match[1] for match in block if match] for indented, block in blocks if indented]


@dataclass(slots=True)
class Session:
    """Somebody who types the commands of one example, from a directory that has a copy of all."""

    steps: list[Step]
    directory: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    exports: list[str] = field(default_factory=list)
    running: list[tuple[Step, subprocess.Popen[str]]] = field(default_factory=list)
    position: int = 0

    def play(self, before: str = "") -> None:
        """Type what has not been typed, up to the first command that contains `before`.

        What takes everything away again is left for `clean`.

        Raises:
            AssertionError: a command failed, or its output lacks what the comment promises.
        """
        for step in self.steps[self.position : self._last()]:
            if before and before in step.command:
                return
            self.position += 1
            self.type(step)
        assert not before, f"no command has {before!r}"
        self.end()

    def type(self, step: Step) -> None:
        """Type one command, and see what the comment promises."""
        if step.command.startswith("export "):
            # What a test says of a variable is said after the comment, and holds.
            own = [f"export {name}='{value}'" for name, value in self.variables.items()]
            self.exports = [*self.exports, step.command, *own]
        elif step.left_running:
            process = subprocess.Popen(
                ["sh", "-c", self._script(step.command)],
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            self.running.append((step, process))
        elif _LASTING.search(step.command):
            last = []

            def promised() -> bool:
                last[:] = [self.run(step.command)]
                code, words = last[0].returncode, last[0].stdout
                return code == 0 and all(each in words for each in step.seen)

            def explain() -> str:
                return f"exit {last[0].returncode}\n{last[0].stdout}\n{self.logs()}"

            until(promised, f"{step.command}: {step.seen}", explain=explain, period=0.2)
        else:
            done = self.run(step.command)
            good = done.returncode == 0 and all(each in done.stdout for each in step.seen)
            words = f"exit {done.returncode}\n{done.stdout}\n{self.logs()}"
            assert good, f"{step.command}: {step.seen}: {words}"

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the comment and return how it ended."""
        return subprocess.run(
            ["sh", "-c", self._script(command)],
            cwd=self.directory,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patient(120),
            check=False,
        )

    def end(self) -> None:
        """Wait for what was left running, except for services, and see what it promises."""
        for step, process in self.running:
            if not step.seen:
                continue
            words, _ = process.communicate(timeout=patient(30))
            missing = [each for each in step.seen if each not in words]
            assert not missing, f"{step.command}: exit {process.returncode}\n{words}"

    def clean(self) -> str:
        """Type the last commands, which take everything away; return what went wrong."""
        done = [self.run(step.command) for step in self.steps[self._last() :]]
        return "\n".join(f"{each.args}\n{each.stdout}" for each in done if each.returncode)

    def _last(self) -> int:
        """Return where the commands begin that take everything away."""
        first = len(self.steps)
        while first and _CLEANING.search(self.steps[first - 1].command):
            first -= 1
        return first

    def logs(self) -> str:
        """Return what every `logs` command of the comment prints now."""
        commands = {step.command for step in self.steps if " logs " in step.command}
        return "\n".join(self.run(command).stdout for command in sorted(commands))

    def _script(self, command: str) -> str:
        command = re.sub(r"\blogs -f\b", "logs", command)
        if re.match(r"docker compose\b", command):
            command = re.sub(r" exec ", " exec -T ", command, count=1)  # there is no terminal
            command = command.replace("docker compose", " ".join(compose_command()), 1)
        return "\n".join([*self.exports, command])

    def _environment(self) -> dict[str, str]:
        return {**environment(), **self.variables}


@contextlib.contextmanager
def session(
    file: Path,
    directory: Path,
    variables: Mapping[str, str] | None = None,
    programs: Sequence[str] = PROGRAMS,
) -> Iterator[Session]:
    """Have somebody at an example; what they started is gone afterwards, and its remains before."""
    shutil.copytree(EXAMPLES, directory / "examples")
    made = Session(steps(file, programs), directory, variables or {})
    assert made.steps, f"the comment of {file.name} says nothing to type"
    made.exports = [step.command for step in made.steps if step.command.startswith("export ")]
    made.clean()
    made.exports = []
    failed = ""
    try:
        yield made
    finally:
        failed = made.clean()
        for _step, process in made.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(ValueError):  # its output was read to the end before
                process.communicate(timeout=patient(30))
    assert not failed, failed
