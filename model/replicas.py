"""Running containers, as an engine describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
NUMBER_LABEL = "com.docker.compose.container-number"
WORKDIR_LABEL = "com.docker.compose.project.working_dir"
# podman-compose sets its own labels next to (older versions: instead of) Docker's.
PODMAN_PROJECT_LABEL = "io.podman.compose.project"


@dataclass(frozen=True, slots=True)
class Container:
    """One running container.

    Attributes:
        id: the engine's id (64 hex digits), or the name of a plain network namespace.
        name: full container name without a leading slash.
        runtime: `docker`, `podman` or `netns`.
        netns: path of its network namespace (`/proc/<pid>/ns/net`, `/run/netns/<name>`).
        pid: its first process as seen from here, 0 where there is none (plain namespaces).
        project: compose project, empty outside compose.
        service: compose service, empty outside compose.
        number: compose replica number, from 1; 1 outside compose.
        workdir: working directory of the compose project, empty when unknown.
        shares: whose network it uses instead of its own: empty for its own, `host`, `ns:<path>`
            for a namespace that podman did not make, or another container by its name (by its id
            while the name is unknown).
        labels: all labels, for what a later reader needs.
    """

    id: str
    name: str
    runtime: str
    netns: str
    pid: int = 0
    project: str = ""
    service: str = ""
    number: int = 1
    workdir: str = ""
    shares: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)
