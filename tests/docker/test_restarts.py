"""The headline: a container that restarts has its link back, however often, and nothing leaks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.compose import Compose, project
from tests.lab.containers import Interface, connections, descriptors, interfaces, resident
from tests.lab.engine import docker
from tests.lab.waiting import until

pytestmark = pytest.mark.docker

FILE = Path(__file__).with_name("restarts-compose.yaml")
TIMES = 100
EARLY = 30  # restarts until caches are warm: from here on memory has no reason to grow
CONNECTIONS = 20  # to the engine, of which the SDK keeps 10, and pairs of the event loop
GROWTH = 2 * 2**20  # bytes in TIMES - EARLY restarts; a namespace or a table kept each time is more


@pytest.fixture
def compose() -> Iterator[Compose]:
    with project(FILE, "relink-restarts") as made:
        made.up()
        made.connected()
        yield made


@pytest.mark.proves("engine docker")
def test_a_hundred_restarts(compose: Compose) -> None:
    node, neighbour = compose.container("node"), compose.container("neighbour")
    sidecar = compose.container("network")
    process = sidecar.pid()
    wanted, beside = _settings(node.interfaces()), neighbour.interfaces()
    assert wanted["eth0"].addresses == ("10.0.1.1/24",)

    def measure() -> tuple[list[str], int]:
        # What the sidecar holds in the node while its link is as declared, it holds each time.
        until(
            lambda: "@relink/ready/" in node.in_network("cat", "/proc/net/unix"),
            "the node is told that its link is there",
            explain=sidecar.log,
        )
        # A pass may be under way: what it holds open is closed again when it ends.
        return min((held() for _ in range(20)), key=len), resident(process)

    def held() -> list[str]:
        # Two questions at a time make one more connection to the engine, which is kept: it may
        # be the first or the last restart that has them, so that these have a bound of their own.
        kept = connections(process)
        assert len(kept) <= CONNECTIONS, kept
        return [each for each in descriptors(process) if each not in kept]

    early: tuple[list[str], int] = ([], 0)
    for turn in range(1, TIMES + 1):
        node.restart()
        pid = node.pid()
        until(
            lambda pid=pid: _settings(interfaces(pid)) == wanted,  # type: ignore[misc]
            f"the link after restart {turn}",
            explain=sidecar.log,
        )
        if turn == EARLY:
            early = measure()
    late = measure()

    compose.ping("node", "10.0.1.2")
    until(  # a pass that is under way holds some
        lambda: len(held()) <= len(early[0]),
        "no more descriptors than before",
        explain=lambda: f"{early[0]}\n{held()}",
    )
    assert late[1] - early[1] < GROWTH, f"resident: {early[1]} bytes, then {late[1]}"
    assert neighbour.interfaces() == beside, "the neighbour noticed"
    outer = [name for name in sidecar.interfaces() if name.startswith("node")]
    assert outer == ["node_1-eth0"]
    assert sidecar.pid() == process, "the sidecar itself was restarted"


def test_two_containers_restarted_at_once_find_each_other(compose: Compose) -> None:
    docker("restart", "--time=0", *(compose.container(name).id for name in ("node", "neighbour")))
    compose.ping("node", "10.0.1.2", seconds=10)


def test_a_replaced_container_is_wired_like_the_one_before(compose: Compose) -> None:
    before = compose.container("node")
    wanted, beside = _settings(before.interfaces()), compose.container("neighbour").interfaces()
    docker("rm", "--force", before.id)
    compose.up("node")
    after = compose.container("node")
    assert after.id != before.id
    until(
        lambda: _settings(after.interfaces()) == wanted,
        "the same link in the new container",
        explain=compose.log,
    )
    assert compose.container("neighbour").interfaces() == beside


def _settings(found: dict[str, Interface]) -> dict[str, Interface]:
    """Return the interfaces without what a new one never shares with the old one: the ifindex."""
    return {
        name: Interface(0, one.mac, one.mtu, one.state, one.addresses)
        for name, one in found.items()
    }
