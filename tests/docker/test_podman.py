"""Podman as an engine, by its Docker-compatible socket: alone, and side by side with Docker."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from actuators.commands import Commands, Run
from model.commands import digest
from model.keys import Key, NsKey
from model.resources import Command
from observers.engine import Engine
from tests.lab import engine, images, podman
from tests.lab.containers import in_network, interfaces
from tests.lab.engine import docker
from tests.lab.waiting import until

pytestmark = pytest.mark.podman

PROJECT = "demo"
NET = """
links:
- {service: node, bridge: s1, ip: 10.0.1.1/24}
- {container: server, bridge: s1, ip: 10.0.1.100/24}
"""
BY_PODMAN_COMPOSE = {  # 1.6.0; 0.1.11 the same without the service label of its own
    "io.podman.compose.project": PROJECT,
    "io.podman.compose.service": "node",
    "com.docker.compose.project": PROJECT,
    "com.docker.compose.project.working_dir": "/srv/demo",
    "com.docker.compose.project.config_files": "compose.yaml",
    "com.docker.compose.service": "node",
}
LABELS = {
    "podman-compose": BY_PODMAN_COMPOSE,
    # 0.1.5, of Debian 11's time: the project by its own label only
    "podman-compose-before-0.1.7": {
        "io.podman.compose.project": PROJECT,
        "com.docker.compose.service": "node",
    },
    # docker-compose and `docker compose`, pointed at podman's socket
    "docker-compose": {
        "com.docker.compose.project": PROJECT,
        "com.docker.compose.service": "node",
        "com.docker.compose.oneoff": "False",
    },
}


def node(number: int, made_by: str = "podman-compose") -> dict[str, str]:
    return {**LABELS[made_by], "com.docker.compose.container-number": str(number)}


@pytest.fixture(scope="package", autouse=True)
def lab() -> None:
    """These tests need no image of Docker's but where they say so."""


