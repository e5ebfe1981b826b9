"""One sidecar for each container: whoever wires it has a socket of the instance's name in it.

Two sidecars of one name that have no directory in common would take each other's links for links of
a life before, and make them anew without end. The kernel gives a name in a container once (abstract
Unix sockets, unix(7)), and takes it back with the process that has it, however that ends.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterable

from actuators import readiness
from model.keys import NsKey

AGAIN = 10.0  # seconds until it is looked whether the other one is gone
_REASON = (
    "another Relink of the same name keeps the links of this container; stop it, or give one of "
    "them another --instance"
)


class Keepers:
    """The names that this process has in containers.

    `claim` is called by the thread of a pass, everything else by the event loop.
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._held: dict[NsKey, socket.socket] = {}
        self._stale: set[NsKey] = set()

    def begin(self) -> None:
        """Before a pass: what it will find counts from now on."""
        self._let_go(self._stale & self._held.keys())  # of a pass that came to nothing
        self._stale.clear()

    def claim(self, ns: NsKey) -> str:
        """In a container's namespace: say why it is not ours to wire, "" if it is."""
        if ns in self._held:
            return ""
        try:
            self._held[ns] = readiness.keep(self._instance)
        except OSError as error:
            # Without descriptors, say, nobody knows; and that is no reason to leave links undone.
            return _REASON if error.errno == errno.EADDRINUSE else ""
        return ""

    def settle(self, wanted: Collection[NsKey]) -> None:
        """After a pass: let go of what nothing is declared for, or was of a life that is over."""
        self._let_go([ns for ns in self._held if ns not in wanted or ns in self._stale])

    def forget(self, ns: NsKey) -> None:
        """A life of a container is over; what a pass that runs finds is of that life."""
        self._stale.add(ns)
        self._let_go([ns] if ns in self._held else [])

    def close(self) -> None:
        """Let go of everything."""
        self._let_go(list(self._held))

    def _let_go(self, those: Iterable[NsKey]) -> None:
        for ns in those:
            self._held.pop(ns).close()
