"""Removing everything of one instance: the same pass, with nothing desired."""

from __future__ import annotations

from actuators import planes
from model.desired import Desired
from observers.namespaces import path_of
from reconciler.passes import Pass, World, run

NOTHING = Desired({}, {}, {}, ())


def tear_down(world: World, *, preview: bool = False) -> Pass:
    """Remove every link, bridge, address and route of the instance, and its pinned namespace.

    With `preview` nothing is removed; the plan says what would be.

    Raises:
        OSError: the data plane could not be opened or read, or its namespace not removed.
    """
    done = run(world, want=NOTHING, decide=None if preview else lambda plan, _desired: plan)
    if not preview and world.facts.plane.kind == "pinned":
        planes.delete(path_of(world.facts.plane))
    return done
