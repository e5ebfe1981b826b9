"""What engines do with containers."""

from __future__ import annotations

from tests.faults.kinds.fault import ALL, Fault, Touched
from tests.faults.world import World

MOST = 6  # replicas


def scale_up(world: World) -> Touched:
    """Start one more replica."""
    number = len(world.nodes()) + 1
    if number > MOST:
        return None
    world.start(f"node_{number}")
    return {f"node_{number}"}


def scale_down(world: World) -> Touched:
    """Stop the last replica."""
    nodes = world.nodes()
    if len(nodes) < 2:
        return None
    last = max(nodes, key=lambda name: int(name.removeprefix("node_")))
    world.stop(last)
    return {last}


def restart(world: World) -> Touched:
    """Restart any container."""
    name = world.random.choice(world.containers)
    world.restart(name)
    return {name}


def _restart_three_times(world: World) -> Touched:
    """Faster than anybody looks."""
    name = world.random.choice(world.containers)
    world.restart(name, 3)
    return {name}


def _all_restart(world: World) -> Touched:
    for name in world.containers:
        world.restart(name)
    return ALL


SCALING: list[Fault] = [scale_up, scale_down, restart]

CONTAINERS: dict[str, Fault] = {
    "container started": scale_up,
    "container stopped": scale_down,
    "container restarted": restart,
    "container restarted three times at once": _restart_three_times,
    "all containers restarted": _all_restart,
}
