"""Docker and podman, through the Docker SDK: their running containers and their events.

An engine says which containers run; it is never asked about networks, and never told anything.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from model.problems import printable
from model.replicas import (
    NUMBER_LABEL,
    PODMAN_PROJECT_LABEL,
    PROJECT_LABEL,
    SERVICE_LABEL,
    WORKDIR_LABEL,
    Container,
)
from observers.events import EventStream
from observers.runtimes import (
    LONGEST_DELAY,
    Changed,
    Connected,
    EngineUnavailableError,
    Lost,
    Ring,
    delays,
    when_set,
)

if TYPE_CHECKING:
    from docker import APIClient

Answer = TypeVar("Answer")

TIMEOUT = 10  # seconds an engine may stay silent before it owes us an answer no more
_INSPECTORS = 8  # inspects at a time; the SDK keeps at most 10 connections

# States in which a container has a process. Without them podman leaves paused ones out.
_RUNNING = ["running", "paused"]

# What reading an answer raises that is none: also JSON that is nested without end, or `Infinity`.
_NO_ANSWER = (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)

_LONGEST_REASON = 1000  # characters of an engine's own words
_GREATEST_PID = 1 << 22  # PID_MAX_LIMIT, linux/threads.h
_REPLICA = re.compile("[1-9][0-9]{0,8}", re.ASCII)  # what a compose may count to

# podman says these with status 500 when a container goes while it looks.
_VANISHED = ("no such container", "container has already been removed")


@dataclass(frozen=True, slots=True)
class _Known:
    """A container as inspected, and the start of its process: the proof that it still holds."""

    container: Container
    started: str


class Engine:
    """One engine behind one Unix socket; connections are opened at need and kept."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = self._path = path
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._client: APIClient | None = None
        self._known: dict[str, _Known] = {}

    def list(self) -> list[Container]:
        """Return all running containers, ordered by name and id.

        Only those are inspected that were not seen before or whose process is another one now.

        Raises:
            EngineUnavailableError: the engine is absent, slow, or its answer makes no sense.
        """
        names = self._ask(_running)
        known = self._known
        fresh = {
            id_: seen
            for id_, name in names.items()
            if (seen := known.get(id_)) and seen.container.name == name and _holds(seen)
        }
        if missing := [id_ for id_ in names if id_ not in fresh]:
            found = [seen for seen in _each(self._inspect, missing) if seen]
            fresh |= {seen.container.id: seen for seen in found}
        self._known = fresh
        return sorted(
            (_resolved(seen.container, fresh) for seen in fresh.values()),
            key=lambda container: (container.name, container.id),
        )

    def find(self, id: str) -> Container | None:  # noqa: A002 (as in Runtime)
        """Return the running container with this id (or name, or start of an id), or None.

        Raises:
            EngineUnavailableError: the engine is absent, slow, or its answer makes no sense.
        """
        seen = self._inspect(id) if id else None
        # A new mapping each time, so that other threads may go on reading the one they have.
        known = {key: value for key, value in self._known.items() if key != id}
        if seen:
            known[seen.container.id] = seen
        self._known = known
        return _resolved(seen.container, known) if seen else None

    def ping(self) -> None:
        """Return once the engine says which version it is.

        Raises:
            EngineUnavailableError: the engine is absent, slow, or its answer makes no sense.
        """
        self._ask(lambda client: client.version(api_version=False))

    def watch(self, ring: Ring, stop: threading.Event) -> None:
        """Ring for events until `stop` is set; see `Runtime.watch`."""
        stream = EventStream(self._path, TIMEOUT)
        told = ""
        waits = delays()
        with when_set(stop, stream.interrupt):
            while not stop.is_set():
                began = time.monotonic()
                try:
                    stream.open()
                    told = ""
                    ring(Connected())
                    for id_ in stream.changes():
                        ring(Changed(id_))
                    reason = "the engine closed the event stream"
                except (OSError, HTTPException, ValueError) as error:
                    reason = _explain(error)
                finally:
                    stream.close()
                if stop.is_set():
                    return
                if reason != told:
                    ring(Lost(self._located(reason)))
                    told = reason
                if time.monotonic() - began > LONGEST_DELAY:  # it did work for a while
                    waits = delays()
                stop.wait(next(waits))

    def close(self) -> None:
        """Close the connections that are kept."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _inspect(self, id_: str) -> _Known | None:
        container = self._ask(lambda client: _inspected(client, id_, self.name))
        return _Known(container, _start_of(container.pid)) if container else None

    def _ask(self, question: Callable[[APIClient], Answer]) -> Answer:
        """Put a question; whatever keeps the answer away becomes EngineUnavailableError."""
        from docker.errors import DockerException  # noqa: PLC0415 (0.1 s: only when needed)
        from requests.exceptions import RequestException  # noqa: PLC0415
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        client = None
        try:
            self._knock()
            client = self._connected()
            return question(client)
        except (DockerException, RequestException, HTTPError, OSError) as error:
            self._forget(client)
            raise EngineUnavailableError(self._located(_explain(error))) from error
        except _NO_ANSWER as error:
            self._forget(client)
            reason = f"its answer is not that of an engine ({type(error).__name__}: {error})"
            raise EngineUnavailableError(self._located(reason)) from error
        finally:
            self._close_forgotten(client)

    def _knock(self) -> None:
        """Raise OSError when nobody listens: the SDK would then forget to close its socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.settimeout(TIMEOUT)
            door.connect(self._path)

    def _connected(self) -> APIClient:
        from docker import APIClient  # noqa: PLC0415 (0.1 s: only when needed)
        from docker.constants import MINIMUM_DOCKER_API_VERSION  # noqa: PLC0415

        with self._opening:  # a lock of its own: who closes must not wait for an answer
            if client := self._client:
                return client
            url = f"unix://{self._path}"
            # Asking for the version apart, because a client that fails to find it out by itself
            # leaves its connection open.
            asker = APIClient(url, version=MINIMUM_DOCKER_API_VERSION, timeout=TIMEOUT)
            try:
                version = str(asker.version(api_version=False)["ApiVersion"])
            finally:
                asker.close()
            client = APIClient(url, version=version, timeout=TIMEOUT)
            with self._lock:
                self._client = client
            return client

    def _forget(self, client: APIClient | None) -> None:
        """Ask no more of a client that failed: the next engine here may be another version."""
        with self._lock:
            if self._client is client:
                self._client = None

    def _close_forgotten(self, client: APIClient | None) -> None:
        """Close a client that this question, or another one meanwhile, gave up.

        Each that was put to it does: one that is closed opens connections anew when it is asked.
        And it is a part of what an error tells of where it came from, for as long as Python keeps
        that.
        """
        with self._lock:
            forgotten = self._client is not client
        if client is not None and forgotten:
            client.close()

    def _located(self, reason: str) -> str:
        return printable(f"{self.name} at {self._path}: {reason}"[:_LONGEST_REASON])


