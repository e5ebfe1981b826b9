"""The image: how it is started, and that its health check tells the truth."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.compose import Compose, project
from tests.lab.engine import docker
from tests.lab.images import RELINK, SOURCE
from tests.lab.waiting import until

pytestmark = pytest.mark.docker

FILE = Path(__file__).with_name("health-compose.yaml")
MILLION = 1_000_000


@pytest.fixture
def compose() -> Iterator[Compose]:
    with project(FILE, "relink-health") as made:
        yield made


@pytest.mark.parametrize("program", ["reconcile", "/app/build/conlink.js"])
def test_both_names_start_relink(program: str) -> None:
    said = docker("run", "--rm", "--network=none", RELINK, program, "--version")
    assert said.startswith("relink "), said


@pytest.mark.parametrize(
    "tool",
    [
        *("ethtool --version", "nft --version", "ip -V", "tc -V", "tcpdump --version"),
        *("ovs-vsctl --version", "ovs-ofctl --version", "ovs-appctl --version"),
    ],
)
def test_what_the_sidecar_and_people_in_it_use_is_there(tool: str) -> None:
    assert docker("run", "--rm", "--network=none", RELINK, *tool.split())


def test_the_daemons_of_open_vswitch_start_in_it() -> None:
    """Taken out of Debian's package: nothing that they are linked to, or read, is missing."""
    start = """
        set -e
        # The ports that the userspace datapath makes are taps; Docker allows the device, but its
        # file is not there.
        mkdir -p /dev/net && mknod /dev/net/tun c 10 200
        mkdir -p /run/openvswitch && cd /run/openvswitch
        ovsdb-tool create conf.db /usr/share/openvswitch/vswitch.ovsschema
        ovsdb-server conf.db --remote=punix:db.sock --detach --pidfile --log-file=/dev/null
        ovs-vsctl --db=unix:db.sock --no-wait init
        ovs-vswitchd unix:/run/openvswitch/db.sock --detach --pidfile --log-file=/dev/null
        ovs-vsctl --db=unix:db.sock --timeout=10 \
            add-br s1 -- set bridge s1 datapath_type=netdev
        ovs-vsctl --db=unix:db.sock list-br
    """
    options = ("--rm", "--network=none", "--cap-add=NET_ADMIN")
    assert docker("run", *options, RELINK, "sh", "-c", start).splitlines()[-1] == "s1"


def test_the_image_is_small(measured: Callable[[str], None]) -> None:
    """Here the base has the Debian packages that the Dockerfile installs."""
    size = int(docker("image", "inspect", "--format={{.Size}}", RELINK))
    lines = docker("history", "--no-trunc", "--format={{json .}}", RELINK).splitlines()
    layers = [(each["Size"], each["CreatedBy"]) for each in map(json.loads, lines)]
    names = {"/app/build": "conlink's names", "/opt/relink": "Relink and its libraries",
             " in / ": "Open vSwitch", "apt-get install": "programs"}  # fmt: skip
    found = [
        f"{share} {next((name for part, name in names.items() if part in made), 'base')}"
        for share, made in layers
        if share != "0B"
    ]
    measured(f"{size / MILLION:.0f} MB: {', '.join(found)}")
    assert size < 200 * MILLION, found


@pytest.mark.parametrize(
    ("what", "look"),
    [
        ("compilers", "for name in cc gcc make pip; do command -v $name; done; true"),
        ("caches", "find /root/.cache /var/lib/apt/lists -mindepth 1 2>/dev/null; true"),
        ("tests of libraries", "find /opt/relink -type d -name tests"),
        ("their sources", r"find /opt/relink -name '*.pyx' -o -name '*.pyi' -o -name '*.c'"),
        ("the source it is made of", "ls -d /src /build 2>/dev/null; true"),
        (
            "anything compiled twice",
            "find /opt/relink -name '*.pyc' ! -path '*/__pycache__/*' -o -name '*.opt-*.pyc'",
        ),
    ],
)
def test_the_image_holds_no(what: str, look: str) -> None:
    assert docker("run", "--rm", "--network=none", RELINK, "sh", "-c", look) == "", what


def test_what_the_image_is_stands_in_its_labels() -> None:
    version = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]["version"]
    tag = f"{RELINK}-labelled"
    wanted = {"revision": "0123abc", "source": "somewhere"}
    told = [f"--build-arg={name.upper()}={value}" for name, value in wanted.items()]
    docker("build", "--quiet", "--network=none", *told, f"--tag={tag}", str(SOURCE), timeout=300)
    try:
        labels = json.loads(docker("image", "inspect", "--format={{json .Config.Labels}}", tag))
    finally:
        docker("image", "rm", tag)
    said = {name.removeprefix("org.opencontainers.image."): words for name, words in labels.items()}
    assert wanted.items() <= said.items()
    assert (said["title"], said["licenses"], said["version"]) == ("relink", "MPL-2.0", version)


@pytest.mark.parametrize("name", ["wait", "wait.sh", "copy", "copy.sh"])
@pytest.mark.parametrize("where", ["/tools", "/utils"])
def test_the_tools_for_other_containers_are_there(where: str, name: str) -> None:
    said = docker("run", "--rm", "--network=none", f"--entrypoint={where}/{name}", RELINK, "--help")
    assert said.startswith(f"Usage: {name.removesuffix('.sh')} "), said


def test_the_health_check_asks_the_sidecar() -> None:
    check = json.loads(docker("image", "inspect", "--format={{json .Config.Healthcheck}}", RELINK))
    assert check["Test"] == ["CMD", "reconcile", "status", "--check"]
    assert (check["Interval"], check["StartPeriod"]) == (5_000 * MILLION, 10_000 * MILLION)


def test_health_is_green_red_and_green_again(compose: Compose) -> None:
    """Red while an interface that nobody declared holds the name of a declared one."""
    compose.up("node")
    node = compose.container("node")
    add = "link add eth0 type veth peer name foreign"
    node.in_network("ip", *add.split())
    foreign = node.interfaces()

    compose.up()
    sidecar = compose.container("network")

    def turns(colour: str) -> None:
        until(
            lambda: sidecar.health() == colour,
            f"the sidecar is {colour}",
            explain=lambda: json.dumps(sidecar.inspect()["State"], indent=2) + compose.log(),
            period=0.1,
        )

    turns("unhealthy")
    assert "All links connected" not in compose.log()
    assert node.interfaces() == foreign, "what was not declared was touched"

    node.in_network("ip", "link", "delete", "eth0")
    until(
        lambda: "eth0" in node.interfaces(),
        "the declared link, once its name is free",
        seconds=10,
        explain=compose.log,
    )
    turns("healthy")
    compose.connected()
    assert node.interfaces()["eth0"].addresses == ("10.0.1.1/24",)

    node.in_network("ip", "link", "delete", "eth0")  # drift: it is repaired, and stays green
    until(
        lambda: (found := node.interfaces().get("eth0")) and found.addresses == ("10.0.1.1/24",),
        "the deleted link is there again",
        explain=compose.log,
    )
    turns("healthy")
