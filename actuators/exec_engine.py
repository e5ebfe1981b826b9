"""Running one command in a container through its engine's API (`docker exec`, `podman exec`).

Not through the SDK: it reads the stream past the buffer that the headers were read into, and so
loses what a quick command printed by then; nor can anything interrupt its wait.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote

from actuators.execution import FAILED, NOT_EXECUTABLE, NOT_FOUND, NotRunError, Take

_TIMEOUT = 10  # seconds an engine may take to answer
_FIRST_DELAY, _LONGEST_DELAY = 0.02, 5.0  # seconds between two questions after the exit code
_CHUNK = 65536  # bytes
# A frame of the multiplexed stream: 1 standard output, 2 standard error, 3 the engine's own words;
# three bytes of nothing; the number of bytes that follow (Docker Engine API, ContainerAttach).
_FRAME = struct.Struct(">BxxxI")
_STREAMS = {0: 1, 1: 1}  # all else is standard error

# What an engine, or the program that it starts containers with, says of a program it cannot start.
_REFUSALS = (
    ("executable file not found", NOT_FOUND),
    ("no such file or directory", NOT_FOUND),
    ("permission denied", NOT_EXECUTABLE),
    ("exec format error", NOT_EXECUTABLE),
)


class EngineExec:
    """One run of a command in a container of the engine behind a Unix socket."""

    def __init__(self, runtime: str, path: str, container: str, argv: tuple[str, ...]) -> None:
        self._runtime = runtime
        self._path = path
        self._container = container
        self._argv = argv
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._stop = threading.Event()

    def interrupt(self) -> None:
        """Make `run` return at once; the command goes on."""
        self._stop.set()
        with self._lock, contextlib.suppress(OSError):  # not connected, or closed by the engine
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)

    def run(self, take: Take) -> int | None:
        """Run the command and return its exit code, None if interrupted.

        An engine that goes away while it runs is asked for the exit code when it is back.

        Raises:
            NotRunError: the engine does not answer, or refuses, or no longer knows the command.
        """
        try:
            execution = self._created()
            self._started(execution, take)
        except (OSError, HTTPException, ValueError) as error:
            if self._stop.is_set():
                return None
            reason = f"no proper answer ({str(error) or type(error).__name__})"
            hint = "is the engine running?"
            raise NotRunError(
                FAILED, f"{self._runtime} at {self._path}: {reason}; {hint}"
            ) from error
        return self._code(execution)

    def _created(self) -> str:
        path = f"/containers/{quote(self._container, safe='')}/exec"
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": self._argv}
        return str(self._ask("POST", path, body).get("Id", ""))

    def _started(self, execution: str, take: Take) -> None:
        """Start the command and pass its output on until the stream ends, or breaks."""
        path = f"/exec/{quote(execution, safe='')}/start"
        with self._answer("POST", path, {"Tty": False}) as (answer, sock):
            sock.settimeout(None)
            with contextlib.suppress(OSError, HTTPException):  # its end is asked for all the same
                for stream, data in _frames(answer):
                    take(_STREAMS.get(stream, 2), data)

    def _code(self, execution: str) -> int | None:
        """Return the exit code as soon as the engine tells it, None if interrupted.

        A command may close its streams and go on for as long as it likes.
        """
        delay = _FIRST_DELAY
        while not self._stop.is_set():
            try:
                state = self._ask("GET", f"/exec/{quote(execution, safe='')}/json")
                if not state.get("Running") and isinstance(state.get("ExitCode"), int):
                    return int(state["ExitCode"]) & 0xFF
            except NotRunError as error:  # podman forgets what ran when the container stops
                raise NotRunError(FAILED, f"its exit code is not known; {error}") from error
            except (OSError, HTTPException, ValueError):
                pass  # the engine is away; it may know when it is back
            self._stop.wait(delay)
            delay = min(2 * delay, _LONGEST_DELAY)
        return None

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        with self._answer(method, path, body) as (answer, _sock):
            try:
                document = json.loads(answer.read())
            except RecursionError as error:
                raise ValueError("JSON nested without end") from error
        if not isinstance(document, dict):
            raise ValueError(f"not an answer: {document!r:.80}")  # noqa: TRY004 (a malformed document)
        return document

    @contextmanager
    def _answer(
        self, method: str, path: str, body: object
    ) -> Iterator[tuple[HTTPResponse, socket.socket]]:
        """Send a request on a connection of its own; yield the answer and that connection.

        Raises:
            NotRunError: the engine refused, with its own words.
            OSError, HTTPException: no answer.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_TIMEOUT)
            sock.connect(self._path)
            with self._lock:
                self._socket = sock
            try:
                if self._stop.is_set():  # an interruption before had nothing to shut down
                    raise InterruptedError("interrupted")
                connection = HTTPConnection("localhost")
                connection.sock = sock
                connection.request(
                    method, path, json.dumps(body), {"Content-Type": "application/json"}
                )
                with connection.getresponse() as answer:
                    if answer.status >= 300:
                        raise self._refused(answer)
                    yield answer, sock
            finally:
                with self._lock:
                    self._socket = None

    def _refused(self, answer: HTTPResponse) -> NotRunError:
        """Return the engine's refusal: `{"message": …}`, of Docker; podman adds a `cause`."""
        text = answer.read(_CHUNK).decode(errors="replace")
        with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
            text = str(json.loads(text)["message"])
        code = next((code for words, code in _REFUSALS if words in text.lower()), FAILED)
        return NotRunError(code, f"{self._runtime} refused: {text.strip()}")


def _frames(answer: HTTPResponse) -> Iterator[tuple[int, bytes]]:
    """Yield (stream, bytes) as they come, until the stream ends."""
    buffer = b""
    stream = left = 0
    while data := answer.read1(_CHUNK):
        buffer += data
        while buffer:
            if not left:
                if len(buffer) < _FRAME.size:
                    break
                stream, left = _FRAME.unpack_from(buffer)
                buffer = buffer[_FRAME.size :]
            piece, buffer = buffer[:left], buffer[left:]
            left -= len(piece)
            if piece:
                yield stream, piece
