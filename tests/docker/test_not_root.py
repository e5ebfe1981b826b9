"""A sidecar that is not root and has four capabilities: what works, and what says it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.compose import Compose, project
from tests.lab.engine import SOCKET
from tests.lab.waiting import until

pytestmark = pytest.mark.docker

FILE = Path(__file__).with_name("not-root-compose.yaml")
NOBODY = "65534"
# SYS_ADMIN 21, SYS_PTRACE 19, NET_ADMIN 12, NET_BROADCAST 11 (linux/capability.h)
FOUR = 1 << 21 | 1 << 19 | 1 << 12 | 1 << 11


@contextmanager
def sidecar(mode: str) -> Iterator[Compose]:
    variables = {"DOCKER_GROUP": str(SOCKET.stat().st_gid), "MODE": mode}
    with project(FILE, "relink-not-root", variables) as made:
        made.up()
        yield made


@pytest.mark.parametrize("mode", ["linux", "patch"])
def test_links_routes_nat_commands_and_repair_without_root(mode: str) -> None:
    with sidecar(mode) as compose:
        compose.connected()
        relink = compose.container("network")
        until(lambda: "command_ended" in compose.log(), "its command", explain=compose.log)
        status = Path(f"/proc/{relink.pid()}/status").read_text().splitlines()
        said = {name: value.split() for name, _, value in (line.partition(":") for line in status)}
        assert set(said["Uid"]) == {NOBODY}
        for which in ("CapEff", "CapPrm", "CapAmb", "CapBnd"):
            assert int(said[which][0], 16) == FOUR, which
        compose.ping("node", "10.0.1.2")
        compose.container("node").in_network("ip", "link", "delete", "eth0")
        until(
            lambda: "10.0.1.1/24" in str(compose.container("node").interfaces().get("eth0")),
            "the deleted link is there again",
            explain=compose.log,
        )
        until(lambda: relink.health() == "healthy", "it is healthy", explain=compose.log)
        assert relink.stop() == 0
        assert compose.container("node").interfaces() == {}


def test_open_vswitch_takes_root_and_says_so() -> None:
    with sidecar("ovs") as compose:
        until(
            lambda: "Open vSwitch: Permission denied" in compose.log(),
            "the reason in the log",
            explain=compose.log,
        )
        compose.ping("node", "10.0.1.2")  # the link on the kernel's bridge is there