@pytest.fixture
def service() -> Iterator[None]:
    if why := podman.missing():
        pytest.skip(f"{why}; .ci/run runs it")
    with podman.service():
        yield


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar on this machine, with a data plane of its own."""

    process: subprocess.Popen[bytes]
    file: Path

    def log(self) -> str:
        return self.file.read_text()

    def until_said(self, words: str, times: int = 1) -> None:
        until(lambda: self.log().count(words) >= times, f"{words!r} in its log", explain=self.log)

    def until_addressed(self, pid: int, *addresses: str) -> None:
        until(lambda: addressed(pid) == addresses, f"{addresses} of {pid}", explain=self.log)


@contextmanager
def sidecar(directory: Path, *words: str, net: str = NET) -> Iterator[Sidecar]:
    config, log = directory / "net.yaml", directory / "sidecar.log"
    config.write_text(net)
    command = [sys.executable, "-m", "reconciler.cli", f"--network-file={config}",
               f"--podman-socket={podman.SOCKET}", f"--compose-project={PROJECT}",
               "--instance=relink-podman", "--interval=3600", *words]  # fmt: skip
    with log.open("wb") as out:
        # `unshare` becomes the sidecar: its bridges are not in this machine's namespace.
        process = subprocess.Popen(["unshare", "--net", *command], stdout=out, stderr=out)
    try:
        yield Sidecar(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()


def addressed(pid: int) -> tuple[str, ...]:
    found = interfaces(pid)
    return found["eth0"].addresses if "eth0" in found else ()


# ------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("made_by", LABELS)
def test_replicas_are_told_by_their_labels(service: None, tmp_path: Path, made_by: str) -> None:  # noqa: ARG001
    for number in (1, 2):
        podman.start(f"demo_node_{number}", labels=node(number, made_by))
    podman.start("other_node_1", labels={**node(1, made_by), **_of_project("other", made_by)})
    with sidecar(tmp_path, "--runtime=podman") as running:
        for number in (1, 2):
            running.until_addressed(podman.pid(f"demo_node_{number}"), f"10.0.1.{number}/24")
        assert {"node_1-eth0", "node_2-eth0", "s1"} <= interfaces(running.process.pid).keys()
        assert interfaces(podman.pid("other_node_1")) == {}


def _of_project(name: str, made_by: str) -> dict[str, str]:
    return {key: name for key in LABELS[made_by] if key.endswith(".project")}


@pytest.mark.proves("engine podman")
def test_links_come_back_after_every_restart(service: None, tmp_path: Path) -> None:  # noqa: ARG001
    podman.start("demo_node_1", labels=node(1))
    podman.start("server")
    with sidecar(tmp_path, "--runtime=podman") as running:
        running.until_said("All links connected")
        server = interfaces(podman.pid("server"))
        in_network(podman.pid("demo_node_1"), "ping", "-c1", "-w5", "10.0.1.100")
        for _ in range(5):
            podman.podman("restart", "--time=0", "demo_node_1")
            running.until_addressed(podman.pid("demo_node_1"), "10.0.1.1/24")
        in_network(podman.pid("demo_node_1"), "ping", "-c1", "-w5", "10.0.1.100")
        assert interfaces(podman.pid("server")) == server, "the neighbour noticed"
        podman.podman("rm", "--force", "--time=0", "demo_node_1")
        until(
            lambda: "node_1-eth0" not in interfaces(running.process.pid),
            "the outer end goes with the container",
            explain=running.log,
        )


def test_a_container_that_starts_later_is_wired_also_in_a_pod(
    service: None,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    with sidecar(tmp_path, "--runtime=podman") as running:
        running.until_said("containers_listed")
        # The pod that podman-compose makes since 1.0.4: it shares nothing.
        podman.podman("pod", "create", "--name=pod_demo", "--infra=false", "--share=")
        podman.start("demo_node_1", "--pod=pod_demo", labels=node(1))
        podman.start("demo_node_2", "--pod=pod_demo", labels=node(2))
        for number in (1, 2):
            running.until_addressed(podman.pid(f"demo_node_{number}"), f"10.0.1.{number}/24")
        in_network(podman.pid("demo_node_1"), "ping", "-c1", "-w5", "10.0.1.2")


def test_whose_network_a_container_uses_is_known(service: None) -> None:  # noqa: ARG001
    podman.start("server")
    shared = ("--detach", "--label=a=b", podman.IMAGE, "sleep", "1000")
    podman.podman("run", "--name=guest", "--network=container:server", *shared)
    podman.podman("run", "--name=naked", "--network=host", *shared)
    with made_namespace("relink-podman-ns") as path:
        podman.podman("run", "--name=given", f"--network=ns:{path}", *shared)
        found = {c.name: c.shares for c in Engine("podman", str(podman.SOCKET)).list()}
        podman.podman("rm", "--force", "--time=0", "given")
    assert found == {"server": "", "guest": "server", "naked": "host", "given": f"ns:{path}"}


@contextmanager
def made_namespace(name: str) -> Iterator[str]:
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield f"/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_the_service_restarts_and_no_container_notices(service: None, tmp_path: Path) -> None:  # noqa: ARG001
    podman.start("server")
    with sidecar(tmp_path, "--runtime=podman") as running:
        running.until_said("All links connected")
        server = interfaces(podman.pid("server"))
        podman.restart_service()
        podman.start("demo_node_1", labels=node(1))
        running.until_addressed(podman.pid("demo_node_1"), "10.0.1.1/24")
        assert interfaces(podman.pid("server")) == server
        running.until_said("engine_lost")


def test_one_bridge_joins_containers_of_both_engines(
    service: None,  # noqa: ARG001
    docker_server: int,
    tmp_path: Path,
) -> None:
    podman.start("demo_node_1", labels=node(1))
    words = ("--runtime=docker", "--runtime=podman", f"--docker-socket={engine.SOCKET}")
    with sidecar(tmp_path, *words) as running:
        running.until_said("All links connected")
        pid = podman.pid("demo_node_1")
        running.until_addressed(pid, "10.0.1.1/24")
        running.until_addressed(docker_server, "10.0.1.100/24")
        in_network(pid, "ping", "-c1", "-w5", "10.0.1.100")
        in_network(docker_server, "ping", "-c1", "-w5", "10.0.1.1")
        ends = interfaces(running.process.pid)
        assert [ends[name].master for name in ("node_1-eth0", "server-eth0")] == ["s1", "s1"]
        docker("restart", "--time=0", "server")
        podman.podman("restart", "--time=0", "demo_node_1")
        pid = podman.pid("demo_node_1")
        running.until_addressed(pid, "10.0.1.1/24")
        again = int(docker("container", "inspect", "--format={{.State.Pid}}", "server"))
        running.until_addressed(again, "10.0.1.100/24")
        in_network(pid, "ping", "-c1", "-w5", "10.0.1.100")


@pytest.fixture
def docker_server(dockerd: None) -> Iterator[int]:  # noqa: ARG001
    """Return the process of a container of Docker's that is called `server`."""
    if not images._recipe_of(images.ALPINE):
        images.make_all()
    docker("run", "--detach", "--name=server", "--network=none", images.ALPINE, "sleep", "1000")
    try:
        yield int(docker("container", "inspect", "--format={{.State.Pid}}", "server"))
    finally:
        docker("rm", "--force", "server")


# ---------------------------------------------------------------------------------- commands


