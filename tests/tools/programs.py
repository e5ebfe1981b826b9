"""The programs of tools/ in each of their forms, and a network to run them in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]
TOOLS = SOURCE / "tools"
FORMS = {  # with what each is called in the ledger
    "dash": "sh in dash",
    "bash": "sh in bash",
    "busybox": "sh with busybox alone",
    "static": "static",
    "sanitized": "static",
}
SECONDS = 20  # more than anything here takes on a machine that is busy

Words = tuple[str | bytes | Path, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """One of the two programs in one form.

    Attributes:
        argv: by which words it is started.
        path: the tools that it finds, as a PATH.
        before: words that start it elsewhere: in another namespace, as another user.
    """

    argv: tuple[str, ...]
    path: str
    before: Words = ()

    def start(
        self,
        *words: str | bytes | Path,
        env: Mapping[str, str | bytes] | None = None,
        cwd: Path | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start it; what is given as `env` is its environment, beside PATH and HOME."""
        return subprocess.Popen(
            [*self.before, *self.argv, *words],
            env={"PATH": self.path, "HOME": "/root", **(env or {})},
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(
        self,
        *words: str | bytes | Path,
        env: Mapping[str, str | bytes] | None = None,
        cwd: Path | None = None,
    ) -> Ended:
        """Run it to its end."""
        return ended(self.start(*words, env=env, cwd=cwd))


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended."""

    code: int
    out: str
    err: str


def ended(process: subprocess.Popen[bytes]) -> Ended:
    """Wait for a program to end."""
    with process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Ended(process.returncode, os.fsdecode(out), os.fsdecode(err))


def options(program: str, *names: str) -> list[object]:
    """Return the names of one option, each with the feature that a test of it proves."""
    return [pytest.param(name, marks=pytest.mark.proves(f"{program} {name}")) for name in names]


def says(process: subprocess.Popen[bytes]) -> str:
    """Return the next line of standard error."""
    assert process.stderr is not None
    return os.fsdecode(process.stderr.readline()).rstrip("\n")


@contextmanager
def network() -> Iterator[int]:
    """Have a network namespace of its own, with its loopback up; yields a process in it."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder.pid


def entering(pid: int) -> tuple[str, ...]:
    """Return the words that run a command in the network of a process."""
    return ("nsenter", f"--net=/proc/{pid}/ns/net")


def ip(pid: int, *words: str) -> None:
    """Run ip(8) in the network of a process."""
    subprocess.run([*entering(pid), "ip", *words], check=True)
