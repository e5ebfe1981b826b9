"""What becomes of a Docker engine: it ends, starts again and hangs.

While an engine is away what runs goes on, and is put right; status says that the engine is away.
"""

from __future__ import annotations

import os
import signal
import time

from tests.faults.engines import PLANE
from tests.faults.kinds.drift import drift
from tests.faults.kinds.engine_containers import OF_CONTAINERS
from tests.faults.kinds.engine_sidecar import OF_SIDECAR
from tests.faults.kinds.engine_socket import OF_SOCKET
from tests.faults.kinds.engine_world import (
    LONG,
    any_of,
    docker_of,
    is_away,
    mended,
    process_of,
    run_again,
    says_so,
)
from tests.faults.kinds.fault import ALL, Fault, Touched, until
from tests.faults.world import OTHER, World


def _engine_killed(world: World) -> Touched:
    engine = docker_of(world)
    engine.proxy.close()
    engine.daemon.kill()
    says_so(world)
    touched = drift(world)
    mended(world, "while the engine is dead")
    engine.daemon.start()
    engine.proxy.open()
    return touched


def _engine_restarted(world: World) -> Touched:
    engine = docker_of(world)
    engine.daemon.stop(live_restore=True)
    engine.proxy.close()
    engine.proxy.path.unlink()
    says_so(world)
    touched = drift(world)
    mended(world, "while the engine is stopped")
    engine.daemon.start()
    engine.proxy.open()
    return touched


def _engine_restarted_with_containers(world: World) -> Touched:
    engine = docker_of(world)
    _know(world)
    engine.daemon.stop(live_restore=False)
    engine.proxy.close()
    engine.daemon.start()
    engine.proxy.open()  # the sidecar may have been earlier
    run_again(world, *world.containers, OTHER, PLANE)
    return ALL


def _engine_killed_with_containers(world: World) -> Touched:
    engine = docker_of(world)
    _know(world)
    engine.proxy.close()
    engine.daemon.kill()
    engine.daemon.start(live_restore=False)
    engine.proxy.open()
    run_again(world, *world.containers, OTHER, PLANE)
    engine.daemon.set(live_restore=True)
    return ALL


def _know(world: World) -> None:
    """Know every process, so that the next one is told apart."""
    for name in (PLANE, OTHER, *world.containers):
        process_of(world, name)


def _engine_hung(world: World) -> Touched:
    """A container ends meanwhile, and the engine, which holds its namespace, knows it later."""
    engine, name = docker_of(world), any_of(world)
    pid = process_of(world, name)
    engine.daemon.signal(signal.SIGSTOP)
    try:
        touched = drift(world)
        mended(world, "while the engine hangs")
        os.kill(pid, signal.SIGKILL)
        time.sleep(world.random.uniform(0, 1))  # so long it hangs
    finally:
        engine.daemon.signal(signal.SIGCONT)
    run_again(world, name)
    return touched | {name}


def _engine_hung_in_silence(world: World) -> Touched:
    """It is asked after 10 s whether it still answers, and has 10 s for that."""
    engine = docker_of(world)
    engine.daemon.signal(signal.SIGSTOP)
    try:
        until(lambda: is_away(world), "status says that the engine does not answer", LONG)
        touched = drift(world)
        mended(world, "while the engine hangs")
    finally:
        engine.daemon.signal(signal.SIGCONT)
    return touched


OF_ITSELF: dict[str, Fault] = {
    "engine killed, containers go on": _engine_killed,
    "engine restarted, containers go on": _engine_restarted,
    "engine restarted, and containers with it": _engine_restarted_with_containers,
    "engine killed, and containers with it": _engine_killed_with_containers,
    "engine hung": _engine_hung,
    "engine hung in silence": _engine_hung_in_silence,
}

ENGINE: dict[str, Fault] = {**OF_CONTAINERS, **OF_ITSELF, **OF_SOCKET, **OF_SIDECAR}

# Most of the time these cannot happen: a container has not run for long enough, or there are none
# to start or to stop.
SELDOM = (
    "container started",
    "container stopped",
    "several containers started at once",
    "several containers stopped at once",
    "container killed past its engine",
    "killed, and started by its engine",
    "back while its engine is away",
    "back while its engine lists nothing",
)
