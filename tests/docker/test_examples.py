"""The examples do what their first comments promise, run as those comments say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.compose import CONNECTED, Compose, project
from tests.lab.containers import Container, Interface
from tests.lab.engine import docker
from tests.lab.waiting import until

pytestmark = pytest.mark.docker

EXAMPLES = Path(__file__).parents[2] / "examples"
NODE_NAMES = ("relink-first", "relink-second")


@pytest.fixture
def test1() -> Iterator[Compose]:
    with project(EXAMPLES / "test1-compose.yaml", "relink-test1") as made:
        made.up()
        made.connected()
        yield made


@pytest.fixture
def test2() -> Iterator[Compose]:
    with project(EXAMPLES / "test2-compose.yaml", "relink-test2") as made:
        made.up()
        made.connected()
        yield made


def promised(file: str) -> list[tuple[str, int, str]]:
    """Return (service, replica, address) of each ping in the first comment of an example."""
    comment = "".join(
        line
        for line in (EXAMPLES / file).read_text().splitlines(keepends=True)
        if line.startswith("#")
    )
    lines = re.findall(r"exec (?:--index (\d+) )?(\w+) ping -c1 (\S+)", comment)
    return [(service, int(index or 1), address) for index, service, address in lines]


def test_routed_pings_of_test1(test1: Compose) -> None:
    *pings, after_restart = promised("test1-compose.yaml")
    assert len(pings) == 3, pings
    for service, index, address in pings:
        test1.ping(service, address, index)

    hosts = {name: test1.container(name).interfaces() for name in ("h1", "h2", "h3")}
    router = test1.container("r0")
    router.restart()
    _await_addresses(router, "e1", ("10.1.0.1/24",), test1)
    _await_addresses(router, "e3", ("10.0.0.1/24",), test1)
    test1.ping(after_restart[0], after_restart[2])
    now = {name: test1.container(name).interfaces() for name in hosts}
    assert now == hosts, "the router's neighbours noticed its restart"


def test_live_scaling_of_test2(test2: Compose) -> None:
    first, second, third, last = promised("test2-compose.yaml")
    test2.ping(first[0], first[2], first[1])
    test2.ping(second[0], second[2], second[1])
    before = _all_interfaces(test2)

    test2.up(scale={"node": 5})
    nodes = test2.ps("node")
    assert len(nodes) == 5
    for (_, number), node in nodes.items():
        _await_addresses(node, "eth0", (f"10.0.1.{number}/24",), test2)
    test2.ping(third[0], third[2], third[1])
    assert _node_ends(test2) == {f"node_{number}-eth0" for number in range(1, 6)}
    macs = [node.interfaces()["eth0"].mac for node in nodes.values()]
    assert len(set(macs)) == 5, macs
    _assert_untouched(before, test2)

    test2.up(scale={"node": 1})
    until(
        lambda: _node_ends(test2) == {"node_1-eth0"},
        "exactly one outer end of node",
        explain=test2.log,
    )
    before = {key: found for key, found in before.items() if key != ("node", 2)}
    _assert_untouched(before, test2)
    test2.ping(last[0], last[2], last[1])


def test_an_orderly_stop_takes_every_link_away(test2: Compose) -> None:
    sidecar = test2.container("network")
    others = [node for key, node in test2.ps().items() if key[0] != "network"]
    assert all(node.interfaces() for node in others)
    assert sidecar.stop() == 0, sidecar.log()
    assert [node.interfaces() for node in others] == [{}] * len(others)
    docker("start", sidecar.id)
    test2.connected(times=2)
    test2.ping("node", "8.8.8.8", 2)


def test_a_network_file_alone_with_variables() -> None:
    """The `docker run` lines of test3-network.yaml, with other names."""
    first, second = NODE_NAMES
    environment = [f"-e=NODE_NAME_{n}={name}" for n, name in enumerate(NODE_NAMES, 1)]
    sidecar = "relink-network"
    names = (first, second, sidecar)
    _remove(names)
    try:
        for name in NODE_NAMES:
            docker(
                "run", f"--name={name}", "--rm", "-d", "--network=none", "alpine", "sleep", "864000"
            )
        docker(
            *("run", f"--name={sidecar}", "-d", "--pid=host", "--network=none"),
            *("--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--cap-add=NET_BROADCAST"),
            "--security-opt=apparmor:unconfined",
            *("-v=/var/run/docker.sock:/var/run/docker.sock", f"-v={EXAMPLES}:/test"),
            *environment,
            *shlex.split("relink reconcile --network-file /test/test3-network.yaml"),
        )
        network = Container(sidecar)
        until(lambda: CONNECTED in network.log(), CONNECTED, explain=network.log)
        done = Container(first).exec("ping", "-c1", "-w5", "10.0.1.2")
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{network.log()}"
    finally:
        _remove(names)


def test_a_network_file_with_variables_under_compose() -> None:
    names = {f"NODE_NAME_{n}": f"{name}-c" for n, name in enumerate(NODE_NAMES, 1)}
    with project(EXAMPLES / "test3-compose.yaml", "relink-test3", names) as compose:
        compose.up()
        compose.connected()
        ((service, _index, address),) = promised("test3-compose.yaml")
        compose.ping(service, address)


def _remove(names: tuple[str, ...]) -> None:
    """Remove those containers of these names that exist."""
    for name in set(docker("ps", "--all", "--format={{.Names}}").splitlines()) & set(names):
        docker("rm", "--force", name)


def _await_addresses(
    container: Container, dev: str, addresses: tuple[str, ...], compose: Compose
) -> None:
    nothing = Interface(0, "", 0, "", ())
    until(
        lambda: container.interfaces().get(dev, nothing).addresses == addresses,
        f"{addresses} on {dev} of {container.id[:12]}",
        explain=compose.log,
    )


def _all_interfaces(compose: Compose) -> dict[tuple[str, int], dict[str, Interface]]:
    """Return the interfaces of every container but the sidecar."""
    return {key: one.interfaces() for key, one in compose.ps().items() if key[0] != "network"}


def _assert_untouched(
    before: dict[tuple[str, int], dict[str, Interface]], compose: Compose
) -> None:
    """Compare interface by interface; ifindex included, so that a twin is not taken for it."""
    now = _all_interfaces(compose)
    assert {key: now.get(key) for key in before} == before


def _node_ends(compose: Compose) -> set[str]:
    found = compose.container("network").interfaces()
    return {name for name in found if name.startswith("node_")}
