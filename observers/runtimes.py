"""What every source of containers offers: a list, one container, and doorbells when to look again.

Refuses to know how an engine is spoken to, and what its containers are for.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from model.replicas import Container

FIRST_DELAY = 0.1  # seconds before the first new attempt to reach an engine
LONGEST_DELAY = 5.0  # seconds between attempts, however long the engine stays away


class EngineUnavailableError(Exception):
    """The engine is absent, slow or restarting: nothing is known about its containers now.

    The message names the socket or directory and what to do about it.
    """


@dataclass(frozen=True, slots=True)
class Connected:
    """From now on every change rings; what happened before is unknown: list again."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Something happened to the container `id`: find it again to learn what it is now."""

    id: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Changes no longer ring, for this reason; new attempts are made until `Connected`."""

    reason: str


Doorbell = Connected | Changed | Lost
Ring = Callable[[Doorbell], None]


class Runtime(Protocol):
    """A source of running containers. All methods may be called from any thread."""

    @property
    def name(self) -> str:
        """`docker`, `podman` or `netns`."""

    def list(self) -> list[Container]:
        """Return all running containers, ordered by name and id; paused ones count as running.

        Raises:
            EngineUnavailableError: the list could not be read in full.
        """

    def find(self, id: str) -> Container | None:  # noqa: A002 (the engines' own word)
        """Return the container `id`, or None when it is not running now.

        Raises:
            EngineUnavailableError: the engine did not say.
        """

    def ping(self) -> None:
        """Return once the source answers.

        Raises:
            EngineUnavailableError: it does not.
        """

    def watch(self, ring: Ring, stop: threading.Event) -> None:
        """Ring the doorbells until `stop` is set, reconnecting for ever; blocks.

        `Lost` rings once per outage and reason, also when the very first attempt fails.
        """

    def close(self) -> None:
        """Release what is held open. A later call of another method opens it again."""


def delays() -> Iterator[float]:
    """Yield the seconds to wait before each new attempt: doubling, capped, with jitter.

    The jitter (down to half) keeps several observers of one engine from returning in step.
    """
    delay = FIRST_DELAY
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 (not a secret)
        delay = min(2 * delay, LONGEST_DELAY)


@contextlib.contextmanager
def when_set(stop: threading.Event, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` once, from another thread, if `stop` is set inside the `with` block.

    This is how a thread that blocks in the kernel hears of a `threading.Event`. `act` never runs
    after the block has ended, so it may use what the block holds open.
    """
    inside = threading.Lock()
    over = False

    def wait() -> None:
        stop.wait()
        with inside:
            if not over:
                act()

    threading.Thread(target=wait, name="stop-waiter", daemon=True).start()
    try:
        yield
    finally:
        with inside:
            over = True
