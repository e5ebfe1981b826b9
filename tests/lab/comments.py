"""Somebody who types what an example's first comment says (tools/site/comments.py), and sees it.

It knows how commands are typed on this machine, not what any example is about. What was typed and
seen is kept as a transcript where a name for it is given: the site's guides are made of those.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.compose import command as compose_command
from tests.lab.engine import environment
from tests.lab.features import kernel
from tests.lab.waiting import patient, until
from tools.site import console, transcripts
from tools.site.comments import EXAMPLES, PROGRAMS, Step, steps

_CLEANING = re.compile(r"\b(down|stop|rm|delete|destroy)\b")
_LASTING = re.compile(r"\b(exec|logs|curl)\b")  # may be too early, and then is typed again


@dataclass(slots=True)
class Session:
    """Somebody who types the commands of one example, from a directory that has a copy of all.

    Attributes:
        behind: words that put a command on another machine.
        compose: what `docker compose` is there.
    """

    steps: list[Step]
    directory: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    exports: list[str] = field(default_factory=list)
    running: list[tuple[Step, subprocess.Popen[str]]] = field(default_factory=list)
    position: int = 0
    transcript: list[transcripts.Entry] = field(default_factory=list)
    behind: Sequence[str] = ()
    compose: Sequence[str] = field(default_factory=compose_command)

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
        output = ""
        if step.command.startswith("export "):
            # What a test says of a variable is said after the comment, and holds.
            own = [f"export {name}='{value}'" for name, value in self.variables.items()]
            self.exports = [*self.exports, step.command, *own]
        elif step.left_running:
            process = subprocess.Popen(
                [*self.behind, "sh", "-c", self._script(step.command)],
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
            output = last[0].stdout
        else:
            done = self.run(step.command)
            good = done.returncode == 0 and all(each in done.stdout for each in step.seen)
            words = f"exit {done.returncode}\n{done.stdout}\n{self.logs()}"
            assert good, f"{step.command}: {step.seen}: {words}"
            output = done.stdout
        if not (step.left_running and step.seen):  # what that printed is known at the end
            self._note(step, output)

    def _note(self, step: Step, output: str) -> None:
        self.transcript.append(transcripts.entry(step.command, output))

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the comment and return how it ended."""
        return subprocess.run(
            [*self.behind, "sh", "-c", self._script(command)],
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
            self._note(step, words)

    def clean(self) -> str:
        """Type the last commands, which take everything away; return what went wrong."""
        done = []
        for step in self.steps[self._last() :]:
            done.append(self.run(step.command))
            self._note(step, done[-1].stdout)
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
            command = command.replace("docker compose", " ".join(self.compose), 1)
        return "\n".join([*self.exports, command])

    def _environment(self) -> dict[str, str]:
        own = {
            "DOCKER_COMPOSE": " ".join(compose_command()),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # where our commands are
        }
        return {**environment(), **own, **self.variables}


@contextlib.contextmanager
def session(
    file: Path,
    directory: Path,
    variables: Mapping[str, str] | None = None,
    programs: Sequence[str] = PROGRAMS,
    transcript: str = "",
) -> Iterator[Session]:
    """Have somebody at an example, as `sitting` says."""
    typed = steps(file, programs)
    assert typed, f"the comment of {file.name} says nothing to type"
    with sitting(typed, directory, variables, transcript) as made:
        yield made


def told(commands: Iterable[console.Command]) -> list[Step]:
    """Return what the console blocks of a page say to type; `# until "words"` are seen then."""
    return [
        Step(
            console.bare(command),
            tuple(re.findall(r'# until "(.+)"', command.text)),
            left_running=command.text.endswith("&"),
        )
        for command in commands
    ]


@contextlib.contextmanager
def sitting(
    typed: list[Step],
    directory: Path,
    variables: Mapping[str, str] | None = None,
    transcript: str = "",
) -> Iterator[Session]:
    """Have somebody at some commands; what they started is gone afterwards, and its remains before.

    Under the name `transcript`, if there is one, what they typed and saw is kept.
    """
    shutil.copytree(EXAMPLES, directory / "examples")
    made = Session(typed, directory, variables or {})
    made.exports = [step.command for step in made.steps if step.command.startswith("export ")]
    made.clean()
    made.exports = []
    made.transcript = []
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
    if transcript:
        kept(transcript, made)


def kept(name: str, typist: Session) -> None:
    """Keep what somebody typed and saw, and with what: the first engine's program."""
    typed = [step.command for step in typist.steps]
    engine = next(each.split()[0] for each in typed if each.startswith(("docker", "podman")))
    composed = any(each.startswith("docker compose") for each in typed)
    program = " ".join(typist.compose) if composed else engine
    said = typist.run(f"{program} --version").stdout.partition(", build")[0].strip()
    found = transcripts.Transcript(f"{kernel()}, {said}", tuple(typist.transcript))
    transcripts.write(name, found)
