"""Which runtimes to observe: those asked for, or those that are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from observers.engine import Engine
from observers.plain import Plain
from observers.runtimes import Runtime


def default_runtimes(
    docker_socket: str, podman_socket: str, netns_dir: str, chosen: Sequence[str] | None
) -> list[Runtime]:
    """Return the runtimes to observe.

    Args:
        docker_socket: path of the Docker socket.
        podman_socket: path of the podman socket.
        netns_dir: directory of the named network namespaces.
        chosen: names of the runtimes wanted, whether they can be reached yet or not; None for the
            engines whose sockets exist now.

    Raises:
        ValueError: a chosen name is not one of `docker`, `podman`, `netns`.
    """
    sockets = {"docker": docker_socket, "podman": podman_socket}
    if chosen is None:
        chosen = [name for name, path in sockets.items() if Path(path).exists()]
    runtimes: list[Runtime] = []
    for name in dict.fromkeys(chosen):
        if name == "netns":
            runtimes.append(Plain(netns_dir))
        elif name in sockets:
            runtimes.append(Engine(name, sockets[name]))
        else:
            raise ValueError(f"runtime {name!r}: must be docker, podman or netns")
    return runtimes
