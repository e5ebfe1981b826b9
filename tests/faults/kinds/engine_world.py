"""What faults of an engine have in common: they wait for what it does, and for its containers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from tests.faults import invariants
from tests.faults.docker import Docker
from tests.faults.engines import INSTANCE, PLANE
from tests.faults.kinds.fault import until
from tests.faults.world import World

LONG = 30.0  # seconds for an engine to do what it is told
_OLD = timedelta(seconds=12)


def docker_of(world: World) -> Docker:
    """Return the engine of a world that has one."""
    assert isinstance(world.engine, Docker), "these faults are those of an engine"
    return world.engine


def any_of(world: World) -> str:
    """Return one of the containers that run."""
    return world.random.choice(world.containers)


def mended(world: World, when: str) -> None:
    """Wait until all is as declared, in the middle of a fault.

    Raises:
        AssertionError: it does not become so; with what differs.
    """
    end = time.monotonic() + world.seconds
    while wrong := invariants.differences(world, invariants.look(world)) or _not_ready(world):
        if time.monotonic() > end:
            raise AssertionError(f"not as declared {when}: {wrong}")
        world.wait(end)


def _not_ready(world: World) -> list[str]:
    """Return which links status does not call Ready, of containers that run."""
    links = (world.engine.status() or {"links": ()})["links"]
    ready = {link["key"] for link in links if link["state"] == "Ready"}
    wanted = {
        f"{name}:{link.inner}" for name in world.containers for link in world.declared.links(name)
    }
    return sorted(f"{key}: not Ready" for key in wanted - ready)


@contextmanager
def without(world: World, name: str) -> Iterator[None]:
    """Have a container for one that does not run; all that it had has to go."""
    world.containers.remove(name)
    try:
        yield
    finally:
        world.containers.append(name)


def is_old(world: World, name: str) -> bool:
    """Tell whether its engine would start a container again at once.

    It waits twice as long each time for one that has run for less than 10 s (moby,
    daemon/internal/restartmanager).
    """
    started = docker_of(world).state(INSTANCE if name == PLANE else name)["StartedAt"]
    began = datetime.fromisoformat(started[:19] + "+00:00")
    return datetime.now(UTC) - began > _OLD


def process_of(world: World, name: str) -> int:
    """Return the process of a container, as it was when first asked for."""
    return docker_of(world).process(name)


def run_again(world: World, *names: str) -> None:
    """Wait until an engine has started containers again by itself."""
    until(lambda: docker_of(world).restarted(names), f"{names} run again", LONG)
    for name in names:
        world.started_again(name)


def says_so(world: World) -> None:
    """See that status tells of an engine that is away."""
    until(lambda: is_away(world), "status says that the engine is away")


def is_away(world: World) -> bool:
    status = world.engine.status()
    return status is not None and status["engines"].get("docker") != "connected"
