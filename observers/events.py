"""The event stream of a container engine: which containers changed, never what happened to them.

Not through the SDK: its stream waits for the engine's first answer without a time limit, and
nothing can interrupt it then.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlencode

_LONGEST = 1 << 20  # bytes of one event; it carries all labels of its container

# Events after which a container may run with another process, under another name, or not at all:
# those of `docker events`, and podman's own words for some of them.
_ACTIONS = frozenset(
    "destroy die died remove rename restart restore start stop unpause".split()  # noqa: SIM905
)

# Seconds of the past that are asked for. podman says "connected" a moment before it listens.
_OVERLAP = 1


class EventStream:
    """The connection of one event stream at a time over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._answer: HTTPResponse | None = None
        self._interrupted = False

    def open(self) -> None:
        """Connect and wait until the engine says that events will follow.

        Raises:
            OSError, HTTPException: the engine is absent, slow, or does not speak of events.
        """
        query = {
            "filters": json.dumps({"type": ["container"]}),
            "since": str(int(time.time()) - _OVERLAP),
        }
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(self._timeout)
        self._socket.connect(self._path)
        # Only now: an interruption before it had nothing to shut down.
        if self._interrupted:
            raise InterruptedError("the event stream was interrupted")
        connection = HTTPConnection("localhost")
        connection.sock = self._socket
        connection.request("GET", f"/events?{urlencode(query)}")
        self._answer = connection.getresponse()
        if self._answer.status != 200:
            raise HTTPException(f"status {self._answer.status} for /events")
        self._socket.settimeout(None)

    def changes(self) -> Iterator[str]:
        """Yield the ids of containers that changed, until the engine closes the stream.

        Raises:
            OSError, HTTPException, ValueError: the stream broke or makes no sense.
        """
        while self._answer and (line := self._answer.readline(_LONGEST)):
            if id_ := changed_id(_parsed(line)):
                yield id_

    def interrupt(self) -> None:
        """Make the thread that opens or reads the stream return at once, and for good."""
        self._interrupted = True
        stream = self._socket
        if stream is not None:
            with contextlib.suppress(OSError):  # not connected, or closed by the reader
                stream.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; `open` may follow."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except RecursionError as error:
        raise ValueError("not an event: JSON nested without end") from error


def changed_id(event: dict[str, Any]) -> str | None:
    """Return the id of the container that an event changed, None when it changed none.

    Engines before API 1.22 say `status` and `id`, later ones `Action` and `Actor`; some say both.

    Raises:
        ValueError: this is no event.
    """
    try:
        actor = event.get("Actor") or {}
        id_ = actor.get("ID") or event.get("id") or ""
        action = event.get("Action") or event.get("status")
        about = event.get("Type") or "container"
        changed = action in _ACTIONS
    except (AttributeError, TypeError) as error:
        raise ValueError(f"not an event: {event!r:.80}") from error
    if not isinstance(id_, str):
        raise ValueError(f"not an event: {event!r:.80}")  # noqa: TRY004 (a malformed document)
    return id_ if id_ and about == "container" and changed else None
