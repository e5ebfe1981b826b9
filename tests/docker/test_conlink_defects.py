"""The known defects of conlink that only an engine shows; the others: tests/kernel.

The engine is podman, which answers Docker's API and starts faster. A restart of Docker (defect 2)
is in tests/observers/test_engine.py, beside the engine that is hurt there.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docker.test_podman import node, sidecar
from tests.lab import podman
from tests.lab.containers import in_network, interfaces

pytestmark = [pytest.mark.podman, pytest.mark.usefixtures("engine")]


@pytest.fixture(scope="package", autouse=True)
def lab() -> None:
    """These tests need no image of Docker's."""


@pytest.fixture
def engine() -> Iterator[None]:
    if why := podman.missing():
        pytest.skip(f"{why}; .ci/run runs it")
    with podman.service():
        yield


@pytest.mark.proves("defect 2")
def test_defect_02_events_are_heard_again_after_the_engine_restarted(tmp_path: Path) -> None:
    podman.start("server")
    with sidecar(tmp_path, "--runtime=podman") as running:
        running.until_said("All links connected")
        server = interfaces(podman.pid("server"))
        for number in (1, 2):  # deaf after neither
            podman.restart_service()
            running.until_said("engine_lost", number)
            podman.start(f"demo_node_{number}", labels=node(number))
            running.until_addressed(podman.pid(f"demo_node_{number}"), f"10.0.1.{number}/24")
        # Also of a container that was there before.
        podman.podman("restart", "--time=0", "demo_node_1")
        running.until_addressed(podman.pid("demo_node_1"), "10.0.1.1/24")
        assert interfaces(podman.pid("server")) == server, "what ran noticed nothing"


@pytest.mark.proves("defect 13")
def test_defect_13_containers_that_start_with_the_sidecar_are_wired_once(tmp_path: Path) -> None:
    """They are in its first list, in the stream of events, or in both."""
    podman.start("server")
    with ThreadPoolExecutor(4) as starting:
        started = [
            starting.submit(podman.start, f"demo_node_{n}", labels=node(n)) for n in range(1, 7)
        ]
        with sidecar(tmp_path, "--runtime=podman") as running:
            for each in started:
                each.result()
            pids = [podman.pid(f"demo_node_{n}") for n in range(1, 7)]
            for number, pid in enumerate(pids, 1):
                running.until_addressed(pid, f"10.0.1.{number}/24")
            running.until_said("All links connected")
            for pid in pids:
                in_network(pid, "ping", "-c1", "-w5", "10.0.1.100")
            log = running.log()
            for number in range(1, 7):
                made = f'"key": "node_{number}:eth0", "because"'
                assert sum(made in line and '"created"' in line for line in log.splitlines()) == 1
            assert "Traceback" not in log


@pytest.mark.proves("defect 14")
def test_defect_14_a_container_that_restarts_faster_than_it_is_noticed(tmp_path: Path) -> None:
    podman.start("demo_node_1", labels=node(1))
    podman.start("server")
    with sidecar(tmp_path, "--runtime=podman") as running:
        running.until_said("All links connected")
        server = interfaces(podman.pid("server"))
        for _ in range(5):  # nobody waits for the link between two of them
            podman.podman("restart", "--time=0", "demo_node_1")
        pid = podman.pid("demo_node_1")
        running.until_addressed(pid, "10.0.1.1/24")
        in_network(pid, "ping", "-c1", "-w5", "10.0.1.100")
        ends = [name for name in interfaces(running.process.pid) if name.startswith("node")]
        assert ends == ["node_1-eth0"], "one end, of this life"
        assert interfaces(podman.pid("server")) == server, "the neighbour noticed"
