"""Completion, asked of real shells: what each offers for a line that ends where the cursor is."""

from __future__ import annotations

import argparse
import os
import pty
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler import completion
from reconciler.arguments import parser
from reconciler.programs import PROGRAMS, parser_of

SHELLS = ("bash", "zsh", "fish")
Complete = Callable[[str], set[str]]


def bash(script: Path, line: str) -> set[str]:
    """Call the function that the script registered, as readline would."""
    words = line.split(" ")
    ask = f"""
        source {shlex.quote(str(script))}
        [[ $(complete -p {words[0]}) =~ -F\\ ([^ ]+) ]]
        COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}
        COMP_LINE={shlex.quote(line)}; COMP_POINT={len(line)}
        ${{BASH_REMATCH[1]}} {shlex.join([words[0], words[-1], words[-2]])}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", ask], capture_output=True, text=True, check=True, timeout=60,
        cwd=script.parent,
    )  # fmt: skip
    # Outside of a completion `compopt` has nothing to set; that is all that may be said.
    assert [told for told in done.stderr.splitlines() if "compopt" not in told] == []
    return set(done.stdout.split())


def fish(script: Path, line: str) -> set[str]:
    ask = f"source {shlex.quote(str(script))}; complete -C {shlex.quote(line)}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", ask], capture_output=True, text=True, check=True, timeout=60,
        cwd=script.parent, env={**os.environ, "HOME": str(script.parent)},
    )  # fmt: skip
    assert done.stderr == ""
    return {told.partition("\t")[0] for told in done.stdout.splitlines()}


# Prints what is added to the list, between two NULs.
ZSH = r"""
PROMPT= RPROMPT=
autoload -U compinit
compinit -u -d ./zcompdump
eval "$(<./script)"
mark() { print -n "\0" }
compprefuncs=(mark)
comppostfuncs=(mark exit)
zstyle ':completion:*' insert-tab false
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    local -a hits
    builtin compadd -A hits "$@"
    print -l -- $hits
    builtin compadd "$@" # without a match zsh would go on and look for less fitting ones
}
print READY
"""


def zsh(script: Path, line: str) -> set[str]:
    """Type the line and a tab at a zsh on a terminal of its own."""
    (script.parent / "script").write_text(script.read_text(encoding="utf-8"), encoding="utf-8")
    (script.parent / "setup").write_text(ZSH, encoding="utf-8")
    terminal, theirs = pty.openpty()
    child = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=script.parent,
        env={**os.environ, "TERM": "dumb"}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        os.write(terminal, b"source ./setup\n")
        read(terminal, b"READY\r\n")
        os.write(terminal, line.encode() + b"\t")
        told = read(terminal, b"\0", times=2).split(b"\0")[1]
    finally:
        os.close(terminal)
        child.wait(timeout=60)
    return set(told.decode().replace("\r", "").split("\n")) - {""}


def read(terminal: int, end: bytes, times: int = 1) -> bytes:
    """Read until `end` has come so many times."""
    found, until = b"", time.monotonic() + 60
    while found.count(end) < times:
        assert select.select([terminal], [], [], until - time.monotonic())[0], found
        found += os.read(terminal, 4096)
    return found


@pytest.fixture(params=SHELLS)
def complete(request: pytest.FixtureRequest, tmp_path: Path) -> Complete:
    """What a shell offers, with the script that the command prints; two files lie there."""
    (tmp_path / "net.yaml").touch()
    (tmp_path / "sub").mkdir()
    script = tmp_path / f"reconcile.{request.param}"
    done = subprocess.run(
        [sys.executable, "-m", "reconciler.cli", "completion", request.param],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    script.write_text(done.stdout, encoding="utf-8")
    ask: Callable[[Path, str], set[str]] = {"bash": bash, "zsh": zsh, "fish": fish}[request.param]
    return lambda line: {word.rstrip("/") for word in ask(script, line)}


COMMANDS = {"status", "metrics", "graph", "validate", "show-config", "schema", "completion", "man"}


def test_every_command_is_offered(complete: Complete) -> None:
    assert complete("reconcile ") >= COMMANDS
    assert complete("reconcile sh") == {"show-config"}


def test_options_are_offered_by_their_beginning(complete: Complete) -> None:
    assert complete("reconcile --da") == {"--dataplane"}
    assert complete("reconcile --default-") == {"--default-mtu", "--default-bridge-mode"}


def test_values_of_an_option_are_offered(complete: Complete) -> None:
    assert complete("reconcile --dataplane ") >= {"self", "pinned", "host"}
    assert complete("reconcile --on-exit k") == {"keep"}
    assert complete("reconcile --once --runtime p") == {"podman"}


def test_files_are_offered_where_a_file_is_meant(complete: Complete) -> None:
    assert complete("reconcile --network-file n") == {"net.yaml"}
    assert complete("reconcile validate --compose-file n") == {"net.yaml"}
    assert "sub" in complete("reconcile --network-file s")


def test_a_command_has_options_and_words_of_its_own(complete: Complete) -> None:
    assert complete("reconcile status --ch") == {"--check"}
    assert complete("reconcile schema --co") == {"--compose"}
    assert complete("reconcile completion ") >= set(SHELLS)
    assert complete("reconcile completion z") == {"zsh"}


def test_a_command_after_options(complete: Complete) -> None:
    assert complete("reconcile --network-file net.yaml val") == {"validate"}
    assert "--check" in complete("reconcile --network-file net.yaml status --ch")


# ------------------------------------------------------------------------ any other parser


def other() -> argparse.ArgumentParser:
    """A parser as anybody may write one, with every character that a shell might take amiss."""
    made = argparse.ArgumentParser(prog="other", description="Does 'this' & $(that) \\ `more`.")
    made.add_argument(
        "--where", metavar="DIR", help='it\'s [here]: $HOME; 100%% "sure" `id` \\ & |'
    )
    made.add_argument("--level", choices=("low", "high"))
    made.add_argument("modes", nargs="*", choices=("base", "web"))
    return made


@pytest.mark.parametrize("shell", SHELLS)
def test_any_parser_is_completed(shell: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    script = tmp_path / "other"
    script.write_text(completion.script(other(), shell), encoding="utf-8")
    ask: Callable[[Path, str], set[str]] = {"bash": bash, "zsh": zsh, "fish": fish}[shell]
    assert ask(script, "other --l") == {"--level"}
    assert ask(script, "other --level ") >= {"low", "high"}
    assert {word.rstrip("/") for word in ask(script, "other --where f")} == {"folder"}
    assert ask(script, "other b") == {"base"}


def test_every_console_command_has_a_parser() -> None:
    for program in PROGRAMS:
        assert parser_of(program).prog == program
    assert parser().prog == "reconcile"
