"""Engines that hang, lie, break off or are not there: always a clear error, never a hang."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from observers.chosen import default_runtimes
from observers.engine import Engine
from observers.events import changed_id
from observers.plain import Plain
from observers.runtimes import (
    LONGEST_DELAY,
    Changed,
    Connected,
    Doorbell,
    EngineUnavailableError,
    Lost,
    delays,
)

Reply = Callable[[socket.socket], None]

VERSION = {"ApiVersion": "1.41"}
EVENTS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer(body: object, status: str = "200 OK") -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    return raw(head.encode() + data)


def raw(data: bytes) -> Reply:
    return lambda connection: connection.sendall(data)


def hang(connection: socket.socket) -> None:
    """Say nothing until the client gives up."""
    with contextlib.suppress(ConnectionError):
        connection.recv(1)


def half(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[{")
    hang(connection)


def quiet(connection: socket.socket) -> None:
    """Open an event stream on which nothing happens."""
    connection.sendall(EVENTS)
    hang(connection)


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(action: str, id_: str) -> bytes:
    return chunk(json.dumps({"Action": action, "Actor": {"ID": id_}}).encode() + b"\n")


class FakeEngine:
    """An HTTP server on a Unix socket that answers each path as it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.replies: dict[str, Reply] = {"/version": answer(VERSION)}
        self.asked: list[str] = []
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(16)
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = connection.recv(65536).decode()
            path = request.split(" ")[1].partition("?")[0] if request else ""
            path = path.removeprefix("/v1.41")
            self.asked.append(path)
            self.replies.get(path, answer({"message": "page not found"}, "404 Not Found"))(
                connection
            )

    def close(self) -> None:
        for sock in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    monkeypatch.setattr("observers.engine.TIMEOUT", 1)
    with contextlib.closing(FakeEngine(tmp_path / "e.sock")) as fake:
        yield fake


@contextlib.contextmanager
def watching(engine: Engine) -> Iterator[queue.Queue[Doorbell]]:
    rung: queue.Queue[Doorbell] = queue.Queue()
    stop = threading.Event()
    watcher = threading.Thread(target=engine.watch, args=(rung.put, stop))
    watcher.start()
    try:
        yield rung
    finally:
        stop.set()
        watcher.join(0.5)
    assert not watcher.is_alive(), "watch must return soon after stop"


ENTRY = {"Id": "a" * 64, "Names": ["/web"]}

