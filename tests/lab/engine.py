"""A real Docker engine for the tests: the one that answers already, or one started for them.

Those that are started have one data directory, and take turns.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.waiting import patient, until

HOME = Path(os.environ.get("RELINK_LAB", "/var/tmp/relink-lab"))  # kept between runs
DATA = HOME / "docker"
SOCKET = Path("/var/run/docker.sock")
LOG = HOME / "dockerd.log"
STATE = Path("/run") / HOME.name
NAMESPACES = Path("/run/netns")
# Of an engine that was started here, in a directory to be mounted: a container that has mounted the
# file itself keeps the old socket when the engine starts again and makes another.
MOUNTABLE = STATE / "engine" / SOCKET.name

_asked = [SOCKET]  # the last is the engine that clients ask
_ours: list[_Engine] = []  # those that were started here


def missing() -> str:
    """Return why no engine can be had here, empty when one can."""
    why = "" if answers() else unable()
    return f"no Docker engine answers, and {why}" if why else ""


def unable() -> str:
    """Return why none can be started here, empty when one can."""
    if os.geteuid() != 0:
        return "only root can start one"
    needed = ("docker", "dockerd", "containerd", "iptables")
    absent = [name for name in needed if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


@contextmanager
def dockerd() -> Iterator[None]:
    """Have an engine on SOCKET; what was started for it is stopped again, nothing else.

    Raises:
        RuntimeError: the engine ended at once; with the end of its log.
        TimeoutError: the engine did not come up or down; with the end of its log.
    """
    own = ("dockerd", f"--host=unix://{MOUNTABLE}")
    with contextlib.nullcontext() if answers() else _started(*own):
        yield


@contextmanager
def apart() -> Iterator[None]:
    """Have an engine beside the one that may answer on SOCKET, for images; it is asked meanwhile.

    In a network namespace of its own: with `--bridge=none` it deletes docker0 (20.10), whosever it
    is, and without it would make that its own.

    Raises:
        RuntimeError: the engine ended at once; with the end of its log.
        TimeoutError: the engine did not come up or down; with the end of its log.
    """
    words = ("--bridge=none", "--iptables=false", f"--containerd-namespace={HOME.name}",
             f"--containerd-plugins-namespace={HOME.name}-plugins")  # fmt: skip
    _asked.append(STATE / "apart.sock")
    try:
        with _started("unshare", "--net", "dockerd", *words):
            yield
    finally:
        _asked.pop()


@contextmanager
def _started(*words: str) -> Iterator[None]:
    """Have the engine that these words start on the socket that is asked."""
    arguments = {
        "data-root": DATA,
        "exec-root": STATE / "docker",
        "pidfile": STATE / "docker.pid",
        "host": f"unix://{_asked[-1]}",
        "log-level": "warn",
    }
    for directory in (HOME, STATE, MOUNTABLE.parent):
        directory.mkdir(parents=True, exist_ok=True)
    with (STATE / "docker.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with _running([*words, *(f"--{key}={value}" for key, value in arguments.items())]):
            yield


@contextmanager
def _running(command: Sequence[str]) -> Iterator[None]:
    engine = _Engine([*command, "--live-restore"])  # its containers outlive it, for `restarted`
    try:
        engine.start()
        _ours.append(engine)
        yield
    finally:
        if engine in _ours:
            _ours.remove(engine)
            _end_containers()
        engine.stop()


def _end_containers() -> None:
    with contextlib.suppress(RuntimeError):  # one that has ended meanwhile
        if running := docker("ps", "--quiet").split():
            docker("kill", *running)


class _Engine:
    """The process of an engine; one after another of the same words."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with LOG.open("ab" if self._process else "wb") as log:
            # A session of its own: Ctrl-C reaches the tests, and they stop the engine in order.
            process = self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(
            lambda: answers() or process.poll() is not None,
            "dockerd answers",
            seconds=60,
            explain=_end_of_log,
        )
        if process.poll() is not None:
            raise RuntimeError(f"dockerd ended with {process.returncode}\n{_end_of_log()}")

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=patient(30))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


def socket_to_mount() -> Path:
    """Return the engine's socket, where a restart of it can be seen from a container if any can."""
    return MOUNTABLE if _ours else SOCKET


def restarted() -> None:
    """Stop the engine that was started here, and start it again; its containers go on meanwhile.

    Raises:
        RuntimeError: it ended at once; with the end of its log.
        TimeoutError: the engine did not come up or down; with the end of its log.
    """
    _ours[-1].stop()
    _ours[-1].start()


def answers() -> bool:
    """Tell whether the engine that is asked answers `GET /_ping`."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(5)
        connection.sock.connect(str(_asked[-1]))
        connection.request("GET", "/_ping")
        return connection.getresponse().read() == b"OK"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def docker(*arguments: str, timeout: float = 60, content: bytes | None = None) -> str:
    """Run the docker client and return what it printed.

    Raises:
        RuntimeError: it failed; with its standard error.
    """
    done = subprocess.run(
        ["docker", *arguments],
        env=environment(),
        input=content,
        capture_output=True,
        timeout=patient(timeout),
        check=False,
    )
    if done.returncode:
        words = done.stderr.decode() + done.stdout.decode()
        raise RuntimeError(f"docker {' '.join(arguments)}: exit {done.returncode}\n{words}")
    return done.stdout.decode().strip()


def environment() -> dict[str, str]:
    """Return the environment for clients of the engine: this engine, the classic builder."""
    own = {"DOCKER_HOST": f"unix://{_asked[-1]}", "DOCKER_BUILDKIT": "0"}
    return {**os.environ, **own}


def share_run_netns() -> None:
    """Make /run/netns a shared mount, as it is on systemd hosts and after `ip netns add`.

    Only then a namespace that is pinned there from inside a container appears on the host
    (mount_namespaces(7), "Shared subtrees").
    """
    NAMESPACES.mkdir(parents=True, exist_ok=True)
    sharing = _mounts().get(str(NAMESPACES))
    if sharing is None:
        subprocess.run(["mount", "--bind", NAMESPACES, NAMESPACES], check=True)
    if not sharing:
        subprocess.run(["mount", "--make-rshared", NAMESPACES], check=True)


def _mounts() -> dict[str, bool]:
    """Return every mount point, and whether it is shared (proc(5), mountinfo)."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    before = [line.partition(" - ")[0].split() for line in lines]
    return {fields[4]: any(f.startswith("shared:") for f in fields[6:]) for fields in before}


def _end_of_log() -> str:
    return "\n".join(LOG.read_text(errors="replace").splitlines()[-30:])
