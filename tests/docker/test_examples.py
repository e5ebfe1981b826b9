"""The examples do what their first comments promise, run as those comments say."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.lab.comments import Session, session
from tests.lab.compose import Compose
from tests.lab.containers import Container, Interface
from tests.lab.engine import docker
from tests.lab.waiting import until
from tools.site.comments import EXAMPLES, PROGRAMS

pytestmark = pytest.mark.docker


@contextlib.contextmanager
def example(
    file: str,
    directory: Path,
    project: str,
    programs: Sequence[str] = PROGRAMS,
    transcript: str = "",
    **variables: str,
) -> Iterator[tuple[Session, Compose]]:
    """Have somebody at an example, and the compose project that their commands make."""
    where = {"COMPOSE_PROJECT_NAME": project, **variables}
    with session(EXAMPLES / file, directory, where, programs, transcript) as typist:
        yield typist, Compose(directory / "examples" / file, project, variables)


def _example(name: str, file: str, transcript: str, **variables: str) -> object:
    return pytest.param(
        file, variables, transcript, marks=pytest.mark.proves(f"example {name}"), id=name
    )


@pytest.mark.parametrize(
    ("file", "variables", "transcript"),
    [
        _example(
            *("test3 compose", "test3-compose.yaml", "test3-compose"),
            NODE_NAME_1="relink-first",
            NODE_NAME_2="relink-second",
        ),
        _example("test4", "test4-multiple/modes/base/compose.yaml", "test4"),
        _example("test9 linux", "test9-compose.yaml", "test9", BRIDGE_MODE="linux"),
        *(
            _example(f"test9 {mode}", "test9-compose.yaml", "", BRIDGE_MODE=mode)
            for mode in ("ovs", "patch", "auto")
        ),
        _example("test10", "test10-compose.yaml", "test10"),
        _example("test11", "test11-compose.yaml", "test11"),
    ],
)
def test_an_example_does_what_its_comment_says(
    file: str, variables: dict[str, str], transcript: str, tmp_path: Path
) -> None:
    at_it = example(file, tmp_path, "relink-example", transcript=transcript, **variables)
    with at_it as (typist, _):
        typist.play()


@pytest.mark.proves("example test1")
def test_routed_pings_of_test1(tmp_path: Path) -> None:
    with example("test1-compose.yaml", tmp_path, "relink-test1", transcript="test1") as (
        typist,
        test1,
    ):
        typist.play(before=" restart ")
        hosts = {name: test1.container(name).interfaces() for name in ("h1", "h2", "h3")}
        typist.play()
        router = test1.container("r0")
        _await_addresses(router, "e1", ("10.1.0.1/24",), test1)
        _await_addresses(router, "e3", ("10.0.0.1/24",), test1)
        now = {name: test1.container(name).interfaces() for name in hosts}
        assert now == hosts, "the router's neighbours noticed its restart"


@pytest.mark.proves("example test2")
def test_live_scaling_of_test2(tmp_path: Path) -> None:
    with example("test2-compose.yaml", tmp_path, "relink-test2", transcript="test2") as (
        typist,
        test2,
    ):
        typist.play(before="--scale node=5")
        before = _all_interfaces(test2)
        assert len(before) == 4

        typist.play(before="--scale node=1")
        nodes = test2.ps("node")
        assert len(nodes) == 5
        for (_, number), node in nodes.items():
            _await_addresses(node, "eth0", (f"10.0.1.{number}/24",), test2)
        assert _node_ends(test2) == {f"node_{number}-eth0" for number in range(1, 6)}
        macs = [node.interfaces()["eth0"].mac for node in nodes.values()]
        assert len(set(macs)) == 5, macs
        _assert_untouched(before, test2)

        typist.play()
        until(
            lambda: _node_ends(test2) == {"node_1-eth0"},
            "exactly one outer end of node",
            explain=test2.log,
        )
        before = {key: found for key, found in before.items() if key != ("node", 2)}
        _assert_untouched(before, test2)


def test_an_orderly_stop_takes_every_link_away(tmp_path: Path) -> None:
    with example("test2-compose.yaml", tmp_path, "relink-test2") as (typist, test2):
        typist.play(before=" exec ")
        sidecar = test2.container("network")
        others = [node for key, node in test2.ps().items() if key[0] != "network"]
        assert all(node.interfaces() for node in others)
        assert sidecar.stop() == 0, sidecar.log()
        assert [node.interfaces() for node in others] == [{}] * len(others)
        docker("start", sidecar.id)
        test2.connected(times=2)
        test2.ping("node", "8.8.8.8", 2)


@pytest.mark.proves("example test3 docker")
def test_a_network_file_alone_with_docker(tmp_path: Path) -> None:
    file = EXAMPLES / "test3-network.yaml"
    with session(file, tmp_path, programs=["docker"], transcript="test3-docker") as typist:
        typist.play()


@pytest.mark.proves("example test3 podman")
def test_a_network_file_alone_with_podman(tmp_path: Path, podman: dict[str, str]) -> None:
    file = EXAMPLES / "test3-network.yaml"
    programs = ["podman"]
    with session(file, tmp_path, podman, programs, transcript="test3-podman") as typist:
        typist.play()


@pytest.mark.proves("example test5 vxlan")
def test_two_hosts_on_one_switch_by_vxlan(tmp_path: Path) -> None:
    vxlan = {"TUNNEL_TYPE": "vxlan", "TUNNEL_PORT": "4789"}
    with session(EXAMPLES / "test5-geneve-compose.yaml", tmp_path, vxlan) as typist:
        typist.play()


@pytest.mark.needs("geneve")
@pytest.mark.proves("example test5 geneve")
def test_two_hosts_on_one_switch_by_geneve(tmp_path: Path) -> None:
    with session(EXAMPLES / "test5-geneve-compose.yaml", tmp_path, transcript="test5") as typist:
        typist.play()


@pytest.mark.needs("netem")
@pytest.mark.proves("example test7")
def test_addresses_mtu_and_delay_of_test7(tmp_path: Path) -> None:
    with session(EXAMPLES / "test7-compose.yaml", tmp_path, transcript="test7") as typist:
        typist.play()
        delayed, direct = (
            typist.run(step.command).stdout for step in typist.steps if "ping -c3" in step.command
        )
        assert _shortest(delayed) >= 80, delayed
        assert _shortest(direct) < _shortest(delayed) / 2, f"{delayed}\n{direct}"


@pytest.mark.needs("dummy", "8021q", "macvlan")
@pytest.mark.proves("example test8")
def test_host_interfaces_of_test8(tmp_path: Path) -> None:
    with session(EXAMPLES / "test8-compose.yaml", tmp_path, transcript="test8") as typist:
        typist.play()


def _shortest(ping: str) -> float:
    """Return the shortest round trip that ping printed, in milliseconds."""
    return min(float(time) for time in re.findall(r"time=([0-9.]+) ms", ping))


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
