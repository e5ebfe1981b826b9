"""Console blocks of a page: what they type is run, and what it printed is put below it.

It knows fences in Markdown and a shell; neither what is documented nor how a site is built. The
blocks of a page are one session: the files that it shows (fences with a `title`) are written where
they stand, and its commands run in the page's order, in a directory that has only the examples, and
in namespaces of their own, with no network but loopback and no right that the user lacks.

    ```yaml title="network.yaml"           a file; one with a slash in its title is only shown
    ```console                             commands after `$ `; the build runs them
    ```console from="first-snippet"        the same, but what they printed was recorded by a test
    ```console from="ci"                   run by .ci/run, scripts/test or make; without output
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 120  # seconds for the blocks of one page
LONGEST = 24  # lines of an output
# `make demo` does the same: a user namespace makes it work without root.
NAMESPACES = (
    *("unshare", "--user", "--map-root-user", "--net", "--mount", "--propagation", "private"),
    *("sh", "-c"),
    "mount -t tmpfs tmpfs /run && mkdir -p /run/netns && ip link set lo up && exec bash -u script",
)
# A block that types one of these and is not of the language `console` shows what nobody has run.
PROGRAMS = {
    *("apt", "apt-get", "cd", "cp", "curl", "docker", "docker-compose", "git", "ip", "make", "mdc"),
    *("net2dot", "pip", "podman", "python", "python3", "reconcile", "relink-start", "sh", "sudo"),
    *("tc",),
}
_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w-]*) *(?P<rest>.*)")
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_CODES = re.compile(r"\s# exit code (\d+)(?: or (\d+))?$")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class BlockError(Exception):
    """A block cannot be shown as it stands; the message begins with its place."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, or an indented one (its language is empty then).

    Attributes:
        start, end: its lines in the page, counted from 0; `end` is the one after it.
        lines: its content, without the indentation of the fence.
    """

    start: int
    end: int
    language: str
    attributes: dict[str, str]
    lines: tuple[str, ...]
    indent: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """What one prompt types.

    Attributes:
        line: where it stands, counted from 0.
        shown: its lines as the page has them, prompt included.
        text: what a shell is given.
        codes: the exit codes that are right.
    """

    line: int
    shown: tuple[str, ...]
    text: str
    codes: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Shown:
    """A file that a page shows under its name."""

    line: int
    name: str
    text: str


def blocks(markdown: str) -> Iterator[Block]:
    """Yield the fenced and the indented code blocks of a page."""
    lines = markdown.split("\n")
    at = 0
    while at < len(lines):
        if fence := _FENCE.fullmatch(lines[at]):
            end = at + 1
            closing = fence["indent"] + fence["ticks"]
            while end < len(lines) and lines[end].rstrip() != closing:
                end += 1
            attributes = dict(_ATTRIBUTE.findall(fence["rest"]))
            inner = tuple(line.removeprefix(fence["indent"]) for line in lines[at + 1 : end])
            yield Block(at, end + 1, fence["language"], attributes, inner, fence["indent"])
            at = end + 1
        elif lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            yield Block(at, end, "", {}, tuple(line[4:] for line in lines[at:end]))
            at = end
        else:
            at += 1


def commands(block: Block) -> list[Command]:
    """Return what a console block types; a line that ends with a backslash goes on in the next.

    Raises:
        BlockError: it has other lines, which somebody has typed by hand; without the page's name.
    """
    found: list[Command] = []
    lines = list(enumerate(block.lines, block.start + 1))
    while lines:
        number, line = lines.pop(0)
        if not line.strip():
            continue
        if not line.startswith("$ "):
            raise BlockError(f"{number + 1}: {line!r}: the build writes what a command prints")
        shown = [line]
        while shown[-1].endswith("\\") and lines:
            shown.append(lines.pop(0)[1])
        text = "\n".join(shown)[2:]
        codes = _CODES.search(text)
        right = tuple(int(code) for code in codes.groups() if code) if codes else (0,)
        found.append(Command(number, tuple(shown), text, right))
    return found


def bare(command: Command) -> str:
    """Return a command on one line, as comments.steps does, without a remark and `&`."""
    joined = re.sub(r"\\\n\s*", "", command.text)
    return re.sub(r"\s+#\s.*$", "", joined).strip().removesuffix("&").strip()


def unproved(markdown: str, place: str) -> list[str]:
    """Return which blocks show commands that no build runs, each with its place."""
    found = []
    for block in blocks(markdown):
        if block.language in ("sh", "bash", "zsh", "fish", "shell"):
            why = f"a block of {block.language}"
        elif block.language or not (typed := _typed(block.lines)):
            continue
        else:
            why = f"{typed!r} outside of a console block"
        found.append(f"{place}:{block.start + 1}: {why}: nobody runs it (```console)")
    return found


def _typed(lines: Sequence[str]) -> str:
    for line in lines:
        words = line.removeprefix("$ ").split()
        while words and re.fullmatch(r"\w+=\S*", words[0]):
            del words[0]
        if words and Path(words[0]).name in PROGRAMS and "[" not in line:
            return line
    return ""


def session(markdown: str) -> list[Command | Shown]:
    """Return what a page's session consists of, in order.

    Raises:
        BlockError: a console block with lines that are not commands; without the page's name.
    """
    found: list[Command | Shown] = []
    for block in blocks(markdown):
        if block.language == "console" and not block.attributes:
            found += commands(block)
        elif (name := block.attributes.get("title", "")) and "/" not in name:
            found.append(Shown(block.start, name, "\n".join(block.lines) + "\n"))
    return found if any(isinstance(each, Command) for each in found) else []


def run(steps: Sequence[Command | Shown], place: str, limit: float = LIMIT) -> dict[int, str]:
    """Run a page's session; return what each command printed, by its line.

    Raises:
        BlockError: a command ended with another exit code than the page says, or it takes too long.
    """
    if not steps:
        return {}
    with tempfile.TemporaryDirectory(prefix="relink-site-") as name:
        top = Path(name)
        (top / "home").mkdir()
        (top / "home/examples").symlink_to(ROOT / "examples")
        (top / "script").write_text(_script(steps, top))
        ended, said = _bash(top, limit)
        seen: dict[int, str] = {}
        for number, step in enumerate(steps):
            code = top / f"{number}.code"
            if isinstance(step, Shown):
                continue
            where, typed = f"{place}:{step.line + 1}", step.text
            if not code.exists():
                why = "did not end in time" if ended is None else f"did not run: {said.strip()}"
                raise BlockError(f"{where}: `{typed}` {why}")
            output = cleaned((top / f"{number}.out").read_text(errors="replace"))
            if int(code.read_text()) not in step.codes:
                right = " or ".join(map(str, step.codes))
                ending = f"ended with {code.read_text().strip()}, not {right}"
                raise BlockError(f"{where}: `{typed}` {ending}\n{output}")
            seen[step.line] = output
        return seen


def _script(steps: Sequence[Command | Shown], top: Path) -> str:
    """Write the session's files, and return its script: one shell, so that variables live on."""
    lines = [f"cd {top}/home"]
    for number, step in enumerate(steps):
        if isinstance(step, Shown):
            (top / f"{number}.file").write_text(step.text)
            lines.append(f"cp {top}/{number}.file {shlex.quote(step.name)}")
            continue
        right = "|".join(map(str, step.codes))
        lines += [
            "{",
            step.text,
            f"}} >{top}/{number}.out 2>&1 </dev/null",
            f"code=$?; echo $code >{top}/{number}.code",
            f"case $code in {right}) ;; *) exit ;; esac",
        ]
    return "\n".join(lines) + "\n"


