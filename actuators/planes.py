"""Making and removing the pinned namespace that a data plane outlives its sidecar in."""

from __future__ import annotations

from pathlib import Path


def create(path: str) -> None:
    """Make the named namespace at `path` (below /run/netns) if it is not there.

    Raises:
        OSError: it cannot be made.
    """
    if _is_namespace(path):
        return
    from pyroute2 import netns  # noqa: PLC0415 - 0.1 s that only a pinned data plane pays

    netns.create(Path(path).name)


def delete(path: str) -> None:
    """Remove it, and every interface in it, if it is there.

    Raises:
        OSError: it cannot be removed.
    """
    if not Path(path).exists():
        return
    from pyroute2 import netns  # noqa: PLC0415

    netns.remove(Path(path).name)


def _is_namespace(path: str) -> bool:
    try:
        return Path(path).stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except OSError:
        return False
