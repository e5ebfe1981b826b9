"""What becomes of a sidecar that comes back before its engine has told what runs."""

from __future__ import annotations

import os
import signal
import sys

from tests.faults import kernel
from tests.faults.engines import PLANE
from tests.faults.kinds.engine_world import (
    docker_of,
    is_old,
    process_of,
    run_again,
    says_so,
)
from tests.faults.kinds.fault import ALL, Fault, Touched, until
from tests.faults.proxy import Spoilt
from tests.faults.world import World

_WAITING = "reconcile: waiting: docker"


def _killed_and_started_by_the_engine(world: World) -> Touched:
    if not is_old(world, PLANE):
        return None
    os.kill(process_of(world, PLANE), signal.SIGKILL)
    run_again(world, PLANE)
    return ALL if world.engine.plane_goes else set()


def _back_without_its_engine(world: World) -> Touched:
    """It waits for the engine, and touches nothing meanwhile."""
    if not is_old(world, PLANE):
        return None
    engine = docker_of(world)
    engine.proxy.close()
    before = engine.log().count(_WAITING)
    os.kill(process_of(world, PLANE), signal.SIGKILL)
    run_again(world, PLANE)
    until(lambda: engine.log().count(_WAITING) > before, "it waits for the engine")
    engine.proxy.open()
    return ALL if world.engine.plane_goes else set()


def _back_without_a_list(world: World) -> Touched:
    """It hears of no container, and takes away nothing of any; what is no container's it keeps."""
    if not is_old(world, PLANE):
        return None
    engine = docker_of(world)
    engine.proxy.spoilt = [Spoilt("/containers/json", 500, sys.maxsize)]
    os.kill(process_of(world, PLANE), signal.SIGKILL)
    run_again(world, PLANE)
    says_so(world)
    touched = ALL
    if not world.engine.plane_goes:  # else nothing is there to be put right, nor rings
        kernel.ip(["link delete wan"], world.place())
        until(
            lambda: "wan" in kernel.look(world.place()).links,
            "a bridge is put right without a list of containers",
        )
        touched = {"wan"}  # its ports stay what they are
    engine.proxy.spoilt = []
    return touched


OF_SIDECAR: dict[str, Fault] = {
    "killed, and started by its engine": _killed_and_started_by_the_engine,
    "back while its engine is away": _back_without_its_engine,
    "back while its engine lists nothing": _back_without_a_list,
}
