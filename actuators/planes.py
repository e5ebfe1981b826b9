"""Making and removing the pinned namespace that a data plane outlives its sidecar in."""

from __future__ import annotations

import os


def create(path: str) -> None:
    """Make the named namespace at `path` (below /run/netns) if it is not there.

    Raises:
        OSError: it cannot be made.
    """
    if os.path.ismount(path) or _is_namespace(path):
        return
    from pyroute2 import netns  # noqa: PLC0415 - 0.1 s that only a pinned data plane pays

    netns.create(os.path.basename(path))


def delete(path: str) -> None:
    """Remove it, and every interface in it, if it is there.

    Raises:
        OSError: it cannot be removed.
    """
    if not os.path.exists(path):
        return
    from pyroute2 import netns  # noqa: PLC0415

    netns.remove(os.path.basename(path))


def _is_namespace(path: str) -> bool:
    try:
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    except OSError:
        return False
