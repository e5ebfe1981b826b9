"""Somebody without root who has podman, on a machine where nobody was prepared for that.

The user, and the ranges of ids that podman needs, are in files that are mounted over those in /etc,
in a mount namespace of its own: nothing of the machine is changed, and nothing stays.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.engine import HOME
from tests.lab.waiting import until

NAME, ID = "relink-rootless", 5505
RANGE = f"{NAME}:550000:65536\n"  # subuid(5), subgid(5)
# As in tests/lab/podman.py; overlay is what a user gets by default, on kernels that let them.
_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_STORAGE = """\
[storage]
driver = "overlay"
"""


def missing() -> str:
    """Return why rootless podman cannot be tried here, empty when it can."""
    if os.geteuid() != 0:
        return "only root can make a user without root"
    needed = ("podman", "conmon", "runc", "newuidmap", "setpriv", "nsenter")
    absent = [name for name in needed if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    made = subprocess.run(
        ["setpriv", f"--reuid={ID}", f"--regid={ID}", "--clear-groups", "unshare", "-Ur", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if made.returncode == 0 else f"no user namespace without root: {made.stderr}"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody without root: a home, and the process that keeps their mount namespace."""

    home: Path
    keeper: int

    @property
    def runtime(self) -> Path:
        """Their XDG_RUNTIME_DIR."""
        return self.home / "run"

    def words(self, *words: str) -> list[str]:
        """Return the words that run a command as this user."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "USER": NAME,
            "XDG_RUNTIME_DIR": str(self.runtime),
            "CONTAINERS_CONF": str(self.home / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.home / "storage.conf"),
            "PYTHONPATH": str(self.home / "python"),
        }
        return [
            *("nsenter", f"--mount=/proc/{self.keeper}/ns/mnt", f"--wd={self.home}"),
            *("setpriv", f"--reuid={ID}", f"--regid={ID}", "--init-groups"),
            *("env", "--ignore-environment", *(f"{k}={v}" for k, v in environment.items())),
            *words,
        ]

    def run(self, *words: str, stdin: int = subprocess.DEVNULL, timeout: float = 120) -> str:
        """Run a command as this user and return what it printed.

        Raises:
            RuntimeError: it failed; with all that it said.
        """
        done = subprocess.run(
            self.words(*words),
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            said = f"{done.stdout}{done.stderr}"
            raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}\n{said}")
        return done.stdout.strip()

    def python(self, module: str, packages: Sequence[Path]) -> list[str]:
        """Return the words that run a module of ours, from a copy that this user can read."""
        for package in packages:
            copy = self.home / "python" / package.name
            shutil.copytree(package, copy, dirs_exist_ok=True)
        subprocess.run(["chmod", "-R", "a+rX", self.home / "python"], check=True)
        return [self._interpreter(), "-B", "-m", module]

    def _interpreter(self) -> str:
        """Return a Python that this user can start: ours may be root's alone."""
        for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
            with contextlib.suppress(RuntimeError):
                self.run(python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))")
                return python
        raise RuntimeError("this user can start no Python of 3.11 or later")

    @contextmanager
    def service(self) -> Iterator[None]:
        """Have podman answer on this user's socket.

        Raises:
            TimeoutError: it did not come up; with its log.
        """
        log = self.home / "service.log"
        with log.open("wb") as out:
            words = self.words("podman", "system", "service", "--time=0")
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            socket = self.runtime / "podman" / "podman.sock"
            until(socket.exists, "podman's socket", explain=log.read_text)
            yield
        finally:
            process.terminate()
            process.wait(timeout=20)


@contextmanager
def user() -> Iterator[User]:
    """Have somebody without root; all that they started and stored is gone afterwards."""
    HOME.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="rootless-", dir=HOME))
    home.chmod(0o755)
    etc = _etc(home / "etc")
    for name, text in (("containers.conf", _CONTAINERS), ("storage.conf", _STORAGE)):
        (home / name).write_text(text)
    (home / "run").mkdir(mode=0o700)
    for path in (home, home / "run"):
        os.chown(path, ID, ID)
    mounts = "".join(
        f"mount --bind {etc}/{path.name} /etc/{path.name} && " for path in etc.iterdir()
    )
    keeper = subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", f"{mounts}echo && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    made = User(home, keeper.pid)
    try:
        assert keeper.stdout
        assert keeper.stdout.readline() == b"\n", "the files in /etc cannot be mounted over"
        yield made
        made.run("podman", "rm", "--all", "--force", "--time=0")
    finally:
        with contextlib.suppress(RuntimeError):
            made.run("podman", "system", "migrate")  # ends the process that keeps its namespaces
        keeper.communicate()
        shutil.rmtree(home)


def _etc(directory: Path) -> Path:
    """Make what is to be seen in /etc: everything that is there, and this user."""
    directory.mkdir(mode=0o755)
    for name, line in {
        "passwd": f"{NAME}:x:{ID}:{ID}::/:/bin/sh\n",
        "group": f"{NAME}:x:{ID}:\n",
        "subuid": RANGE,
        "subgid": RANGE,
    }.items():
        (directory / name).write_text(Path("/etc", name).read_text() + line)
        (directory / name).chmod(0o644)
    return directory
