"""What becomes of containers by their Docker engine, and past it."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from tests.faults import kernel
from tests.faults.docker import ASIDE
from tests.faults.kinds.containers import MOST
from tests.faults.kinds.drift import drift
from tests.faults.kinds.engine_world import (
    LONG,
    any_of,
    docker_of,
    is_old,
    mended,
    process_of,
    run_again,
    without,
)
from tests.faults.kinds.fault import Fault, Touched, until
from tests.faults.topology import ROUTER, SERVER
from tests.faults.world import World


def _paused(world: World) -> Touched:
    """It has its links while nothing in it runs."""
    engine, name = docker_of(world), any_of(world)
    engine.client.pause(name)
    touched = drift(world)
    mended(world, f"while {name} is paused")
    engine.client.unpause(name)
    return touched


def _killed(world: World) -> Touched:
    engine, name = docker_of(world), any_of(world)
    engine.client.kill(name)
    until(lambda: not engine.state(name)["Running"], f"{name} has ended", LONG)
    with without(world, name):
        mended(world, f"after the end of {name}")
    engine.client.start(name)
    world.started_again(name)
    return {name}


def _killed_past_the_engine(world: World) -> Touched:
    """Its engine starts it again."""
    names = [name for name in world.containers if is_old(world, name)]
    if not names:
        return None
    name = world.random.choice(names)
    os.kill(process_of(world, name), signal.SIGKILL)
    run_again(world, name)
    return {name}


def _recreated(world: World) -> Touched:
    name = any_of(world)
    world.stop(name)
    world.start(name)
    return {name}


def _renamed(world: World) -> Touched:
    """What is declared for a name goes with the name."""
    engine, name = docker_of(world), world.random.choice([SERVER, ROUTER])
    engine.client.rename(name, "renamed")
    inner = {link.inner for link in world.declared.links(name)}
    with without(world, name):
        mended(world, f"while {name} has another name")
        until(
            lambda: not inner & kernel.look(world.place(name)).links.keys(),
            f"{name} has no links under another name",
        )
    engine.client.rename("renamed", name)
    return {name}


def _several_up(world: World) -> Touched:
    have = len(world.nodes())
    names = [f"node_{n}" for n in range(have + 1, MOST + 1)]
    if len(names) < 2:
        return None
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(docker_of(world).start, names))
    for name in names:
        world.containers.append(name)
        world.started_again(name)
    return set(names)


def _several_down(world: World) -> Touched:
    names = [name for name in world.nodes() if name != "node_1"]
    if len(names) < 2:
        return None
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(docker_of(world).stop, names))
    for name in names:
        world.containers.remove(name)
    return set(names)


def _network_of_the_engine(world: World) -> Touched:
    """Somebody connects a container to a network of the engine's, or disconnects it."""
    engine = docker_of(world)
    if ROUTER in world.beside:
        engine.client.disconnect_container_from_network(ROUTER, ASIDE)
        world.forget_beside(ROUTER)
        return set()
    networks = engine.client.inspect_container(ROUTER)["NetworkSettings"]["Networks"]
    if "none" in networks:  # nothing else is possible with it
        engine.client.disconnect_container_from_network(ROUTER, "none")
    engine.client.connect_container_to_network(ROUTER, ASIDE)
    world.know_beside(ROUTER)
    return set()


OF_CONTAINERS: dict[str, Fault] = {
    "container paused and unpaused": _paused,
    "container killed and started": _killed,
    "container killed past its engine": _killed_past_the_engine,
    "container recreated": _recreated,
    "container renamed and back": _renamed,
    "several containers started at once": _several_up,
    "several containers stopped at once": _several_down,
    "connected to an engine's network, or disconnected": _network_of_the_engine,
}
