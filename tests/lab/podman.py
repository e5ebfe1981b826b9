"""A real podman service for the tests, with a store, an image and a socket of its own.

Made for machines on which podman's defaults cannot start a container: crun wants one kind of
control groups, systemd runs or not, and this process may have fewer limits than podman asks for.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.engine import HOME
from tests.lab.images import _alpine, _hash_text
from tests.lab.waiting import until

STORE = HOME / "podman"  # kept between runs
STATE = Path("/run") / HOME.name / "podman"  # podman takes what is here for of this boot
SOCKET = STATE / "podman.sock"
LOG = HOME / "podman.log"
IMAGE = "localhost/relink-lab"
_CONFIGURATION = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_GLOBAL = (
    f"--root={STORE}",
    f"--runroot={STATE}/run",
    f"--tmpdir={STATE}/tmp",
    "--storage-driver=vfs",
)


def missing() -> str:
    """Return why podman cannot run here, empty when it can."""
    if os.geteuid() != 0:
        return "podman's containers of these tests need root"
    absent = [name for name in ("podman", "conmon", "runc") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


@contextmanager
def service() -> Iterator[None]:
    """Have podman answer on SOCKET, with IMAGE and no container; afterwards nothing of it runs.

    Another run of these tests on this machine waits for its turn.

    Raises:
        TimeoutError: it did not come up; with the end of its log.
    """
    for directory in (STORE, STATE):
        directory.mkdir(parents=True, exist_ok=True)
    (STATE / "containers.conf").write_text(_CONFIGURATION)
    with (STATE / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        _remove_all()
        _make_image()
        _start()
        try:
            yield
        finally:
            try:
                _remove_all()
            finally:
                _stop()


def restart_service() -> None:
    """Stop the service's process and start another; containers go on."""
    _stop()
    _start()


_processes: list[subprocess.Popen[bytes]] = []  # the one that runs


def _start() -> None:
    SOCKET.unlink(missing_ok=True)
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            ["podman", *_GLOBAL, "system", "service", "--time=0", f"unix://{SOCKET}"],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _processes.append(process)
    until(_answers, "podman answers", explain=lambda: LOG.read_text()[-2000:])


def _stop() -> None:
    process = _processes.pop()
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def podman(*arguments: str, timeout: float = 60) -> str:
    """Run podman on this store and return what it printed.

    Raises:
        RuntimeError: it failed; with its standard error.
    """
    done = subprocess.run(
        ["podman", *_GLOBAL, *arguments],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        words = f"{done.stderr}{done.stdout}"
        raise RuntimeError(f"podman {' '.join(arguments)}: exit {done.returncode}\n{words}")
    return done.stdout.strip()


def start(name: str, *options: str, labels: dict[str, str] | None = None) -> str:
    """Start a container that has no network but what Relink gives it, and return its id."""
    given = (f"--label={key}={value}" for key, value in (labels or {}).items())
    words = ("--detach", f"--name={name}", "--network=none", *given, *options)
    return podman("run", *words, IMAGE, "sleep", "1000")


def pid(name: str) -> int:
    """Return the first process of a container, 0 when it does not run."""
    return int(podman("container", "inspect", "--format={{.State.Pid}}", name))


def _remove_all() -> None:
    for container in podman("ps", "--all", "--quiet").split():
        # Those that use its network too; and nothing if it went as one of those.
        podman("rm", "--force", "--depend", "--ignore", "--time=0", container)
    podman("pod", "rm", "--all", "--force")


def _make_image() -> None:
    recipe = _hash_text(Path(_alpine.__code__.co_filename).read_bytes())
    tag = f"{IMAGE}:{recipe}"
    try:
        podman("image", "exists", tag)
    except RuntimeError:
        with tempfile.TemporaryDirectory(prefix="relink-image-", dir=HOME) as name:
            tree, archive = Path(name) / "tree", Path(name) / "tree.tar"
            tree.mkdir(mode=0o755)
            _alpine(tree)
            packing = ["tar", "--numeric-owner", "--directory", tree, "--create", "--file", archive]
            subprocess.run([*packing, "."], check=True)
            podman("import", str(archive), tag)
    podman("tag", tag, IMAGE)


def _answers() -> bool:
    connection = http.client.HTTPConnection("localhost", timeout=5)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(5)
        connection.sock.connect(str(SOCKET))
        connection.request("GET", "/_ping")
        return connection.getresponse().read() == b"OK"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _environment() -> dict[str, str]:
    return {**os.environ, "CONTAINERS_CONF": str(STATE / "containers.conf")}
