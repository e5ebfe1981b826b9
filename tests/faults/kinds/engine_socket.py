"""What becomes of the socket of a Docker engine, and of what it says there."""

from __future__ import annotations

import json

from tests.faults import proxy
from tests.faults.kinds.drift import drift
from tests.faults.kinds.engine_world import (
    any_of,
    docker_of,
    mended,
    says_so,
    without,
)
from tests.faults.kinds.fault import Fault, Touched, until
from tests.faults.proxy import Spoilt, Way
from tests.faults.world import World


def _socket_replaced(world: World) -> Touched:
    """Connections to the one before go on, or do not."""
    engine, name = docker_of(world), any_of(world)
    engine.proxy.open()
    if world.random.random() < 0.5:
        engine.proxy.cut()
    world.restart(name)
    return {name}


def _socket_away(world: World) -> Touched:
    engine, name = docker_of(world), any_of(world)
    engine.proxy.close()
    if world.random.random() < 0.5:
        engine.proxy.path.unlink()
    says_so(world)
    world.restart(name)
    with without(world, name):
        touched = drift(world)
        mended(world, "while the engine cannot be reached")
    engine.proxy.open()
    return touched | {name}


def _stream_cut(world: World) -> Touched:
    name = any_of(world)
    docker_of(world).proxy.cut()
    world.restart(name)
    return {name}


def _stream_cut_within_an_event(world: World) -> Touched:
    between, name = docker_of(world).proxy, any_of(world)
    between.cut_at = world.random.random()
    world.restart(name)
    until(lambda: between.cut_at is None, "an event is cut")
    return {name}


def _passing(way: Way) -> Fault:
    """Return a fault that lets the events of a container's restart pass in some way."""

    def fault(world: World) -> Touched:
        between, name = docker_of(world).proxy, any_of(world)
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
        between, name = docker_of(world).proxy, any_of(world)
        until(lambda: bool(between.streams), "the sidecar listens")
        for event in events if all_of_them else [world.random.choice(events)]:
            between.say(event)
        world.restart(name)
        return {name}

    return fault


def _answered(status: int) -> Fault:
    """Return a fault that spoils an answer that is needed for a restart to be seen."""

    def fault(world: World) -> Touched:
        engine, name = docker_of(world), any_of(world)
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


OF_SOCKET: dict[str, Fault] = {
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
}