def _bash(top: Path, limit: float) -> tuple[int | None, str]:
    """Run the script; return its exit code, None if it took too long, and what bash itself said."""
    bin_ = Path(sys.executable).parent
    environment = {
        "HOME": str(top / "home"),
        "LANG": "C.UTF-8",
        "PATH": f"{bin_}:{os.environ['PATH']}:/usr/sbin:/sbin",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
    }
    with subprocess.Popen(
        NAMESPACES,
        cwd=top,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that what was left running can be ended by its own id
    ) as process:
        try:
            said = process.communicate(timeout=limit)[0]
        except subprocess.TimeoutExpired:
            return None, ""
        else:
            return process.returncode, said
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def cleaned(output: str) -> str:
    """Return output as a terminal leaves it: no colours, nothing that was written over.

    Compose draws a line that ends in dots first, and goes back to it when it is done.
    """
    plain = _ANSI.sub("", output).rstrip()
    lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in plain.split("\n")]
    finished = {" ".join(line.split()[:-1]) for line in lines if line.endswith(" done")}
    return "\n".join(line for line in lines if not line or " ".join(line.split()) not in finished)


def shortened(output: str) -> str:
    """Return output that fits a page: of a long one, which nobody cut, beginning and end."""
    lines = output.split("\n")
    if len(lines) <= LONGEST:
        return output
    half = LONGEST // 2
    left_out = f"… {len(lines) - 2 * half} more lines"
    return "\n".join([*lines[:half], left_out, *lines[-half:]])


def filled(
    markdown: str, printed: Mapping[int, str], notes: Mapping[str, str] | None = None
) -> str:
    """Return a page with what its commands printed below each of them.

    Args:
        markdown: the page.
        printed: by the lines of the commands; without an entry nothing is put there.
        notes: what stands before the first block that is from a source, by the source.
    """
    lines = markdown.split("\n")
    consoles = [block for block in blocks(markdown) if block.language == "console"]
    first: dict[str, int] = {}
    for block in consoles:
        first.setdefault(block.attributes.get("from", ""), block.start)
    for block in reversed(consoles):
        body: list[str] = []
        for command in commands(block):
            body += command.shown
            if output := printed.get(command.line):
                body += output.split("\n")
        source = block.attributes.get("from", "")
        note = (notes or {}).get(source, "") if first[source] == block.start else ""
        fence = f"{block.indent}```"
        inside = [f"{block.indent}{line}".rstrip() for line in body]
        before = note.split("\n") if note else []
        lines[block.start : block.end] = [*before, f"{fence}console", *inside, fence]
    return "\n".join(lines)


def of(markdown: str, source: str) -> list[Command]:
    """Return the commands of the blocks that say `from` this source."""
    return [
        command
        for block in blocks(markdown)
        if block.language == "console" and block.attributes.get("from") == source
        for command in commands(block)
    ]


def sources(markdown: str) -> list[str]:
    """Return what the console blocks of a page say they are from, each once."""
    named = (b.attributes.get("from", "") for b in blocks(markdown) if b.language == "console")
    return sorted({name for name in named if name})
