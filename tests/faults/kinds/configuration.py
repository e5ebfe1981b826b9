"""What becomes of the network file."""

from __future__ import annotations

from dataclasses import replace

from tests.faults import foreign
from tests.faults.kinds.fault import Fault, Touched, until
from tests.faults.world import World

_BROKEN = (
    "links: [{container: server, brigde: lan}]\n",
    "links: [{",
    "\0",
    "links: {}\n",
    "",
    None,
)


def change(world: World) -> Touched:
    """Declare something else."""
    now = world.declared
    kinds = ["mtu", "third", "routed", "extra", *(["translates"] if foreign.TABLES else [])]
    kind = world.random.choice(kinds)
    if kind == "mtu":
        world.declare(replace(now, mtu=2900 - now.mtu))  # 1500 and 1400
    elif kind == "third":
        world.declare(replace(now, third=1 - now.third))
    elif kind == "routed":
        world.declare(replace(now, routed=not now.routed))
    elif kind == "translates":
        world.declare(replace(now, translates=not now.translates))
    else:
        world.declare(replace(now, extra=not now.extra))
        return {"server"}
    return set()  # in place: every interface stays


def _broken_file(world: World) -> Touched:
    """It is wrong, no YAML, empty, or gone, for a while."""
    good = world.file.read_text()
    broken = world.random.choice(_BROKEN)
    if broken is None:
        world.file.unlink()
    else:
        world.write(broken)
    until(
        lambda: bool((world.engine.status() or {}).get("configuration_errors")),
        "the file is refused",
    )
    world.write(good)
    until(
        lambda: (
            (world.engine.status() or {"configuration_errors": 1})["configuration_errors"] == []
        ),
        "the file is in force again",
    )
    return set()


def _touched_file(world: World) -> Touched:
    world.write(world.file.read_text())
    return set()


CONFIGURATION: dict[str, Fault] = {
    "file changed": change,
    "file broken and repaired": _broken_file,
    "file written again": _touched_file,
}
