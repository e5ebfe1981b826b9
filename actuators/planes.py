"""Making and removing the pinned namespace that a data plane outlives its sidecar in."""

from __future__ import annotations

import errno
from pathlib import Path


def create(path: str) -> None:
    """Make the named namespace at `path` (below /run/netns) if it is not there.

    An empty file there is what is left of one, where somebody was killed between making the file
    and mounting the namespace on it, or could not remove it.

    Raises:
        OSError: it cannot be made.
    """
    file = Path(path)
    if _is_namespace(file):
        return
    if file.is_file() and not file.stat().st_size:
        file.unlink()
    from pyroute2 import netns  # noqa: PLC0415 - 0.1 s that only a pinned data plane pays

    netns.create(file.name)


def delete(path: str) -> None:
    """Remove it, and every interface in it, if it is there.

    Where its file is mounted at another place of this mount namespace too (a container that has
    the host's whole file system), an empty file stays, and the namespace goes with that place.

    Raises:
        OSError: it cannot be removed.
    """
    file = Path(path)
    if not file.exists():
        return
    from pyroute2 import netns  # noqa: PLC0415

    try:
        netns.remove(file.name)
    except OSError as error:
        if error.errno != errno.EBUSY or _is_namespace(file):
            raise


def _is_namespace(file: Path) -> bool:
    try:
        return file.stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except OSError:
        return False