def _each(question: Callable[[str], _Known | None], ids: Sequence[str]) -> list[_Known | None]:
    """Put a question about each id, some at a time; raise what the first to fail raises.

    The threads of an executor would be waited for at the end of the process: as long as an engine
    hangs.
    """
    left: SimpleQueue[str] = SimpleQueue()
    answers: SimpleQueue[_Known | BaseException | None] = SimpleQueue()
    for id_ in ids:
        left.put(id_)

    def ask() -> None:
        with contextlib.suppress(Empty):
            while True:
                id_ = left.get_nowait()
                try:
                    answers.put(question(id_))
                except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                    answers.put(error)

    for number in range(min(_INSPECTORS, len(ids))):
        try:
            threading.Thread(target=ask, name="inspect", daemon=True).start()
        except RuntimeError as error:  # what Python makes of EAGAIN (3.11)
            if not number:
                raise EngineUnavailableError(f"nobody can ask: {error}") from error
            break  # fewer ask
    found: list[_Known | None] = []
    for _ in ids:
        answer = answers.get()
        if isinstance(answer, BaseException):
            with contextlib.suppress(Empty):
                while True:
                    left.get_nowait()
            raise answer
        found.append(answer)
    return found


def parse(info: Mapping[str, Any], runtime: str) -> Container | None:
    """Return the container that an engine's inspect describes, None when it is not running.

    Labels are whatever somebody wrote who may start containers: a number that is none is 1.

    Raises:
        KeyError, TypeError, AttributeError, ValueError, OverflowError: this is no such description.
    """
    state = info["State"]
    pid = int(state["Pid"])
    if not state["Running"] or pid <= 0:
        return None
    if pid > _GREATEST_PID:
        raise ValueError(f"a process of number {pid}")
    labels: dict[str, str] = {str(k): str(v) for k, v in (info["Config"]["Labels"] or {}).items()}
    return Container(
        id=str(info["Id"]),
        name=info["Name"].removeprefix("/"),
        runtime=runtime,
        netns=f"/proc/{pid}/ns/net",
        pid=pid,
        project=labels.get(PROJECT_LABEL) or labels.get(PODMAN_PROJECT_LABEL, ""),
        service=labels.get(SERVICE_LABEL, ""),
        number=int(labels[NUMBER_LABEL]) if _REPLICA.fullmatch(labels.get(NUMBER_LABEL, "")) else 1,
        workdir=labels.get(WORKDIR_LABEL, ""),
        shares=_shares(info["HostConfig"]["NetworkMode"]),
        labels=labels,
    )


