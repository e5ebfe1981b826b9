"""Removing everything of one instance: the same pass, with nothing desired."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from actuators import links, planes
from actuators.requests import Request
from actuators.transport import Answer, send
from model.desired import Desired
from model.keys import NsKey
from model.ownership import group_of
from observers.namespaces import path_of
from reconciler.passes import Pass, World, run

NOTHING = Desired({}, {}, {}, ())


def tear_down(world: World, *, preview: bool = False) -> Pass:
    """Remove every link, bridge, address and route of the instance, and its pinned namespace.

    With `preview` nothing is removed; the plan says what would be.

    Raises:
        OSError: the data plane could not be opened or read, or its namespace not removed.
    """
    plane = world.facts.plane
    everything = [links.delete_group(plane, group_of(world.facts.instance))]

    def at_once(
        requests: Sequence[Request], sockets: Mapping[NsKey, socket.socket]
    ) -> list[Answer]:
        """Send first what removes all our links of the plane: what removes each is quick then."""
        while everything and requests:
            send([everything.pop()], sockets)
        return send(requests, sockets)

    decide = None if preview else lambda plan, _desired: plan
    done = run(world, want=NOTHING, decide=decide, sender=at_once)
    if not preview and plane.kind == "pinned":
        planes.delete(path_of(plane))
    return done
