"""What becomes of a Docker engine, of what it says, and of its containers past it.

While an engine is away what runs goes on, and is put right; status says that the engine is away.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from tests.faults import invariants, kernel, proxy
from tests.faults.docker import ASIDE, Docker
from tests.faults.engines import INSTANCE, PLANE
from tests.faults.kinds.containers import MOST
from tests.faults.kinds.drift import drift
from tests.faults.kinds.fault import ALL, Fault, Touched, until
from tests.faults.proxy import Spoilt, Way
from tests.faults.topology import ROUTER, SERVER
from tests.faults.world import OTHER, World

_LONG = 30.0  # seconds for an engine to do what it is told
_OLD = timedelta(seconds=12)


def _docker(world: World) -> Docker:
    assert isinstance(world.engine, Docker), "these faults are those of an engine"
    return world.engine


def _any(world: World) -> str:
    return world.random.choice(world.containers)


def _mended(world: World, when: str) -> None:
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
def _without(world: World, name: str) -> Iterator[None]:
    """Have a container for one that does not run; all that it had has to go."""
    world.containers.remove(name)
    try:
        yield
    finally:
        world.containers.append(name)


# ------------------------------------------------------------------------------ containers


def _paused(world: World) -> Touched:
    """It has its links while nothing in it runs."""
    engine, name = _docker(world), _any(world)
    engine.client.pause(name)
    touched = drift(world)
    _mended(world, f"while {name} is paused")
    engine.client.unpause(name)
    return touched


def _killed(world: World) -> Touched:
    engine, name = _docker(world), _any(world)
    engine.client.kill(name)
    until(lambda: not engine.state(name)["Running"], f"{name} has ended", _LONG)
    with _without(world, name):
        _mended(world, f"after the end of {name}")
    engine.client.start(name)
    world.started_again(name)
    return {name}


def _killed_past_the_engine(world: World) -> Touched:
    """Its engine starts it again."""
    names = [name for name in world.containers if _is_old(world, name)]
    if not names:
        return None
    name = world.random.choice(names)
    os.kill(_pid(world, name), signal.SIGKILL)
    _run_again(world, name)
    return {name}


def _is_old(world: World, name: str) -> bool:
    """Tell whether its engine would start a container again at once.

    It waits twice as long each time for one that has run for less than 10 s (moby,
    daemon/internal/restartmanager).
    """
    started = _docker(world).state(INSTANCE if name == PLANE else name)["StartedAt"]
    began = datetime.fromisoformat(started[:19] + "+00:00")
    return datetime.now(UTC) - began > _OLD


def _pid(world: World, name: str) -> int:
    return _docker(world).process(name)


def _run_again(world: World, *names: str) -> None:
    """Wait until an engine has started containers again by itself."""
    until(lambda: _docker(world).restarted(names), f"{names} run again", _LONG)
    for name in names:
        world.started_again(name)


def _recreated(world: World) -> Touched:
    name = _any(world)
    world.stop(name)
    world.start(name)
    return {name}


def _renamed(world: World) -> Touched:
    """What is declared for a name goes with the name."""
    engine, name = _docker(world), world.random.choice([SERVER, ROUTER])
    engine.client.rename(name, "renamed")
    inner = {link.inner for link in world.declared.links(name)}
    with _without(world, name):
        _mended(world, f"while {name} has another name")
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
        list(pool.map(_docker(world).start, names))
    for name in names:
        world.containers.append(name)
        world.started_again(name)
    return set(names)


def _several_down(world: World) -> Touched:
    names = [name for name in world.nodes() if name != "node_1"]
    if len(names) < 2:
        return None
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(_docker(world).stop, names))
    for name in names:
        world.containers.remove(name)
    return set(names)


def _network_of_the_engine(world: World) -> Touched:
    """Somebody connects a container to a network of the engine's, or disconnects it."""
    engine = _docker(world)
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


# ----------------------------------------------------------------------- the engine itself


def _says_so(world: World) -> None:
    """See that status tells of an engine that is away."""
    until(lambda: _away(world), "status says that the engine is away")


def _away(world: World) -> bool:
    status = world.engine.status()
    return status is not None and status["engines"].get("docker") != "connected"


def _engine_killed(world: World) -> Touched:
    engine = _docker(world)
    engine.proxy.close()
    engine.daemon.kill()
    _says_so(world)
    touched = drift(world)
    _mended(world, "while the engine is dead")
    engine.daemon.start()
    engine.proxy.open()
    return touched


def _engine_restarted(world: World) -> Touched:
    engine = _docker(world)
    engine.daemon.stop(live_restore=True)
    engine.proxy.close()
    engine.proxy.path.unlink()
    _says_so(world)
    touched = drift(world)
    _mended(world, "while the engine is stopped")
    engine.daemon.start()
    engine.proxy.open()
    return touched


