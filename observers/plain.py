"""Named network namespaces (ip-netns(8)) that stand for containers; no engine is needed.

Knows the files that `ip netns add` makes and nothing of what is inside the namespaces.
"""

from __future__ import annotations

import errno
import os
import re
import select
import threading
from pathlib import Path

from model.replicas import Container
from observers.inotify import (
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Inotify,
    Notice,
)
from observers.runtimes import (
    Changed,
    Connected,
    EngineUnavailableError,
    Lost,
    Ring,
    delays,
    when_set,
)

OWN_PREFIX = "relink-"  # namespaces pinned by Relink itself are no containers
_REPLICA = re.compile(r"(.+)_([1-9][0-9]*)")
_APPEARS = IN_CREATE | IN_MOVED_TO
_MASK = _APPEARS | IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
_GONE = IN_DELETE_SELF | IN_MOVE_SELF


class Plain:
    """The named network namespaces of one directory; a missing directory is an empty one."""

    name = "netns"

    def __init__(self, directory: str = "/run/netns") -> None:
        self._directory = Path(directory)

    def list(self) -> list[Container]:
        """Return the namespaces, ordered by name.

        Raises:
            EngineUnavailableError: the directory may not be read.
        """
        try:
            names = _names(self._directory)
        except OSError as error:
            raise EngineUnavailableError(self._explain(error)) from error
        return [container for name in names if (container := self.find(name))]

    def find(self, id: str) -> Container | None:  # noqa: A002 (as in Runtime)
        """Return the namespace called `id`, or None when there is none."""
        if not (_stands_for_container(id) and _is_namespace(self._directory / id)):
            return None
        match = _REPLICA.fullmatch(id)
        return Container(
            id=id,
            name=id,
            runtime=self.name,
            netns=str(self._directory / id),
            service=match[1] if match else "",
            number=int(match[2]) if match else 1,
        )

    def ping(self) -> None:
        """A directory always answers."""

    def watch(self, ring: Ring, stop: threading.Event) -> None:
        """Ring for namespaces that come and go until `stop` is set; see `Runtime.watch`."""
        told = ""
        waits = delays()
        wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            with when_set(stop, lambda: os.eventfd_write(wake, 1)):
                while not stop.is_set():
                    try:
                        with (
                            Inotify() as inotify,
                            Path("/proc/self/mountinfo").open("rb") as mounts,
                        ):
                            watch = _Watch(self._directory, inotify, ring)
                            watch.arm()
                            told = ""
                            watch.run(mounts.fileno(), wake)
                    except OSError as error:
                        reason = self._explain(error)
                        if reason != told:
                            ring(Lost(reason))
                            told = reason
                        stop.wait(next(waits))
        finally:
            os.close(wake)

    def close(self) -> None:
        """Nothing is held open."""

    def _explain(self, error: OSError) -> str:
        hints = {
            errno.EACCES: "run as root, or let this user read it",
            errno.ENOSPC: "raise fs.inotify.max_user_watches",
            errno.EMFILE: "raise fs.inotify.max_user_instances or the limit of open files",
        }
        hint = hints.get(error.errno or 0, "is it a directory?")
        return f"netns at {self._directory}: {error.strerror or error}; {hint}"


class _Watch:
    """The directory, or while it is missing its nearest parent, watched until told to stop."""

    def __init__(self, directory: Path, inotify: Inotify, ring: Ring) -> None:
        self._directory = directory
        self._inotify = inotify
        self._ring = ring
        self._wd = -1
        self._watched: tuple[int, int] | None = None
        self._unmounted: set[str] = set()  # files that no namespace is mounted on yet

    def run(self, mounts: int, wake: int) -> None:
        """Ring until `wake` is readable; `mounts` is an open /proc/self/mountinfo.

        A namespace appears in two steps, a file and a mount on it. inotify tells of the first;
        the second makes mountinfo readable with POLLPRI (proc(5)).
        """
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self._inotify.fd, select.POLLIN)
        poll.register(mounts, select.POLLPRI)
        self._ring(Connected())
        while wake not in (ready := dict(poll.poll())):
            doubt = mounts in ready and _identity(self._directory) != self._watched
            for notice in self._inotify.read():
                doubt = self._doubtful(notice) or doubt
            if doubt:
                before = self._watched
                self.arm()
                if self._watched or before:
                    self._ring(Connected())
            for name in sorted(self._unmounted):
                if _is_namespace(self._directory / name):
                    self._unmounted.discard(name)
                    self._ring(Changed(name))

    def _doubtful(self, notice: Notice) -> bool:
        """Take one notice in; tell whether the directory has to be looked at as a whole."""
        if notice.mask & IN_Q_OVERFLOW:
            return True
        if notice.wd != self._wd:  # of a watch that has ended
            return False
        if self._watched is None or notice.mask & _GONE:
            return True
        if not _stands_for_container(notice.name):
            return False
        if notice.mask & _APPEARS:
            self._unmounted.add(notice.name)
        elif notice.name in self._unmounted:
            self._unmounted.discard(notice.name)
        else:
            self._ring(Changed(notice.name))
        return False

    def arm(self) -> None:
        """Watch the directory, or the nearest parent that exists.

        Raises:
            OSError: neither may be watched.
        """
        self._watched = None
        while True:
            self._inotify.remove(self._wd)
            place = self._watch_nearest()
            if place == self._nearest():
                break  # else a nearer one was made in between, and only it will tell of the next
        if place == self._directory:
            self._watched = _identity(place)
        self._unmounted = {
            name for name in _names(self._directory) if not _is_namespace(self._directory / name)
        }

    def _watch_nearest(self) -> Path | None:
        for place in (self._directory, *self._directory.parents):
            try:
                self._wd = self._inotify.add(place, _MASK)
            except (FileNotFoundError, NotADirectoryError):
                continue
            return place
        return None

    def _nearest(self) -> Path | None:
        places = (self._directory, *self._directory.parents)
        return next((place for place in places if place.is_dir()), None)


def _names(directory: Path) -> list[str]:
    try:
        return sorted(
            name for path in directory.iterdir() if _stands_for_container(name := path.name)
        )
    except (FileNotFoundError, NotADirectoryError):
        return []


def _stands_for_container(name: str) -> bool:
    return name != "" and "/" not in name and not name.startswith((OWN_PREFIX, "."))


def _is_namespace(path: Path) -> bool:
    """Tell whether a namespace is mounted on the file: files of namespaces share one device."""
    try:
        return path.stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except (OSError, ValueError):  # gone, or no name for a file
        return False


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this directory from another one mounted or made in its place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
