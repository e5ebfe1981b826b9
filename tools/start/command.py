"""The words that start the sidecar's container: options in, a command out. Starts nothing.

A directory of the machine is seen in the container below /host, so that an error in a file is told
by a name in which its own can be recognised.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.problems import ConfigError, Place, Problem

ENGINES = ("docker", "podman")
INSIDE = {"docker": "/var/run/docker.sock", "podman": "/var/run/podman/podman.sock"}
# More than the engines give by themselves: what they give, containers to be connected have too.
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "NET_BROADCAST")
_ADDRESS = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}  # where clients find their engine
_NETWORK = ("--network", "--net")


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for.

    Attributes:
        mode: the engine whose containers are connected.
        host_mode: the engine that runs the sidecar.
        image: the sidecar's.
        socket: that of `mode` on this machine.
        files: (option of reconcile, file on this machine), in order.
        options: more for reconcile.
        run_options: more for the engine's `run`.
    """

    mode: str
    host_mode: str
    image: str
    socket: Path
    files: tuple[tuple[str, Path], ...]
    options: tuple[str, ...] = ()
    run_options: tuple[str, ...] = ()


def command(request: Request) -> list[str]:
    """Return the words that start the sidecar.

    Raises:
        ConfigError: with what is wrong: no file, one that is not there, a socket that is none.
    """
    if problems := list(_problems(request)):
        raise ConfigError(problems)
    words = [request.host_mode, "run", "--pid", "host"]
    if not any(word.partition("=")[0] in _NETWORK for word in request.run_options):
        words += ["--network", "none"]
    for capability in CAPABILITIES:
        words += ["--cap-add", capability]
    words += ["--security-opt", "apparmor=unconfined"]
    if request.host_mode == "podman":
        # Without it SELinux keeps a container from the engine's socket.
        words += ["--security-opt", "label=disable"]
    words += ["--volume", f"{request.socket}:{INSIDE[request.mode]}"]
    files = [(option, Path(os.path.realpath(file))) for option, file in request.files]
    for directory in sorted({file.parent for _, file in files}):
        words += ["--volume", f"{directory}:{_inside(directory)}:ro"]
    words += [*request.run_options, request.image, "reconcile"]
    for option, file in files:
        words += [option, str(_inside(file))]
    return [*words, *request.options]


def default_mode() -> str:
    """Return the engine that is meant where none is named: docker, unless only podman is there."""
    return next((name for name in ENGINES if shutil.which(name)), ENGINES[0])


def socket_of(engine: str, environment: Mapping[str, str], uid: int) -> Path:
    """Return where the socket of an engine is for this user.

    docker: DOCKER_HOST, else /var/run/docker.sock. podman: CONTAINER_HOST, else what
    podman-system-service(1) says: below /run, or below XDG_RUNTIME_DIR without root.

    Raises:
        ConfigError: the engine is named by something that is not a socket of this machine.
    """
    variable = _ADDRESS[engine]
    if address := environment.get(variable):
        if not address.startswith("unix://"):
            message = f"{address!r} is not on this machine; the sidecar needs a unix:// socket"
            raise ConfigError([Problem(Place(variable), message)])
        return Path(address.removeprefix("unix://"))
    if engine == "docker" or uid == 0:
        return Path(INSIDE[engine])
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    return Path(runtime, "podman", "podman.sock")


def _inside(path: Path) -> Path:
    return Path("/host", *path.parts[1:])


def _problems(request: Request) -> Iterator[Problem]:
    if not request.files:
        message = "give --network-file or --compose-file: nothing says what to connect"
        yield Problem(Place("relink-start"), message)
    for option, file in request.files:
        if not file.is_file():
            wrong = "is not a file" if file.exists() else "there is no such file"
            yield Problem(Place(str(file)), f"{wrong}, though {option} names it")
        elif ":" in os.path.realpath(file.parent):
            yield Problem(Place(str(file)), "a directory with ':' in its path cannot be mounted")
    if not request.socket.exists():
        yield Problem(Place(str(request.socket)), f"there is no socket; {_start(request)}")
    elif not stat.S_ISSOCK(request.socket.stat().st_mode):
        yield Problem(Place(str(request.socket)), "is not a socket")
    elif ":" in str(request.socket):
        yield Problem(Place(str(request.socket)), "a path with ':' cannot be mounted")


def _start(request: Request) -> str:
    how = {
        "docker": "start dockerd",
        "podman": "start podman's service, as with 'podman system service --time=0 &'",
    }
    return f"{how[request.mode]}, or name its socket with --{request.mode}-socket"


def split(lists: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Path]]:
    """Yield each file of (option, list with colons)."""
    for option, names in lists:
        yield from ((option, Path(name)) for name in names.split(":") if name)