def _engine_restarted_with_containers(world: World) -> Touched:
    engine = _docker(world)
    _know(world)
    engine.daemon.stop(live_restore=False)
    engine.proxy.close()
    engine.daemon.start()
    engine.proxy.open()  # the sidecar may have been earlier
    _run_again(world, *world.containers, OTHER, PLANE)
    return ALL


def _engine_killed_with_containers(world: World) -> Touched:
    engine = _docker(world)
    _know(world)
    engine.proxy.close()
    engine.daemon.kill()
    engine.daemon.start(live_restore=False)
    engine.proxy.open()
    _run_again(world, *world.containers, OTHER, PLANE)
    engine.daemon.set(live_restore=True)
    return ALL


def _know(world: World) -> None:
    """Know every process, so that the next one is told apart."""
    for name in (PLANE, OTHER, *world.containers):
        _pid(world, name)


def _engine_hung(world: World) -> Touched:
    """A container ends meanwhile, and the engine, which holds its namespace, knows it later."""
    engine, name = _docker(world), _any(world)
    pid = _pid(world, name)
    engine.daemon.signal(signal.SIGSTOP)
    try:
        touched = drift(world)
        _mended(world, "while the engine hangs")
        os.kill(pid, signal.SIGKILL)
        time.sleep(world.random.uniform(0, 1))  # so long it hangs
    finally:
        engine.daemon.signal(signal.SIGCONT)
    _run_again(world, name)
    return touched | {name}


def _engine_hung_in_silence(world: World) -> Touched:
    """It is asked after 10 s whether it still answers, and has 10 s for that."""
    engine = _docker(world)
    engine.daemon.signal(signal.SIGSTOP)
    try:
        until(lambda: _away(world), "status says that the engine does not answer", _LONG)
        touched = drift(world)
        _mended(world, "while the engine hangs")
    finally:
        engine.daemon.signal(signal.SIGCONT)
    return touched


# ---------------------------------------------------------------------------- its socket


def _socket_replaced(world: World) -> Touched:
    """Connections to the one before go on, or do not."""
    engine, name = _docker(world), _any(world)
    engine.proxy.open()
    if world.random.random() < 0.5:
        engine.proxy.cut()
    world.restart(name)
    return {name}


def _socket_away(world: World) -> Touched:
    engine, name = _docker(world), _any(world)
    engine.proxy.close()
    if world.random.random() < 0.5:
        engine.proxy.path.unlink()
    _says_so(world)
    world.restart(name)
    with _without(world, name):
        touched = drift(world)
        _mended(world, "while the engine cannot be reached")
    engine.proxy.open()
    return touched | {name}


def _stream_cut(world: World) -> Touched:
    name = _any(world)
    _docker(world).proxy.cut()
    world.restart(name)
    return {name}


def _stream_cut_within_an_event(world: World) -> Touched:
    between, name = _docker(world).proxy, _any(world)
    between.cut_at = world.random.random()
    world.restart(name)
    until(lambda: between.cut_at is None, "an event is cut")
    return {name}


def _passing(way: Way) -> Fault:
    """Return a fault that lets the events of a container's restart pass in some way."""

    def fault(world: World) -> Touched:
        between, name = _docker(world).proxy, _any(world)
        until(lambda: bool(between.streams), "the sidecar listens")
        before = between.passed["start", name]
        between.way = way
        world.restart(name)
        until(lambda: between.passed["start", name] > before, f"events of {name} pass")
        between.way = proxy.whole
        return {name}

    return fault


def _said(*events: bytes, all_of_them: bool = False) -> Fault:
    """Return a fault that puts one of some events, or all, before those of a restart."""

    def fault(world: World) -> Touched:
        between, name = _docker(world).proxy, _any(world)
        until(lambda: bool(between.streams), "the sidecar listens")
        for event in events if all_of_them else [world.random.choice(events)]:
            between.say(event)
        world.restart(name)
        return {name}

    return fault


def _answered(status: int) -> Fault:
    """Return a fault that spoils an answer that is needed for a restart to be seen."""

    def fault(world: World) -> Touched:
        engine, name = _docker(world), _any(world)
        own = f"/containers/{engine.client.inspect_container(name)['Id']}/json"
        target = world.random.choice(["/events", "/containers/json", own])
        times = world.random.randint(1, 2)
        if status == 0 and target == "/events":
            target = own
        spoilt = Spoilt(target, status, times)
        engine.proxy.spoilt = [spoilt, Spoilt("/version", status)]
        if target != own:
            engine.proxy.cut()
        world.restart(name)
        until(lambda: spoilt.times < times, f"{target} is asked for")
        engine.proxy.spoilt = []
        if (status, target) == (404, own):  # the sidecar was told that it does not run
            engine.proxy.cut()
        return {name}

    return fault


