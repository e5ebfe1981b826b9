"""HTTP over a Unix socket, as engines and sidecars speak it."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path


class Connection(http.client.HTTPConnection):
    """A connection to what listens on a Unix socket."""

    def __init__(self, path: Path, timeout: float | None = 5.0) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect.

        Raises:
            OSError: nobody listens there.
        """
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def get(path: Path, target: str, timeout: float = 5.0) -> bytes | None:
    """Return what is answered with status 200; None where there is no such answer."""
    connection = Connection(path, timeout)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if answer.status == http.client.OK else None