def _shares(mode: str) -> str:
    """Return whose network a mode means: `host`, another container, `ns:<path>`, or none."""
    if mode == "host" or mode.startswith("ns:"):
        return mode
    return mode.partition(":")[2] if mode.startswith("container:") else ""


def _resolved(container: Container, known: Mapping[str, _Known]) -> Container:
    """Return the container with the name, where known, instead of the id that it shares."""
    other = known.get(container.shares)
    return replace(container, shares=other.container.name) if other else container


def _running(client: APIClient) -> dict[str, str]:
    """Return the names of the running containers by id."""
    names = {}
    for entry in client.containers(filters={"status": _RUNNING}):
        # `/web/db` is what container `web` calls a linked one.
        own = [name for name in entry["Names"] or [""] if "/" not in name[1:]]
        names[str(entry["Id"])] = own[0].removeprefix("/") if own else ""
    return names


def _inspected(client: APIClient, id_: str, runtime: str) -> Container | None:
    from docker.errors import APIError, NotFound  # noqa: PLC0415 (0.1 s: only when needed)

    try:
        return parse(client.inspect_container(id_), runtime)
    except NotFound:
        return None
    except APIError as error:
        if any(words in str(error.explanation).lower() for words in _VANISHED):
            return None
        raise


def _start_of(pid: int) -> str:
    """Return when the process started, in clock ticks after boot; empty when it can't be seen.

    Field 22 of /proc/<pid>/stat (proc(5)). The second field is a name that may hold anything.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _holds(seen: _Known) -> bool:
    """Tell whether the process that was inspected still runs, and so the container."""
    return seen.started != "" and seen.started == _start_of(seen.container.pid)


def _explain(error: BaseException) -> str:
    """Return what kept the answer away, and what to do about it."""
    for cause in _causes(error):
        match cause:
            case FileNotFoundError():
                return "no such socket; is the engine running, and its socket mounted here?"
            case PermissionError():
                return "the socket may not be opened; run as root or as a member of its group"
            case ConnectionRefusedError():
                return "nothing listens on the socket; is the engine running?"
            case TimeoutError() | BlockingIOError():
                return f"no answer within {TIMEOUT} s; is the engine overloaded or stopped?"
            case _:
                pass
    return f"no proper answer ({str(error) or type(error).__name__}); see the engine's log"


def _causes(error: BaseException) -> list[BaseException]:
    """Return the error and all that it was raised from or wraps, outermost first."""
    causes: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and cause not in causes:
            causes.append(cause)
            waiting += [cause.__cause__, cause.__context__, *cause.args]
    return causes