BAD_LISTS: dict[str, Reply] = {
    "hangs": hang,
    "breaks off halfway": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[{"),
    "stops halfway": half,
    "closes at once": raw(b""),
    "speaks another protocol": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "is not JSON": answer(b"[{]"),
    "is not text": answer(b"\xff\xfe\x00"),
    "nests too deep": answer(b"[" * 100_000),
    "is not a list": answer({"a": 1}),
    "is null": answer(b"null"),
    "lists numbers": answer([1, 2]),
    "lists containers without id": answer([{"Names": ["/a"]}]),
    "fails": answer({"message": "out of memory"}, "500 Internal Server Error"),
    "is not there": answer({"message": "page not found"}, "404 Not Found"),
}


@pytest.mark.parametrize("reply", BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_bad_list_is_no_list(fake: FakeEngine, reply: Reply) -> None:
    fake.replies["/containers/json"] = reply
    with contextlib.closing(Engine("docker", fake.path)) as engine:
        began = time.monotonic()
        with pytest.raises(EngineUnavailableError) as caught:
            engine.list()
        assert time.monotonic() - began < 60, "it hung"
        assert str(caught.value).startswith(f"docker at {fake.path}: ")
        assert "\n" not in str(caught.value)

        fake.replies["/containers/json"] = answer([])
        assert engine.list() == [], "the engine has recovered"


@pytest.mark.parametrize("reply", BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_bad_version_is_no_engine(fake: FakeEngine, reply: Reply) -> None:
    fake.replies["/version"] = reply
    with (
        contextlib.closing(Engine("podman", fake.path)) as engine,
        pytest.raises(EngineUnavailableError, match=f"podman at {fake.path}: "),
    ):
        engine.list()


def test_an_engine_that_hangs_later_answers_no_ping(fake: FakeEngine) -> None:
    good = fake.replies["/version"]
    with contextlib.closing(Engine("docker", fake.path)) as engine:
        engine.ping()
        fake.replies["/version"] = hang
        with pytest.raises(
            EngineUnavailableError, match=f"docker at {fake.path}: no answer within"
        ):
            engine.ping()
        fake.replies["/version"] = good
        engine.ping()


BAD_INSPECTS = {name: reply for name, reply in BAD_LISTS.items() if name != "is not there"} | {
    "has no state": answer({"Id": "a" * 64}),
    "has a strange state": answer({"Id": "a" * 64, "State": {"Running": True, "Pid": "x"}}),
}


@pytest.mark.parametrize("reply", BAD_INSPECTS.values(), ids=BAD_INSPECTS)
def test_one_bad_inspect_makes_the_list_incomplete(fake: FakeEngine, reply: Reply) -> None:
    fake.replies["/containers/json"] = answer([ENTRY])
    fake.replies[f"/containers/{'a' * 64}/json"] = reply
    with contextlib.closing(Engine("docker", fake.path)) as engine:
        with pytest.raises(EngineUnavailableError):
            engine.list()
        with pytest.raises(EngineUnavailableError):
            engine.find("a" * 64)


@pytest.mark.parametrize(
    "reply",
    [
        answer({"message": "No such container: aaa"}, "404 Not Found"),
        answer({"message": "aaa: no such container"}, "500 Internal Server Error"),
        answer({"Id": "a" * 64, "State": {"Running": False, "Pid": 0}}),
        answer({"Id": "a" * 64, "State": {"Running": True, "Pid": 0}}),
    ],
    ids=["not found", "podman's 500", "stopped", "without a process"],
)
def test_a_container_that_vanishes_between_list_and_inspect_is_left_out(
    fake: FakeEngine, reply: Reply
) -> None:
    fake.replies["/containers/json"] = answer([ENTRY])
    fake.replies[f"/containers/{'a' * 64}/json"] = reply
    with contextlib.closing(Engine("docker", fake.path)) as engine:
        assert engine.list() == []
        assert engine.find("a" * 64) is None


def test_an_absent_engine_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    engine = Engine("docker", str(path))
    with pytest.raises(EngineUnavailableError) as caught:
        engine.list()
    assert str(caught.value) == (
        f"docker at {path}: no such socket; is the engine running, and its socket mounted here?"
    )
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(path))
        with pytest.raises(EngineUnavailableError, match="nothing listens on the socket"):
            engine.list()


def test_an_engine_that_appears_later_is_found(tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    with watching(Engine("docker", str(path))) as bells:
        lost = bells.get(timeout=5)
        assert isinstance(lost, Lost)
        assert str(path) in lost.reason
        with contextlib.closing(FakeEngine(path)) as fake:
            fake.replies["/events"] = quiet
            assert bells.get(timeout=5) == Connected(), "and Lost rings once, not at each attempt"


BAD_STREAMS = {
    "hangs before the headers": hang,
    "fails": answer({"message": "no"}, "500 Internal Server Error"),
    "speaks another protocol": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
}


@pytest.mark.parametrize("reply", BAD_STREAMS.values(), ids=BAD_STREAMS)
def test_a_stream_that_never_opens_is_lost_and_retried(fake: FakeEngine, reply: Reply) -> None:
    fake.replies["/events"] = reply
    with watching(Engine("docker", fake.path)) as bells:
        assert isinstance(bells.get(timeout=5), Lost)
        fake.replies["/events"] = raw(EVENTS + event("start", "x"))
        assert bells.get(timeout=5) == Connected()
        assert bells.get(timeout=5) == Changed("x")


BREAKS = {
    "is closed in order": b"0\r\n\r\n",
    "breaks off": b"",
    "breaks off in an event": b'20\r\n{"Action',
    "says no JSON": chunk(b"{]\n"),
    "says no event": chunk(b"[1]\n"),
    "nests too deep": chunk(b"[" * 100_000 + b"\n"),
    "says a strange action": chunk(b'{"Action":{"a":1},"Actor":{"ID":"x"}}\n'),
    "says a strange event": chunk(b'{"Action":"start","Actor":{"ID":7}}\n'),
    "says no chunk": b"zz\r\n",
}


@pytest.mark.parametrize("end", BREAKS.values(), ids=BREAKS)
def test_a_stream_that_ends_rings_lost_then_connected(fake: FakeEngine, end: bytes) -> None:
    fake.replies["/events"] = raw(EVENTS + event("start", "x") + end)
    with watching(Engine("docker", fake.path)) as bells:
        for _ in range(2):
            assert bells.get(timeout=5) == Connected()
            assert bells.get(timeout=5) == Changed("x")
            lost = bells.get(timeout=5)
            assert isinstance(lost, Lost)
            assert lost.reason.startswith(f"docker at {fake.path}: ")


@pytest.mark.parametrize("reply", [hang, raw(b""), half], ids=["silent", "closing", "half"])
def test_stop_ends_the_watch_whatever_the_engine_does(fake: FakeEngine, reply: Reply) -> None:
    asked = threading.Event()

    def reply_once_asked(connection: socket.socket) -> None:
        asked.set()
        reply(connection)

    fake.replies["/events"] = reply_once_asked
    with watching(Engine("docker", fake.path)):
        assert asked.wait(5)


def test_attempts_to_reconnect_become_rare() -> None:
    waits = delays()
    first = [next(waits) for _ in range(8)]
    for index, wait in enumerate(first):
        bound = min(0.1 * 2**index, LONGEST_DELAY)
        assert bound / 2 <= wait <= bound


EVENTS_SEEN = {
    "docker": ({"Type": "container", "Action": "start", "Actor": {"ID": "x"}}, "x"),
    "docker before 1.22": ({"status": "die", "id": "x", "from": "i"}, "x"),
    "podman": ({"status": "died", "id": "x", "Type": "container", "Action": "died"}, "x"),
    "rename": ({"Action": "rename", "Actor": {"ID": "x"}}, "x"),
    "exec": ({"Action": "exec_create: sh", "Actor": {"ID": "x"}}, None),
    "health": ({"Action": "health_status: healthy", "Actor": {"ID": "x"}}, None),
    "network": ({"Type": "network", "Action": "destroy", "Actor": {"ID": "x"}}, None),
    "no id": ({"Action": "start", "Actor": {}}, None),
    "empty": ({}, None),
}


@pytest.mark.parametrize(("said", "expected"), EVENTS_SEEN.values(), ids=EVENTS_SEEN)
def test_events_old_and_new(said: dict[str, object], expected: str | None) -> None:
    assert changed_id(said) == expected


def test_runtimes_are_those_that_exist_or_those_that_are_chosen(tmp_path: Path) -> None:
    docker, podman, netns = (str(tmp_path / name) for name in ("d.sock", "p.sock", "netns"))
    Path(podman).touch()

    def names(chosen: list[str] | None) -> list[str]:
        return [runtime.name for runtime in default_runtimes(docker, podman, netns, chosen)]

    assert names(None) == ["podman"]
    assert names(["docker"]) == ["docker"]
    assert names(["netns", "docker", "netns"]) == ["netns", "docker"]
    assert names([]) == []
    with pytest.raises(ValueError, match="'lxc': must be docker, podman or netns"):
        names(["lxc"])
    [plain] = default_runtimes(docker, podman, netns, ["netns"])
    assert isinstance(plain, Plain)
    assert plain.list() == []
