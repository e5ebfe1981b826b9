"""A fresh Debian with Docker, on this machine's kernel and in namespaces of its own.

Nothing but loopback and what its engine makes is its network, no image is in its engine, and what
is written there does not outlive it. It knows how to have one and to type in it, not what for.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.engine import HOME, environment
from tests.lab.images import _bootstrapped, _hash_text
from tests.lab.waiting import patient, until

INIT = Path(__file__).with_name("machine-init")
PACKAGES = ("ca-certificates", "docker-compose", "docker.io", "iptables")
_NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc")


@dataclass(frozen=True, slots=True)
class Machine:
    """One that runs.

    Attributes:
        pid: of its process 1, as seen from outside.
        root: its root directory, as seen from outside.
    """

    pid: int
    root: Path

    def words(self, directory: str = "/root") -> list[str]:
        """Return what a command is put behind to be typed in there, as root after a login."""
        login = ("HOME=/root", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
        there = ("nsenter", f"--target={self.pid}", "--all")
        return [*there, "env", "--ignore-environment", f"--chdir={directory}", *login]

    def load(self, images: Sequence[str]) -> None:
        """Give its engine images of the tests' own engine, which it would download otherwise."""
        save = ["docker", "save", *images]
        with subprocess.Popen(save, env=environment(), stdout=subprocess.PIPE) as saved:
            subprocess.run(
                [*self.words(), "docker", "load", "--quiet"],
                stdin=saved.stdout,
                stdout=subprocess.DEVNULL,
                check=True,
            )
        assert saved.returncode == 0


@contextmanager
def machine() -> Iterator[Machine]:
    """Have a machine whose engine answers; it and all that runs in it is gone afterwards.

    Raises:
        TimeoutError: its engine did not come up; with the engine's log.
    """
    tree = _installed()
    with tempfile.TemporaryDirectory(prefix="machine-", dir=HOME) as name:
        scratch = Path(name)
        for part in ("docker", "root", "upper", "work"):
            (scratch / part).mkdir()
        outside = subprocess.Popen(
            ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--propagation=private",
             "sh", str(INIT), str(tree), name],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            pid = until(lambda: _child(outside), "process 1 of the machine")
            made = Machine(pid, scratch / "upper")
            log = scratch / "upper/var/log/dockerd.log"
            until(
                lambda: _answers(made) or outside.poll() is not None,
                "the machine's engine answers",
                seconds=60,
                explain=lambda: log.read_text() if log.exists() else "",
            )
            assert outside.poll() is None, log.read_text() if log.exists() else "no log"
            yield made
        finally:
            _end(outside)


def _installed() -> Path:
    """Return the root directory of a Debian with Docker, made once."""
    base = _bootstrapped()
    tree = HOME / f"machine-{_hash_text(f'{base.name} {PACKAGES}')}"
    if not tree.exists():
        half = tree.with_suffix(".half")
        shutil.rmtree(half, ignore_errors=True)
        subprocess.run(["cp", "-a", str(base), str(half)], check=True)
        no_services = half / "usr/sbin/policy-rc.d"
        no_services.write_text("#!/bin/sh\nexit 101\n")
        no_services.chmod(0o755)
        shutil.copy("/etc/resolv.conf", half / "etc/resolv.conf")
        install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends"
        subprocess.run(
            ["chroot", str(half), "sh", "-c", f"{install} {' '.join(PACKAGES)} && apt-get clean"],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
            check=True,
            capture_output=True,
        )
        half.rename(tree)
    return tree


def _child(process: subprocess.Popen[bytes]) -> int:
    """Return the process that `unshare --fork` has started, 0 while there is none."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        found = path.read_text().split()
    except FileNotFoundError:
        return 0
    return int(found[0]) if found else 0


def _answers(machine: Machine) -> bool:
    asked = [*machine.words(), "docker", "version"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _end(outside: subprocess.Popen[bytes]) -> None:
    """End the engine in order, so that its containers end; and with process 1 all of it."""
    pid = _child(outside)
    if pid:
        os.kill(pid, signal.SIGTERM)
    try:
        outside.wait(patient(30))
    except subprocess.TimeoutExpired:
        outside.kill()  # --kill-child
        outside.wait()
        raise
