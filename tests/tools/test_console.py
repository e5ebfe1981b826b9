"""What stands between a console command and its terminal: full, closed, interrupted, not UTF-8."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.waiting import until

BIN = Path(sys.executable).parent
EXAMPLE = Path(__file__).parents[2] / "examples" / "test1-compose.yaml"
PRINTING = {
    "reconcile": [
        ("schema",),
        ("man",),
        ("completion", "bash"),
        *((word, "--compose-file", str(EXAMPLE)) for word in ("validate", "show-config", "graph")),
    ],
    "mdc": [("--dry-run", "a")],
    "relink-start": [("--dry-run", "--network-file", "n.yaml", "--docker-socket", "SOCKET")],
    "net2dot": [()],
}
LINES = [(program, words) for program, lines in PRINTING.items() for words in lines]
SHOWN = '{"links": [{"container": "é", "bridge": "s1", "ip": "10.0.0.1/24"}]}'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "modes/a").mkdir(parents=True)
    (tmp_path / "modes/a/env").write_text("A=é\n")
    (tmp_path / "n.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def line(program: str, words: tuple[str, ...], more: str) -> str:
    """Return a line of shell that starts a program; relink-start asks for a socket that is one."""
    listen = "import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    given = [str(BIN / program), *("s" if word == "SOCKET" else word for word in words)]
    return (
        f"rm -f s; {sys.executable} -c '{listen}' s; printf %s '{SHOWN}' | {' '.join(given)} {more}"
    )


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("program", "words"), LINES, ids=str)
@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (">/dev/full", 1, ": the output cannot be written: No space left on device\n"),
        (">&-", 0, ""),
        ("| true", 0, ""),
    ],
)
def test_an_output_that_takes_nothing(
    program: str, words: tuple[str, ...], more: str, code: int, said: str
) -> None:
    script = line(program, words, more)
    if more.startswith("|"):
        script = f"set -o pipefail; {script}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, f"{program}{said}" if said else "")


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("program", "words"), LINES, ids=str)
def test_what_is_printed_does_not_depend_on_the_terminal(
    program: str, words: tuple[str, ...]
) -> None:
    printed = [
        subprocess.run(
            ["bash", "-c", line(program, words, "")],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=True,
        ).stdout
        for encoding in ("utf-8", "ascii")
    ]
    assert printed[0] == printed[1]


def test_a_closed_input_has_nothing_in_it() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{BIN}/net2dot <&-"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        "net2dot: (stdin):1:1: not JSON: Expecting value\n",
    )


def test_an_interrupt_ends_without_a_word() -> None:
    process = subprocess.Popen(
        [BIN / "net2dot"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    reading = Path(f"/proc/{process.pid}/syscall")
    until(lambda: reading.read_text().startswith("0 0x0 "), "net2dot reads its input")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "")
