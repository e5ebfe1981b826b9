"""The control socket of a running sidecar: HTTP over a Unix socket, owner only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import http.client
import json
import os
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reconciler.crashes import Crashes


class AlreadyRunningError(Exception):
    """Another sidecar of the same instance runs here."""


def directory() -> Path:
    """Return where control sockets are: /run/relink, or the user's own where that is not ours."""
    run, *others = _candidates()
    return run if os.access(run if run.exists() else run.parent, os.W_OK) else others[0]


def _candidates() -> list[Path]:
    own = os.environ.get("XDG_RUNTIME_DIR")
    shared = Path(tempfile.gettempdir()) / f"relink-{os.getuid()}"
    return [Path("/run/relink"), *([Path(own) / "relink"] if own else []), shared]


def _places() -> list[Path]:
    """Return where a sidecar may answer: one that began when /run could be written, or could not.

    Raises:
        OSError: somebody else made the directory of now, or may write in it.
    """
    owners = (os.geteuid(), 0)
    places = [directory()]
    _check_owner(places[0], owners)
    for other in _candidates():
        with contextlib.suppress(OSError):  # it may be anybody's; that is no reason to fail
            _check_owner(other, owners)
            if other not in places:
                places.append(other)
    return places


def is_name(instance: str) -> bool:
    """Tell whether an instance can be called that: it names a socket."""
    return "/" not in instance and instance.isprintable() and 0 < len(instance) <= 64


def instances() -> list[str]:
    """Return the instances whose sidecars answer here.

    Raises:
        OSError: somebody else made the directory, or may write in it.
    """
    found = (path for place in _places() for path in place.glob("*.sock"))
    return sorted({path.stem for path in found if _accepts(path)})


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        try:
            sock.connect(str(path))
        except OSError:  # left behind by one that was killed
            return False
        return True


def _check_owner(where: Path, owners: tuple[int, ...]) -> None:
    """Refuse a directory of somebody else, as anybody may make one of that name in /tmp.

    Raises:
        OSError: it is no directory of an owner's, or others may write in it.
    """
    try:
        found = where.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "not a directory; remove it", str(where))
    if found.st_uid not in owners:
        raise PermissionError(errno.EPERM, "somebody else's directory; remove it", str(where))
    if found.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "others may write there; chmod go-w", str(where))


def path_of(instance: str) -> Path:
    """Return where the control socket of an instance is put."""
    return directory() / f"{instance}.sock"


class Control:
    """Answers on the control socket while it lives: status as JSON, metrics as Prometheus' text."""

    def __init__(
        self,
        instance: str,
        status: Callable[[], dict[str, Any]],
        metrics: Callable[[], bytes],
        crashes: Crashes | None = None,
    ) -> None:
        self._path = path_of(instance)
        self._status = status
        self._metrics = metrics
        self._crashes = Crashes() if crashes is None else crashes
        self._locks: list[int] = []
        self._runner: Any = None

    async def start(self) -> None:
        """Begin to answer.

        Raises:
            AlreadyRunningError: another sidecar does, for this instance.
            OSError: the socket cannot be made.
        """
        from aiohttp import web  # noqa: PLC0415 - only the sidecar needs a server
        from aiohttp.typedefs import Handler  # noqa: PLC0415

        from reconciler.metrics import CONTENT_TYPE  # noqa: PLC0415

        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(self._path.parent, (os.geteuid(),))
        self._take_locks()
        self._path.unlink(missing_ok=True)

        def answering(make: Callable[[], web.Response]) -> Handler:
            async def handler(_request: web.Request) -> web.Response:
                # Whoever asks never ends the process, however often.
                with self._crashes.confined("control socket", counts=False) as crash:
                    return make()
                return web.Response(status=500, text=crash.reason)

            return handler

        def status() -> web.Response:
            return web.json_response(self._status())

        def metrics() -> web.Response:
            return web.Response(body=self._metrics(), headers={"Content-Type": CONTENT_TYPE})

        app = web.Application()
        app.router.add_get("/v1/status", answering(status))
        app.router.add_get("/metrics", answering(metrics))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        mask = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
        except OSError as error:  # bind(2) names nothing
            raise OSError(error.errno, error.strerror or str(error), str(self._path)) from error
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """Stop answering."""
        if self._runner:
            await self._runner.cleanup()
            with contextlib.suppress(OSError):  # its directory can no longer be written
                self._path.unlink()
        self._drop_locks()

    def _take_locks(self) -> None:
        """Be the only one, also where another has begun while /run could be written, or could not.

        A lock goes with the process, however it ends; the socket file stays behind a crash.
        """
        # Who only reads it keeps nobody from making the file system read-only.
        file, flags = self._path.with_suffix(".lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        self._locks.append(os.open(file, flags | os.O_CREAT, 0o600))
        for other in _places():
            if other != file.parent:
                with contextlib.suppress(OSError):  # nobody was ever there
                    self._locks.append(os.open(other / file.name, flags))
        try:
            for lock in self._locks:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._drop_locks()
            raise AlreadyRunningError(
                f"another Relink runs for instance {file.stem!r}; stop it, or give --instance"
            ) from None

    def _drop_locks(self) -> None:
        while self._locks:
            os.close(self._locks.pop())


def ask(instance: str) -> dict[str, Any] | None:
    """Ask a running sidecar for its status; None if there is none.

    Raises:
        OSError: there is one, and it does not answer within five seconds.
    """
    answer = fetch(instance, "/v1/status")
    if answer is None:
        return None
    try:
        status: dict[str, Any] = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise OSError(f"the sidecar's answer is no answer: {error}") from error
    return status


def fetch(instance: str, path: str) -> bytes | None:
    """Return what a running sidecar answers for a path; None if there is none.

    Raises:
        OSError: there is one, and it does not answer within five seconds.
    """
    first, *others = _places()
    sock = _connection(first / f"{instance}.sock")
    for other in others if sock is None else ():
        with contextlib.suppress(PermissionError):  # of root's, who else may run one
            sock = sock or _connection(other / f"{instance}.sock")
    if sock is None:
        return None
    connection = http.client.HTTPConnection("relink", timeout=5)
    connection.sock = sock
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise OSError(f"the sidecar answers {answer.status} for {path}")
        return answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"the sidecar's answer is no answer: {error}") from error
    finally:
        connection.close()


def _connection(path: Path) -> socket.socket | None:
    """Connect to whoever answers there; None if nobody does.

    Raises:
        OSError: somebody may be there, and does not answer, or not to us.
    """
    if not path.exists():  # a path may be too long for a socket, too
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(5)
    try:
        sock.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        sock.close()
        return None
    except OSError:
        sock.close()
        raise
    return sock