class Heard:
    """Commands in the container `server` of an engine, and what is heard of them."""

    def __init__(self, name: str, path: Path) -> None:
        self.engine = Engine(name, str(path))
        self.lines: queue.Queue[str] = queue.Queue()
        self.ends: queue.Queue[int] = queue.Queue()
        self.commands = Commands(
            {name: str(path)},
            lambda _run, line: self.lines.put(line),
            lambda _run, code: self.ends.put(code),
        )

    def start(self, *argv: str) -> None:
        container = self.engine.find("server")
        assert container, self._inspected()
        inode = Path(container.netns).stat().st_ino
        ns = NsKey("container", container.name, container.id)
        command = Command(key=Key(ns, "command", "", digest(argv)), argv=argv)
        self.commands.start(Run(command, container, inode))

    def _inspected(self) -> str:
        words = ("container", "inspect", "--format={{json .State}}", "server")
        return podman.podman(*words) if self.engine.name == "podman" else docker(*words)

    def result(self, *argv: str) -> tuple[int, list[str]]:
        self.start(*argv)
        code = self.ends.get(timeout=20)
        return code, [self.lines.get() for _ in range(self.lines.qsize())]


@pytest.fixture(params=["podman", "docker"])
def heard(request: pytest.FixtureRequest) -> Iterator[Heard]:
    if request.param == "podman":
        request.getfixturevalue("service")
        podman.start("server")
        made = Heard("podman", podman.SOCKET)
    else:
        request.getfixturevalue("docker_server")
        made = Heard("docker", engine.SOCKET)
    yield made
    made.commands.close()
    made.engine.close()


def test_a_command_runs_in_the_container_and_its_output_is_seen(heard: Heard) -> None:
    code, lines = heard.result("sh", "-c", "echo one; echo two >&2; exit 7")
    assert (code, sorted(lines)) == (7, ["one", "two"])
    assert heard.result("ls", "/sys/class/net") == (0, ["lo"])
    for word in ("$(id)", "`id`", "; id", "a b", "'\"\\", "é", "-n", "{{.}}"):
        assert heard.result("printf", "%s\\n", word) == (0, [word])


def test_what_a_quick_command_prints_is_never_lost(heard: Heard) -> None:
    for number in range(20):
        assert heard.result("echo", str(number)) == (0, [str(number)])


def test_output_comes_line_by_line_and_commands_run_side_by_side(heard: Heard) -> None:
    heard.result("mkfifo", "/go")
    heard.start("sh", "-c", "echo waiting; read line < /go; echo $line; exit 3")
    assert heard.lines.get(timeout=20) == "waiting"
    heard.start("sh", "-c", "echo word > /go")
    assert {heard.ends.get(timeout=20), heard.ends.get(timeout=20)} == {0, 3}
    assert heard.lines.get(timeout=20) == "word"


def test_a_program_that_cannot_be_run_says_why(heard: Heard) -> None:
    for program, words in (
        ("no-such-program", "executable file not found"),
        ("/etc/passwd", "permission denied"),
    ):
        code, lines = heard.result(program)
        assert code in (126, 127)
        assert words in "".join(lines)


def test_a_container_that_is_gone_is_said(heard: Heard) -> None:
    heard.start("sh", "-c", "echo started; sleep 100")
    assert heard.lines.get(timeout=20) == "started"
    before = heard.engine.find("server")
    assert before
    if heard.engine.name == "podman":
        podman.podman("restart", "--time=0", "server")
    else:
        docker("restart", "--time=0", "server")
    code = heard.ends.get(timeout=20)
    said = [heard.lines.get() for _ in range(heard.lines.qsize())]
    # podman may have forgotten what ran, and then the reason is told.
    assert code == 137 or (code == 125 and "its exit code is not known" in said[0])
    assert heard.result("true")[0] == 0  # the next life knows nothing of the one before

    ns = NsKey("container", "gone", "f" * 64)
    command = Command(key=Key(ns, "command", "", digest(["true"])), argv=("true",))
    absent = type(before)(id="f" * 64, name="gone", runtime=before.runtime, netns="")
    heard.commands.start(Run(command, absent, 0))
    assert heard.ends.get(timeout=20) == 125
    assert "no such container" in heard.lines.get().lower()


def test_what_runs_goes_on_when_nobody_listens_any_more(heard: Heard) -> None:
    heard.result("sh", "-c", "mkfifo /go /done")
    heard.start("sh", "-c", "echo started; read line < /go; echo $line; echo $line > /done")
    assert heard.lines.get(timeout=20) == "started"
    heard.commands.close()
    later = Heard(heard.engine.name, Path(heard.engine._path))
    later.start("sh", "-c", "echo word > /go")
    assert later.ends.get(timeout=20) == 0
    assert later.result("cat", "/done") == (0, ["word"])
    assert heard.ends.empty()
    until(lambda: not heard.commands.running(), "the listener ends")
    later.commands.close()
    later.engine.close()
