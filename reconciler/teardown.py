"""Removing everything of one instance: the same pass, with nothing desired."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from actuators import links, planes
from actuators.requests import Request
from actuators.transport import Answer, send
from model.keys import NsKey
from model.ownership import group_of
from model.wanted import Desired
from observers.namespaces import path_of
from reconciler.apply import Hands
from reconciler.passes import Pass, World, run
from reconciler.switches import Switches

NOTHING = Desired({}, {}, {}, ())


def tear_down(
    world: World,
    *,
    preview: bool = False,
    switches: Switches | None = None,
    forget: bool = False,
    visit: Callable[[NsKey], str] = lambda _ns: "",
) -> Pass:
    """Remove every link, bridge, address and route of the instance, and its pinned namespace.

    With `preview` nothing is removed; the plan says what would be. With `forget` the marks of
    commands that have run go too, so that they run again. `visit` as of a pass.

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
    done = run(
        world,
        want=replace(NOTHING, forgets_commands=forget),
        decide=decide,
        visit=visit,
        hands=Hands(send=at_once, switches=switches),
    )
    if not preview and plane.kind == "pinned":
        planes.delete(path_of(plane))
    return done
