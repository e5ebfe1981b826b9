"""Which container this process runs in, if any, judged from what the kernel tells of it."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from model.replicas import Container
from observers.runtimes import Runtime

_ID = "([0-9a-f]{64})"

# Field 4 of /proc/self/mountinfo (proc(5)): where inside its file system a mounted file lies.
# Engines mount files from a directory named after the container; no cgroup namespace hides that.
_MOUNTED = re.compile(
    rf"/(?:containers/{_ID}/[^/]+|[a-z0-9]+-containers/{_ID}/userdata/.+?)(?://deleted)?$"
)
# podman's own marker first: a container that shares the network of another also shows the other's
# host files here.
_MOUNT_POINTS = ("/run/.containerenv", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")

# The last directory of a control group: `<id>` (cgroupfs), `docker-<id>.scope` (systemd),
# `libpod-<id>` and below it podman's `container`.
_GROUP = re.compile(rf"(?:^|/)(?:docker-|libpod-|crio-|cri-containerd-)?{_ID}(?:\.scope)?(?=/|$)")

_HOSTNAME = re.compile(r"[0-9a-f]{12}")


def parse_own_id(mountinfo: str, cgroup: str, hostname: str) -> str | None:
    """Return the id of the container that the three texts describe, None on a host.

    Args:
        mountinfo: /proc/self/mountinfo.
        cgroup: /proc/self/cgroup.
        hostname: the host name; by default engines set it to the first 12 digits of the id, which
            is what is returned when nothing says more.
    """
    for line in cgroup.splitlines():
        path = line.split(":", 2)[-1]
        # The innermost: an engine inside a container makes groups below those of its own.
        if groups := _GROUP.findall(path):
            return str(groups[-1])
    sources = {
        fields[4]: fields[3]
        for line in mountinfo.splitlines()
        if len(fields := line.split(" ")) > 4
    }
    for point in _MOUNT_POINTS:
        if found := _MOUNTED.search(sources.get(point, "")):
            return found[1] or found[2]
    return hostname if _HOSTNAME.fullmatch(hostname) else None


def own_container_id() -> str | None:
    """Return the id of the container that this process runs in, None on a host.

    The host name counts only as a last resort, and gives a short id that the engine completes.
    """
    return parse_own_id(
        _read("/proc/self/mountinfo"), _read("/proc/self/cgroup"), socket.gethostname()
    )


def own_compose(runtime: Runtime) -> Container | None:
    """Return the container that this process runs in, with its compose project and directory.

    None when this process runs in none, or in one that `runtime` does not know.

    Raises:
        EngineUnavailableError: the engine did not say.
    """
    own = own_container_id()
    return runtime.find(own) if own else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # no /proc: then it says nothing
        return ""
