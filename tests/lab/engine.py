"""A real Docker engine for the tests: the one that answers already, or one started for them."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.waiting import patient, until

HOME = Path(os.environ.get("RELINK_LAB", "/var/tmp/relink-lab"))  # kept between runs
DATA = HOME / "docker"
SOCKET = Path("/var/run/docker.sock")
LOG = HOME / "dockerd.log"
NAMESPACES = Path("/run/netns")


def missing() -> str:
    """Return why no engine can be had here, empty when one can."""
    if answers():
        return ""
    if os.geteuid() != 0:
        return "no Docker engine answers, and only root can start one"
    needed = ("docker", "dockerd", "containerd", "iptables")
    absent = [name for name in needed if shutil.which(name) is None]
    return f"no Docker engine answers, and not installed: {', '.join(absent)}" if absent else ""


@contextmanager
def dockerd() -> Iterator[None]:
    """Have an engine on SOCKET; what was started for it is stopped again, nothing else.

    Raises:
        TimeoutError: the engine did not come up or down; with the end of its log.
    """
    if answers():
        yield
        return
    HOME.mkdir(parents=True, exist_ok=True)
    arguments = {
        "data-root": DATA,
        "exec-root": "/run/relink-lab/docker",
        "pidfile": "/run/relink-lab/docker.pid",
        "host": f"unix://{SOCKET}",
        "log-level": "warn",
    }
    Path("/run/relink-lab").mkdir(exist_ok=True)
    with LOG.open("wb") as log:
        # A session of its own: Ctrl-C reaches the tests, and they stop the engine in order.
        engine = subprocess.Popen(
            ["dockerd", *(f"--{key}={value}" for key, value in arguments.items())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(
            lambda: answers() or engine.poll() is not None,
            "dockerd answers",
            seconds=60,
            explain=_end_of_log,
        )
        if engine.poll() is not None:
            raise RuntimeError(f"dockerd ended with {engine.returncode}\n{_end_of_log()}")
        yield
    finally:
        engine.terminate()
        try:
            engine.wait(timeout=patient(30))
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait()
            raise


def answers() -> bool:
    """Tell whether an engine answers `GET /_ping` on SOCKET."""
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
    own = {"DOCKER_HOST": f"unix://{SOCKET}", "DOCKER_BUILDKIT": "0"}
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
