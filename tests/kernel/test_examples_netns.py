"""The examples without an engine: namespaces stand for containers, and every ping works.

That an example does what its comment says of an engine is proved by tests/docker/test_examples.py
alone: here what the engine has to do is left out (commands through a shell, web servers, published
ports). What the comment of test3 says of namespaces is all typed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kernel.lab import Lab, sh
from tests.lab.comments import session
from tools.site.comments import EXAMPLES, Step, steps

MODES = EXAMPLES / "test4-multiple" / "modes"
NAMES = {"NODE_NAME_1": "first", "NODE_NAME_2": "second"}
_EXEC = re.compile(r".* exec (?:--index (\d+) )?(\S+) ((?:ping|ip) .*)")
_SCALE = re.compile(r".* --scale (\S+)=(\d+)")
_RESTART = re.compile(r".* restart .*?(\S+)")
_CURL = re.compile(r"curl -s 127\.0\.0\.1:(\d+)")


@dataclass(slots=True)
class World:
    """One example: what its compose files declare, as namespaces of a laboratory."""

    lab: Lab
    files: tuple[Path, ...]
    options: list[str] = field(default_factory=list)
    services: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for file in self.files:
            for name, service in yaml.safe_load(file.read_text())["services"].items():
                self.services.setdefault(name, {}).update(service)
        sidecar = self.services.pop("network")
        command = sidecar["command"].replace("${COMPOSE_FILE}", ":".join(map(str, self.files)))
        self.options = shlex.split(command.replace("/test/", f"{EXAMPLES}/"))[1:]
        for name, service in self.services.items():
            self.scale(name, service.get("scale", 1))

    def namespace(self, service: str, number: int = 1) -> str:
        """Return what stands for a replica; a container with a name of its own has that."""
        return service if "container_name" in self.services[service] else f"{service}_{number}"

    def scale(self, service: str, count: int) -> None:
        wanted = [self.namespace(service, number) for number in range(1, count + 1)]
        there = [name for name in self.lab.names if name.rpartition("_")[0] == service]
        self.lab.remove(*(name for name in there if name not in wanted))
        for name in wanted:
            if name not in self.lab.names:
                self.lab.add(name)
                self._configure(service, name)

    def restart(self, service: str) -> None:
        name = self.namespace(service)
        self.lab.restart(name)
        self._configure(service, name)

    def _configure(self, service: str, name: str) -> None:
        for key, value in self.services[service].get("sysctls", {}).items():
            sh("ip", "netns", "exec", name, "sysctl", "-qw", f"{key}={value}")

    def converge(self) -> None:
        done = self.lab.reconcile("--once", *self.options)
        assert done.returncode == 0, f"{self.options}\n{done.stdout}{done.stderr}"

    def follow(self, step: Step) -> str:
        """Do what one command does, as far as it is about the network; return what it printed."""
        said = ""
        if match := _SCALE.fullmatch(step.command):
            self.scale(match[1], int(match[2]))
            self.converge()
        elif match := _RESTART.fullmatch(step.command):
            self.restart(match[1])
            self.converge()
        elif match := _EXEC.fullmatch(step.command):
            inside = () if match[2] == "network" else ("ip", "netns", "exec")
            name = () if not inside else (self.namespace(match[2], int(match[1] or 1)),)
            said = sh(*inside, *name, *shlex.split(match[3]))
            for words in step.seen:
                # busybox counts packets, iputils does not say so.
                assert words.replace("packets received", "received") in said, step
        return said


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NAMES.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", ["test1", "test2", "test3"])
def test_what_is_of_the_network_is_as_the_comment_says(lab: Lab, name: str) -> None:
    file = EXAMPLES / f"{name}-compose.yaml"
    world = World(lab, (file,))
    world.converge()
    followed = steps(file)
    assert len([step for step in followed if _EXEC.fullmatch(step.command)]) > 0
    for step in followed:
        world.follow(step)


@pytest.mark.proves("example test3 namespaces")
def test_a_network_file_alone_with_namespaces(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for name in NAMES:
        monkeypatch.delenv(name)  # they are exported by what is typed
    with session(
        EXAMPLES / "test3-network.yaml", tmp_path, programs=("ip", "export", "reconcile")
    ) as typist:
        typist.play()
        assert {row["ifname"] for row in lab.show("", "link")} > {"s1", "first-eth0"}
    assert {row["ifname"] for row in lab.show("", "link")} == {"lo"}


@pytest.mark.needs("netem")
def test_addresses_mtu_and_delay_of_test7(lab: Lab) -> None:
    file = EXAMPLES / "test7-compose.yaml"
    world = World(lab, (file,))
    world.converge()
    said = [world.follow(step) for step in steps(file)]
    delayed, plain = ([float(ms) for ms in re.findall(r"time=(\S+) ms", words)]
                      for words in said if "PING" in words)  # fmt: skip
    # A busy machine may add to it, and never takes away.
    assert len(delayed) == len(plain) == 3
    assert min(delayed) >= 80 > 2 * min(plain), f"{delayed} {plain}"


def test_several_files_of_test4(lab: Lab) -> None:
    """All modes but the one whose command starts a web server: that wants a file system."""
    world = World(lab, tuple(MODES / mode / "compose.yaml" for mode in ("base", "node1", "nodes2")))
    world.converge()
    for step in steps(MODES / "base" / "compose.yaml"):
        world.follow(step)


@pytest.mark.parametrize("mode", ["linux", "patch"])
def test_bridge_modes_of_test9(lab: Lab, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mode ovs and what auto makes of it: tests/docker, where the daemons have their own /run."""
    monkeypatch.setenv("BRIDGE_MODE", mode)
    file = EXAMPLES / "test9-compose.yaml"
    world = World(lab, (file,))
    world.converge()
    for step in steps(file):
        world.follow(step)


