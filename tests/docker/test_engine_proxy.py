"""Which calls of the engine's API Relink makes: behind a proxy that lets only those pass, it works.

The proxy stands in front of the real engine's socket, writes down what is asked, and refuses what
docs/rights.md does not list.
"""

from __future__ import annotations

import json
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docker.test_capabilities import CONFINED, LEAST
from tests.lab.containers import Container
from tests.lab.engine import SOCKET, docker
from tests.lab.images import ALPINE, RELINK, SOURCE
from tests.lab.waiting import until

pytestmark = pytest.mark.docker

PAGE = SOURCE / "docs" / "rights.md"
NODE, SIDECAR = "relink-proxy-node", "relink-proxy"
ID = "[0-9a-f]{64}"


def listed() -> dict[str, bool]:
    """Return the calls that the page lists, and whether each is for commands alone."""
    rows = re.findall(r"^\| `((?:GET|POST) /[^`]*)` \| (.*?) \|$", PAGE.read_text(), re.MULTILINE)
    return {call: "commands" in what for call, what in rows}


class Proxy(socketserver.ThreadingUnixStreamServer):
    """Lets some calls to the engine pass, one on a connection, and refuses all others."""

    daemon_threads = True

    def __init__(self, path: Path, allowed: set[str]) -> None:
        super().__init__(str(path), _Connection)
        self.allowed = allowed
        self.passed: set[str] = set()
        self.refused: set[str] = set()


class _Connection(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        head = b""
        while (line := self.rfile.readline()).strip():
            head += line
        if not head:  # somebody looked whether anyone listens
            return
        first, _, headers = head.partition(b"\r\n")
        method, path, _version = first.decode().split()
        plain = re.sub(r"^/v[0-9.]+", "", path.partition("?")[0])
        call = f"{method} {re.sub(ID, 'ID', plain)}"
        if call not in self.server.allowed:
            self.server.refused.add(call)
            said = json.dumps({"message": f"the proxy lets no {call} pass"}).encode()
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n")
            self.wfile.write(f"Content-Length: {len(said)}\r\n\r\n".encode() + said)
            return
        self.server.passed.add(call)
        length = re.search(rb"content-length: *([0-9]+)", headers, re.IGNORECASE)
        body = self.rfile.read(int(length[1])) if length else b""
        kept = re.sub(rb"connection:.*\r\n", b"", headers, flags=re.IGNORECASE)
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(str(SOCKET))
            engine.sendall(first + b"\r\n" + kept + b"Connection: close\r\n\r\n" + body)
            while data := engine.recv(65536):
                self.wfile.write(data)


@contextmanager
def proxied(path: Path, allowed: set[str]) -> Iterator[Proxy]:
    with Proxy(path, allowed) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            serving.join()


@contextmanager
def sidecar(directory: Path, file: Path, *rights: str) -> Iterator[Container]:
    """Have a sidecar that knows of no socket but the proxy's."""
    confined = [word for word in CONFINED if "docker.sock" not in word]
    words = ["run", "--detach", f"--name={SIDECAR}", *confined,
             *(f"--cap-add={each}" for each in rights), f"--volume={directory}:/lab",
             RELINK, "reconcile", "--docker-socket=/lab/engine.sock", "--instance=proxied",
             f"--network-file=/lab/{file.name}", "--interval=3600"]  # fmt: skip
    try:
        yield Container(docker(*words))
    finally:
        docker("rm", "--force", SIDECAR)


@pytest.mark.parametrize("commands", [True, False], ids=["with commands", "read only"])
def test_relink_works_behind_a_proxy_that_lets_only_the_listed_calls_pass(
    tmp_path: Path, *, commands: bool
) -> None:
    """Read only, no command runs, which is told, and all else is as it is."""
    docker("run", "--detach", "--network=none", f"--name={NODE}", ALPINE, "sleep", "864000")
    wanted = {"links": [{"container": NODE, "bridge": "s1", "ip": "10.0.1.1/24"}],
              "commands": [{"container": NODE, "command": ["echo", "it ran"]}]}  # fmt: skip
    file = tmp_path / "net.yaml"
    file.write_text(json.dumps(wanted))
    allowed = {call for call, for_commands in listed().items() if commands or not for_commands}
    told = "it ran" if commands else "the proxy lets no POST /containers/ID/exec pass"
    try:
        with (
            proxied(tmp_path / "engine.sock", allowed) as proxy,
            sidecar(tmp_path, file, *LEAST) as relink,
        ):
            until(lambda: "All links connected" in relink.log(), "links", explain=relink.log)
            until(lambda: told in relink.log(), "the command, or why not", explain=relink.log)
            node = Container(NODE)
            node.restart()  # heard of by the event stream alone
            until(
                lambda: "10.0.1.1/24" in str(node.interfaces().get("eth0")),
                "the restarted container has its link again",
                explain=relink.log,
            )
            assert relink.exec("reconcile", "status", "--check").returncode == 0
            assert proxy.passed == allowed, "each of those that are listed is used"
            assert proxy.refused == (set() if commands else {"POST /containers/ID/exec"})
    finally:
        docker("rm", "--force", NODE)
