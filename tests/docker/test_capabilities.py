"""Which capabilities each feature takes: with those of docs/rights.md it works, less one not.

The sidecar's container has no capability but those of its row, may gain none (no-new-privileges),
and cannot write to its root file system. That a row suffices shows that no other is needed.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.containers import Container
from tests.lab.engine import docker, environment
from tests.lab.images import ALPINE, RELINK, SOURCE
from tests.lab.waiting import patient, until

pytestmark = pytest.mark.docker

NODE, OTHER, BARE = "relink-rights-node", "relink-rights-user", "relink-rights-bare"
NAMESPACE, PARENT = "rightsnode", "relinkrights0"
PAGE = SOURCE / "docs" / "rights.md"
CONFINED = (
    *(
        "--pid=host",
        "--network=none",
        "--cap-drop=ALL",
        "--read-only",
        "--tmpfs=/run",
        "--tmpfs=/tmp",
    ),
    *("--security-opt=no-new-privileges", "--security-opt=apparmor=unconfined"),
    "--volume=/var/run/docker.sock:/var/run/docker.sock",
)
PINNED = "--volume=/run/netns:/run/netns:rshared"
ENTER = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE")


def _link(**more: Any) -> dict[str, Any]:
    return {"container": NODE, "bridge": "s1", "ip": "10.0.1.1/24", **more}


@dataclass(frozen=True)
class Feature:
    """What is declared, how the sidecar is started for it, and the capabilities that it takes."""

    wanted: dict[str, Any]
    needs: tuple[str, ...] = ENTER
    container: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


FEATURES = {
    "links, bridges, addresses, routes": Feature(
        {"links": [_link(route="10.9.0.0/16 via 10.0.1.9", mtu=1400, mac="02:00:00:00:00:07")]}
    ),
    "containers that have no capability": Feature(
        {"links": [_link(container=BARE)]}, ("SYS_ADMIN", "NET_ADMIN")
    ),
    "containers of another user": Feature({"links": [_link(container=OTHER)]}),
    "vxlan tunnels": Feature(
        {"links": [_link()],
         "tunnels": [{"type": "vxlan", "bridge": "s1", "remote": "192.0.2.1", "vni": 7}]}
    ),
    "links on an interface of the host (macvlan)": Feature(
        {"links": [{"container": NODE, "type": "macvlan", "outer-dev": PARENT,
                    "ip": "10.0.4.1/24"}]}
    ),
    "patches": Feature(
        {"bridges": [{"bridge": "s1", "mode": "patch"}],
         "links": [_link(), _link(container=BARE, ip="10.0.1.2/24")]}
    ),
    "NAT": Feature({"links": [_link(nat="10.0.3.1")]}),
    "forward": Feature({"links": [_link(forward="8080:80/tcp")]}),
    "ethtool": Feature({"links": [_link(ethtool="--offload gro off")]}),
    "commands": Feature(
        {"links": [_link()], "commands": [{"container": NODE, "command": ["true"]}]}
    ),
    "Open vSwitch, with daemons of the sidecar's": Feature(
        {"bridges": [{"bridge": "s1", "mode": "ovs"}], "links": [_link()]},
        (*ENTER, "MKNOD", "NET_RAW"),
    ),
    "named namespaces (`--runtime netns`)": Feature(
        {"links": [_link(container=NAMESPACE)]},
        ("SYS_ADMIN", "NET_ADMIN"),
        (PINNED,),
        ("--runtime=netns",),
    ),
    "`--dataplane pinned`": Feature(
        {"links": [_link()]}, ENTER, (PINNED,), ("--dataplane=pinned",)
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Have containers to connect, a named namespace and an interface of the host."""
    common = ("run", "--detach", "--network=none")
    with contextlib.ExitStack() as stack:
        for name, *more in ((NODE,), (OTHER, "--user=65534"), (BARE, "--cap-drop=ALL")):
            docker(*common, f"--name={name}", *more, ALPINE, "sleep", "864000")
            stack.callback(docker, "rm", "--force", name)
        ip("netns", "add", NAMESPACE)
        stack.callback(ip, "netns", "delete", NAMESPACE)
        ip(*f"link add {PARENT} type veth peer name {PARENT}p".split())
        stack.callback(ip, "link", "delete", PARENT)
        yield tmp_path_factory.mktemp("rights")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def command(place: Path, feature: Feature, rights: Sequence[str]) -> list[str]:
    """Return the words that start a sidecar in a container with these capabilities."""
    return [
        *("docker", "run", "--rm", *CONFINED, f"--volume={place}:/lab:ro", *feature.container),
        *(f"--cap-add={name}" for name in rights),
        *(RELINK, "reconcile", "--instance=rights", "--network-file=/lab/net.yaml"),
        *feature.options,
    ]