def test_forwarded_ports_and_router_of_test10(lab: Lab, tmp_path: Path) -> None:
    """From a namespace that stands for Docker's network: the sidecar's eth0 is plugged into it."""
    file = EXAMPLES / "test10-compose.yaml"
    world = World(lab, (file,))
    lab.add("outside")
    add = "link add eth0 type veth peer name eth0 netns outside"
    for where, words in (
        ("", add),
        ("", "address add 172.31.252.2/24 dev eth0"),
        ("", "link set eth0 up"),
        ("", "route add default via 172.31.252.1"),
        ("outside", "address add 172.31.252.1/24 dev eth0"),
        ("outside", "link set eth0 up"),
    ):
        lab.ip(where, *words.split())
    world.converge()
    outside_port = {}
    for mapping in yaml.safe_load(file.read_text())["services"]["network"]["ports"]:
        of_host, _, of_sidecar = mapping.partition(":")
        outside_port[of_host] = of_sidecar
    with ExitStack() as stack:
        for name in ("node1_1", "node2_1", "node2_2"):
            stack.enter_context(_web_server(lab, name, tmp_path / name))
        for step in steps(file):
            world.follow(step)
            if match := _CURL.fullmatch(step.command):
                url = f"172.31.252.2:{outside_port[match[1]]}"
                said = sh("ip", "netns", "exec", "outside", "curl", "-sm5", url)
                assert all(words in said for words in step.seen), step


@contextmanager
def _web_server(lab: Lab, ns: str, directory: Path) -> Iterator[None]:
    """Have a web server in a namespace that says which address it stands at."""
    directory.mkdir()
    (directory / "index.html").write_text(lab.ip(ns, "-4", "address", "show", "dev", "eth0"))
    with _server(ns, directory, "0.0.0.0"):  # noqa: S104 - of a namespace
        yield


@contextmanager
def _server(ns: str, directory: Path, address: str) -> Iterator[None]:
    process = subprocess.Popen(
        ["ip", "netns", "exec", ns, sys.executable, "-u", "-m", "http.server",
         "--bind", address, "--directory", str(directory), "80"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with process:
        try:
            assert process.stdout
            assert "Serving" in process.stdout.readline()
            yield
        finally:
            process.kill()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("vxlan", marks=pytest.mark.needs("vxlan")),
        pytest.param("geneve", marks=pytest.mark.needs("geneve")),
    ],
)
def test_two_hosts_of_test5(lab: Lab, kind: str) -> None:
    """Two namespaces with a wire between them stand for the hosts, each with its own /run/netns."""
    hosts = {"host1": "198.51.100.1", "host2": "198.51.100.2"}
    lab.add(*hosts)
    wire = "link add eth0 netns host1 type veth peer name eth0 netns host2"
    lab.ip("", *wire.split())
    for host, address in hosts.items():
        lab.ip(host, "address", "add", f"{address}/24", "dev", "eth0")
        lab.ip(host, "link", "set", "eth0", "up")
        lab.ip(host, "link", "set", "lo", "up")
    with ExitStack() as stack:
        nodes: dict[str, subprocess.Popen[bytes]] = {}
        for number, (host, remote) in enumerate(
            zip(hosts, reversed(hosts.values()), strict=True), 1
        ):
            variables = {"REMOTE": remote, "NODE_ADDR": f"192.168.100.{number}/24",
                         "TUNNEL_TYPE": kind}  # fmt: skip
            nodes[host] = stack.enter_context(_host(lab, host, variables))
        for step in steps(EXAMPLES / "test5-geneve-compose.yaml"):
            if match := re.search(r"-p relink-(host\d) .* exec node (ping .*)", step.command):
                inside = ("nsenter", "-t", str(nodes[match[1]].pid), "-m", "-n")
                said = sh(*inside, "ip", "netns", "exec", "node_1", *match[2].split())
                assert "5 received" in said


@contextmanager
def _host(lab: Lab, host: str, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Have the sidecar of one host, once all links are connected."""
    script = (
        "mount -t tmpfs tmpfs /run/netns && ip netns add node_1 && "
        f"exec {sys.executable} -m reconciler.cli --runtime netns --instance {host} "
        f"--default-bridge-mode linux --compose-file {EXAMPLES}/test5-geneve-compose.yaml"
    )
    log = lab.directory / f"{host}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{host}", "unshare", "--mount", "sh", "-c", script],
            env={**os.environ, **variables}, stdout=out, stderr=out,
        )  # fmt: skip
    with process:
        try:
            lab.wait_for(lambda: "All links connected" in log.read_text(), 20, log.read_text())
            yield process
        except AssertionError as error:
            raise AssertionError(f"{error}\n{log.read_text()}") from None
        finally:
            process.terminate()
