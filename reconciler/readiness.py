"""Which containers have been told that their links are as declared, and still are.

Everything else of a container is closed after each pass, so that nothing keeps the namespace of a
dead one alive. The word is a socket that has to stay open; hence it goes when the container's first
process does (pidfd), and does not wait for the engine to say so. Refuses to judge.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

import structlog

from actuators import readiness
from model.keys import NsKey

log = structlog.get_logger()


class Readiness:
    """The words that stand in containers, until they are withdrawn or this process ends.

    `prepare` is called by the thread of a pass, everything else by the event loop.
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._told: dict[NsKey, socket.socket] = {}
        self._prepared: dict[NsKey, socket.socket] = {}
        self._stale: set[NsKey] = set()
        self._all_stale = False

    def begin(self) -> None:
        """Before a pass: what it will find counts from now on."""
        self._stale.clear()
        self._all_stale = False

    def prepare(self, descriptors: Mapping[NsKey, int]) -> None:
        """In a pass: have ready what its verdict may want, in the very namespaces it looks at."""
        for ns, descriptor in descriptors.items():
            if ns not in self._told:
                with contextlib.suppress(OSError):  # it ended; or the next pass says what is short
                    self._prepared[ns] = readiness.prepare(descriptor)

    def settle(self, verdicts: Mapping[NsKey, bool]) -> None:
        """After a pass: tell each container whether its links are as declared."""
        for ns, ready in verdicts.items():
            if not ready:
                self.withdraw(ns)
            elif ns not in self._told and ns in self._prepared and not self._is_stale(ns):
                self._tell(ns)
        for sock in self._prepared.values():
            sock.close()
        self._prepared.clear()

    def told(self) -> frozenset[NsKey]:
        """Return who has been told that they are."""
        return frozenset(self._told)

    def withdraw(self, ns: NsKey) -> None:
        """A container's links are not as declared, or nobody knows."""
        if sock := self._told.pop(ns, None):
            sock.close()

    def forget(self, ns: NsKey) -> None:
        """A life of a container is over; what a pass that runs finds is of that life."""
        self._stale.add(ns)
        self.withdraw(ns)

    def close(self) -> None:
        """Withdraw everything, and what a pass that runs finds too."""
        self._all_stale = True
        for ns in self.told():
            self.withdraw(ns)

    def _is_stale(self, ns: NsKey) -> bool:
        return self._all_stale or ns in self._stale

    def _tell(self, ns: NsKey) -> None:
        try:
            readiness.announce(self._prepared[ns], self._instance)
        except OSError as error:
            log.warning("not_told", container=str(ns), reason=error.strerror)
            return
        self._told[ns] = self._prepared.pop(ns)