def _event(**words: object) -> bytes:
    return json.dumps(words).encode() + b"\n"


_ID = "f" * 64
_MALFORMED = (
    b"{not json}\n", b"\n", b"\xff\xfe\x00\n", b"null\n", b"[1, 2]\n", b'"start"\n', b"1e999\n",
    b"[" * 100_000 + b"\n",
    _event(Type="container", Action="start", Actor=[1]),
    _event(Type="container", Action="start", Actor={"ID": {"a": 1}}),
    _event(Type="container", Action={"a": 1}, Actor={"ID": _ID}),
    _event(Type=["container"], Action="start", Actor={"ID": _ID}),
    _event(status=["start"], id=_ID),
    b'{"Type": "container", "Action": "start"',
)  # fmt: skip
_OVERSIZED = (
    _event(Type="container", Action="start", Actor={"ID": _ID, "Attributes": {"a": "x" * 2**21}}),
    _event(Type="container", Action="start", Actor={"ID": "f" * 2**21}),
    b"x" * 2**21 + b"\n",
)
_UNKNOWN = (
    _event(Type="container", Action="start", Actor={"ID": _ID}),
    _event(Type="container", Action="die", Actor={"ID": "../../version"}),
    _event(Type="container", Action="start", Actor={"ID": "%s{0}\n\0 ;reboot"}),
    _event(Type="container", Action="exec_start: sh -c x", Actor={"ID": _ID}),
    _event(Type="container", Action="abducted", Actor={"ID": _ID}),
    _event(Type="network", Action="connect", Actor={"ID": _ID}),
    _event(Type="saucer", Action="start", Actor={"ID": _ID}),
    _event(Type="container", Action="start"),
    _event(Action=None, Actor=None),
    _event(),
    _event(status="start", id=_ID, **{"from": "alpine"}),
)


# -------------------------------------------------------------------------------- Relink


def _killed_and_started_by_the_engine(world: World) -> Touched:
    if not _is_old(world, PLANE):
        return None
    os.kill(_pid(world, PLANE), signal.SIGKILL)
    _run_again(world, PLANE)
    return ALL if world.engine.plane_goes else set()


def _back_without_its_engine(world: World) -> Touched:
    """It waits for the engine, and touches nothing meanwhile."""
    if not _is_old(world, PLANE):
        return None
    engine = _docker(world)
    engine.proxy.close()
    before = engine.log().count(_WAITING)
    os.kill(_pid(world, PLANE), signal.SIGKILL)
    _run_again(world, PLANE)
    until(lambda: engine.log().count(_WAITING) > before, "it waits for the engine")
    engine.proxy.open()
    return ALL if world.engine.plane_goes else set()


def _back_without_a_list(world: World) -> Touched:
    """It hears of no container, and takes away nothing of any; what is no container's it keeps."""
    if not _is_old(world, PLANE):
        return None
    engine = _docker(world)
    engine.proxy.spoilt = [Spoilt("/containers/json", 500, sys.maxsize)]
    os.kill(_pid(world, PLANE), signal.SIGKILL)
    _run_again(world, PLANE)
    _says_so(world)
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


_WAITING = "reconcile: waiting: docker"

ENGINE: dict[str, Callable[[World], Touched]] = {
    "container paused and unpaused": _paused,
    "container killed and started": _killed,
    "container killed past its engine": _killed_past_the_engine,
    "container recreated": _recreated,
    "container renamed and back": _renamed,
    "several containers started at once": _several_up,
    "several containers stopped at once": _several_down,
    "connected to an engine's network, or disconnected": _network_of_the_engine,
    "engine killed, containers go on": _engine_killed,
    "engine restarted, containers go on": _engine_restarted,
    "engine restarted, and containers with it": _engine_restarted_with_containers,
    "engine killed, and containers with it": _engine_killed_with_containers,
    "engine hung": _engine_hung,
    "engine hung in silence": _engine_hung_in_silence,
    "engine's socket replaced": _socket_replaced,
    "engine's socket away": _socket_away,
    "event stream cut": _stream_cut,
    "event stream cut within an event": _stream_cut_within_an_event,
    "events late and in pieces": _passing(proxy.dribbled),
    "events in the old format": _passing(proxy.old),
    "events in the new format": _passing(proxy.new),
    "malformed event": _said(*_MALFORMED),
    "oversized event": _said(*_OVERSIZED),
    "unknown events": _said(*_UNKNOWN, all_of_them=True),
    "engine answers 500": _answered(500),
    "engine answers 404": _answered(404),
    "engine answers 409": _answered(409),
    "engine's answer without its end": _answered(0),
    "killed, and started by its engine": _killed_and_started_by_the_engine,
    "back while its engine is away": _back_without_its_engine,
    "back while its engine lists nothing": _back_without_a_list,
}

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
