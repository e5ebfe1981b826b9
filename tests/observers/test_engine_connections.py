"""An engine is asked over connections that are kept, and none stays that nobody uses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, ClassVar

import pytest

from observers.engine import Engine
from observers.runtimes import EngineUnavailableError
from tests.lab.waiting import until


class _Handler(BaseHTTPRequestHandler):
    """Answers whatever it is asked with a version; of a container it tells nothing."""

    protocol_version = "HTTP/1.1"
    open: ClassVar[set[object]] = set()

    def setup(self) -> None:
        super().setup()
        self.open.add(self)

    def finish(self) -> None:
        super().finish()
        self.open.discard(self)

    def do_GET(self) -> None:
        body = json.dumps({"ApiVersion": "1.41"}).encode()
        self.send_response(500 if "broken" in self.path else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return ""

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    path = str(tmp_path / "engine.sock")
    with _Server(path, _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Engine("docker", path)
        yield made
        made.close()
        server.shutdown()


def _connections(number: int) -> Callable[[], bool]:
    return lambda: len(_Handler.open) == number


def test_a_connection_is_kept_for_the_next_question(engine: Engine) -> None:
    for _ in range(3):
        engine.ping()
    until(_connections(1), "one connection", explain=lambda: f"{_Handler.open}")
    engine.close()
    until(_connections(0), "none", explain=lambda: f"{_Handler.open}")


def test_of_a_client_that_another_question_gave_up_no_connection_stays(engine: Engine) -> None:
    """Somebody keeps it, as an error does that tells where it came from."""
    kept = []

    def question(client: Any) -> None:
        kept.append(client)
        with pytest.raises(EngineUnavailableError):
            engine.find("broken")  # over the same one
        client.version(api_version=False)

    engine._ask(question)
    until(_connections(0), "none", explain=lambda: f"{_Handler.open}")
    engine.ping()
    until(_connections(1), "one connection", explain=lambda: f"{_Handler.open}")
