"""Stands between the sidecar and a real engine, and spoils what passes, as it is told.

It listens where the sidecar looks for the engine. Every byte comes from the engine behind, but for
those that a fault puts in.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.faults.unix_http import Connection

Pieces = Iterable[bytes]
Way = Callable[[bytes], Pieces]  # one event, with its newline → the pieces that it arrives in


def whole(event: bytes) -> Pieces:
    """Let an event through."""
    return [event]


def old(event: bytes) -> Pieces:
    """Tell an event as engines did before API 1.22."""
    told = json.loads(event)
    actor = told.get("Actor", {})
    words = {
        "status": told.get("Action"), "id": actor.get("ID"),
        "from": actor.get("Attributes", {}).get("image"), "time": told.get("time"),
    }  # fmt: skip
    return [json.dumps(words).encode() + b"\n"]


def new(event: bytes) -> Pieces:
    """Tell an event without what it has for clients of before API 1.22."""
    told = json.loads(event)
    kept = {key: told[key] for key in ("Type", "Action", "Actor", "scope", "time") if key in told}
    return [json.dumps(kept).encode() + b"\n"]


def dribbled(event: bytes) -> Pieces:
    """Let an event through in small pieces, late."""
    time.sleep(0.2)
    size = max(1, len(event) // 20)
    for start in range(0, len(event), size):
        yield event[start : start + size]
        time.sleep(0.005)


@dataclass(slots=True)
class Spoilt:
    """What is to become of the next answers to requests for a path that contains `target`.

    Attributes:
        status: instead of the engine's; 0: the engine's answer, without its second half.
        times: how many are left.
    """

    target: str
    status: int
    times: int = 1


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(str(path), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients and engines go away as they like."""


@dataclass(slots=True)
class Proxy:
    """A socket at `path`, an engine behind it at `engine`.

    Attributes:
        way: how events pass.
        cut_at: the next event is the last of its stream, and as much of it arrives (a part of 1).
        passed: how many events have passed, by action and container.
        streams: the connections on which events pass now.
    """

    path: Path
    engine: Path
    way: Way = whole
    cut_at: float | None = None
    spoilt: list[Spoilt] = field(default_factory=list)
    passed: Counter[tuple[str, str]] = field(default_factory=Counter)
    streams: set[_Handler] = field(default_factory=set)
    connections: set[socket.socket] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _server: _Server | None = None

    def open(self) -> None:
        """Listen; the socket file is a new one."""
        self.path.unlink(missing_ok=True)
        self._server = _Server(self.path, self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop listening, as an engine that was killed: its connections end, the file stays."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.cut(self.connections)

    def cut(self, which: Iterable[socket.socket] | None = None) -> None:
        """End connections; those of events, if nothing else is said."""
        with self.lock:
            sockets = [handler.connection for handler in self.streams] if which is None else which
            for each in list(sockets):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def say(self, event: bytes) -> None:
        """Put an event into every stream."""
        with self.lock:
            streams = list(self.streams)
        for handler in streams:
            with contextlib.suppress(OSError):
                handler.piece(event)

    def judge(self, target: str) -> Spoilt | None:
        """Return what is to become of the answer to a request; it counts as done."""
        with self.lock:
            for each in self.spoilt:
                if each.times > 0 and each.target in target:
                    each.times -= 1
                    return each
        return None


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._writing = threading.Lock()
        with self.server.proxy.lock:
            self.server.proxy.connections.add(self.connection)

    def finish(self) -> None:
        with self.server.proxy.lock:
            self.server.proxy.connections.discard(self.connection)
        super().finish()

    def address_string(self) -> str:
        """Return who asks."""
        return "a client"

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Pass a request on, and its answer back."""
        spoilt = self.server.proxy.judge(self.path)
        if spoilt and spoilt.status:
            self._answer(spoilt.status, json.dumps({"message": "spoilt by a test"}).encode())
            return
        asked = Connection(self.server.proxy.engine, timeout=None)
        try:
            asked.request("GET", self.path, headers={"Host": "docker"})
            answer = asked.getresponse()
            if "/events" in self.path and answer.status == 200:
                self._stream(asked, answer)
            else:
                self._answer(answer.status, answer.read(), half=spoilt is not None)
        except (OSError, HTTPException):
            self.close_connection = True
        finally:
            asked.close()

    def _answer(self, status: int, body: bytes, *, half: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.close_connection |= half

    def _stream(self, asked: Connection, answer: Any) -> None:
        proxy = self.server.proxy
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with proxy.lock:
            proxy.streams.add(self)
        threading.Thread(target=self._gone, args=(asked,), daemon=True).start()
        try:
            while event := answer.readline():
                if (part := proxy.cut_at) is not None:
                    proxy.cut_at = None
                    self.piece(event[: int(len(event) * part)])
                    return
                for piece in proxy.way(event):
                    self.piece(piece)
                told = json.loads(event)
                proxy.passed[told["Action"], told["Actor"]["Attributes"].get("name", "")] += 1
        finally:
            with proxy.lock:
                proxy.streams.discard(self)
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _gone(self, asked: Connection) -> None:
        """Hang up on the engine when the client has hung up."""
        with contextlib.suppress(OSError):
            while self.connection.recv(4096):
                pass
        with contextlib.suppress(OSError, AttributeError):
            asked.sock.shutdown(socket.SHUT_RDWR)

    def piece(self, content: bytes) -> None:
        """Send some bytes of a stream."""
        if content:
            with self._writing:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