def works(place: Path, feature: Feature, rights: Sequence[str]) -> str:
    """Converge and verify, with these capabilities; return what is amiss, empty for nothing."""
    (place / "net.yaml").write_text(json.dumps(feature.wanted))
    words = command(place, feature, rights)
    done = _ran([*words, "--once"])
    if PINNED in feature.container:  # it outlives the sidecar
        _ran([*command(place, feature, ENTER), "--destroy"])
    there = done.returncode == 0 and "All links connected" in done.stdout
    return "" if there else f"exit code {done.returncode}\n{done.stdout}{done.stderr}"


def _ran(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, env=environment(), capture_output=True, text=True, timeout=patient(60), check=False
    )


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_takes_its_capabilities_and_no_other(place: Path, name: str) -> None:
    feature = FEATURES[name]
    assert works(place, feature, feature.needs) == ""
    for less in feature.needs:
        rest = [each for each in feature.needs if each != less]
        assert works(place, feature, rest), f"it works without {less}, too"


def test_drift_in_a_container_is_heard_with_net_broadcast_and_else_found_by_the_tick(
    place: Path,
) -> None:
    feature = FEATURES["links, bridges, addresses, routes"]
    (place / "net.yaml").write_text(json.dumps(feature.wanted))
    for rights, heard in (((*ENTER, "NET_BROADCAST"), True), (ENTER, False)):
        words = command(place, feature, rights)
        words[2:3] = ["--detach"]
        sidecar = Container(docker(*words[1:], "--interval=3600"))
        try:
            until(lambda: "All links connected" in sidecar.log(), "links", explain=sidecar.log)  # noqa: B023
            deaf = "deaf_to_containers" in sidecar.log()
            assert deaf is not heard
            if heard:
                node = Container(NODE)
                node.in_network("ip", "link", "set", "eth0", "down")
                until(
                    lambda: "state UP" in node.in_network("ip", "link", "show", "eth0"),  # noqa: B023
                    "the link is up again",
                    explain=sidecar.log,
                )
            check = ("reconcile", "status", "--instance=rights", "--check")
            until(lambda: sidecar.exec(*check).returncode == 0, "health", explain=sidecar.log)  # noqa: B023
        finally:
            docker("rm", "--force", sidecar.id)


def test_the_page_says_what_was_measured() -> None:
    """The table of docs/rights.md is that of this file, row by row."""
    rows = re.findall(r"^\| (.+?) \| ((?:[A-Z_]+(?:, )?)+) \|$", PAGE.read_text(), re.MULTILINE)
    wanted = {name: ", ".join(feature.needs) for name, feature in FEATURES.items()}
    assert dict(rows) == wanted | {"drift in containers, heard at once": "NET_BROADCAST"}


COMPOSE = sorted((SOURCE / "examples").rglob("*compose.yaml"))
ADDED = ("web", "node1", "nodes2")  # modes that are added to one with the sidecar
LEAST = {*ENTER, "NET_BROADCAST"}
MORE = {
    "test5-geneve-compose.yaml": {"NET_RAW", "SETUID", "SETGID"},  # tcpdump
    "test9-compose.yaml": {"MKNOD", "NET_RAW"},  # Open vSwitch
    "test10-compose.yaml": {"NET_RAW", "SETUID", "SETGID"},  # tcpdump
}


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: str(file.relative_to(SOURCE)))
def test_an_example_asks_for_no_more_than_the_table(file: Path) -> None:
    services = yaml.safe_load(file.read_text())["services"]
    assert not [name for name, each in services.items() if "privileged" in each]
    sidecars = [each for each in services.values() if "cap_add" in each]
    assert len(sidecars) == (file.parent.name not in ADDED)
    for sidecar in sidecars:
        assert set(sidecar["cap_add"]) == LEAST | MORE.get(file.name, set())
        assert sidecar["cap_drop"] == ["ALL"]
