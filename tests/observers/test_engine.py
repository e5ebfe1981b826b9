"""Docker as it really behaves: a private dockerd is started, used, hurt and stopped."""

from __future__ import annotations

import contextlib
import io
import os
import queue
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.replicas import NUMBER_LABEL, PROJECT_LABEL, SERVICE_LABEL, WORKDIR_LABEL
from observers.engine import Engine
from observers.runtimes import Changed, Connected, Doorbell, EngineUnavailableError, Lost
from tests.docker.test_podman import node, sidecar
from tests.lab.containers import interfaces

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("dockerd") or not shutil.which("busybox"),
        reason="needs root, dockerd and a static busybox; .ci/run runs it",
    ),
]

IMAGE = "bells"


class Daemon:
    """A dockerd of our own, on a socket of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = str(home / "d.sock")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    # In a network namespace of its own: with --bridge=none it deletes any docker0.
                    *("unshare", "--net", "dockerd"),
                    *("--host", f"unix://{self.socket}"),
                    *("--data-root", str(self.home / "data")),
                    *("--exec-root", str(self.home / "exec")),
                    *("--pidfile", str(self.home / "pid")),
                    *("--bridge=none", "--iptables=false", "--live-restore"),
                ],
                stdout=log,
                stderr=log,
            )
        for _ in range(300):
            if self._process.poll() is not None:
                break
            with contextlib.suppress(AssertionError):
                self("version")
                return
            time.sleep(0.1)
        raise AssertionError((self.home / "log").read_text()[-2000:])

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it without warning; its containerd goes too, as in a crash of the whole service."""
        assert self._process
        containerd = self.home / "exec" / "containerd" / "containerd.pid"
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(containerd.read_text()), signal.SIGKILL)
        containerd.unlink()  # where nobody reaps it, a new dockerd takes the zombie for alive

    def stop(self) -> None:
        assert self._process
        self._process.terminate()
        self._process.wait(30)

    def __call__(self, *arguments: str) -> str:
        """Run the docker client and return what it prints."""
        done = subprocess.run(
            ["docker", "--host", f"unix://{self.socket}", *arguments],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def run(self, name: str, *options: str, network: str = "none") -> str:
        return self(
            *("run", "-d", "--network", network, "--name", name),
            *options,
            *(IMAGE, "/busybox", "sh", "-c", "trap exit TERM; while :; do /busybox sleep 1; done"),
        )


@pytest.fixture(scope="module")
def docker() -> Iterator[Daemon]:
    home = Path(tempfile.mkdtemp(prefix="relink-dockerd-"))
    daemon = Daemon(home)
    daemon.start()
    archive = home / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(str(shutil.which("busybox")), "busybox")
        directory = tarfile.TarInfo("tmp")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory, io.BytesIO())
    daemon("import", str(archive), IMAGE)
    try:
        yield daemon
    finally:
        for id_ in daemon("ps", "-aq").split():
            daemon("rm", "-f", id_)
        daemon.stop()
        mounts = Path("/proc/self/mountinfo").read_text()
        mounted = [line.split()[4] for line in mounts.splitlines()]
        for point in sorted(mounted, reverse=True):
            if point.startswith(f"{home}/"):
                subprocess.run(["umount", "--lazy", point], check=True)
        shutil.rmtree(home)


@pytest.fixture
def clean(docker: Daemon) -> Iterator[Daemon]:
    yield docker
    for id_ in docker("ps", "-aq").split():
        docker("rm", "-f", id_)


@pytest.fixture
def engine(clean: Daemon) -> Iterator[Engine]:
    engine = Engine("docker", clean.socket)
    with contextlib.closing(engine):
        yield engine


@pytest.fixture
def bells(engine: Engine) -> Iterator[queue.Queue[Doorbell]]:
    rung: queue.Queue[Doorbell] = queue.Queue()
    stop = threading.Event()
    watcher = threading.Thread(target=engine.watch, args=(rung.put, stop))
    watcher.start()
    yield rung
    stop.set()
    watcher.join(2)
    assert not watcher.is_alive(), "watch must return soon after stop"


def await_bell(bells: queue.Queue[Doorbell], wanted: Any, seconds: float = 20) -> list[Doorbell]:
    """Return the doorbells up to the wanted one (a value, or a type of doorbell)."""
    heard: list[Doorbell] = []
    deadline = time.monotonic() + seconds
    while not heard or not (heard[-1] == wanted or type(heard[-1]) is wanted):
        try:
            heard.append(bells.get(timeout=max(0, deadline - time.monotonic())))
        except queue.Empty:
            pytest.fail(f"waited for {wanted}, heard {heard}")
    return heard


def quiet(bells: queue.Queue[Doorbell]) -> None:
    """Drop what rang up to now."""
    with contextlib.suppress(queue.Empty):
        while True:
            bells.get(timeout=0.3)


def test_list_describes_compose_replicas_and_what_they_share(clean: Daemon, engine: Engine) -> None:
    labels = {PROJECT_LABEL: "p", SERVICE_LABEL: "node", NUMBER_LABEL: "3", WORKDIR_LABEL: "/w"}
    options = [word for item in labels.items() for word in ("--label", "=".join(item))]
    node = clean.run("p_node_3", *options)
    rider = clean.run("rider", network="container:p_node_3")
    host = clean.run("atop", network="host")
    pid = int(clean("inspect", "-f", "{{.State.Pid}}", node))

    listed = engine.list()

    assert [(c.id, c.name, c.shares) for c in listed] == [
        (host, "atop", "host"),
        (node, "p_node_3", ""),
        (rider, "rider", "p_node_3"),
    ]
    found = listed[1]
    assert (found.project, found.service, found.number, found.workdir) == ("p", "node", 3, "/w")
    assert (found.pid, found.netns, found.runtime) == (pid, f"/proc/{pid}/ns/net", "docker")
    assert Path(found.netns).exists()
    assert engine.find(rider) == listed[2]


def test_only_running_and_paused_containers_count(clean: Daemon, engine: Engine) -> None:
    for name in ("paused", "running", "stopped"):
        clean.run(name)
    clean("pause", "paused")
    clean("stop", "-t", "1", "stopped")
    clean("create", "--name", "created", IMAGE, "/busybox")

    assert [c.name for c in engine.list()] == ["paused", "running"]
    assert engine.find("stopped") is None
    assert engine.find("created") is None
    assert engine.find("f" * 64) is None
    assert engine.find("") is None


def test_a_restart_without_any_bell_is_seen_by_the_next_list(clean: Daemon, engine: Engine) -> None:
    id_ = clean.run("one")
    [before] = engine.list()
    clean("restart", "-t", "1", "one")
    [after] = engine.list()
    assert (before.id, after.id) == (id_, id_)
    assert before.pid != after.pid
    assert after.pid == int(clean("inspect", "-f", "{{.State.Pid}}", id_))

    clean("rename", "one", "two")
    assert [c.name for c in engine.list()] == ["two"]


def test_every_change_of_a_container_rings_with_its_id(
    clean: Daemon, bells: queue.Queue[Doorbell]
) -> None:
    await_bell(bells, Connected)
    id_ = clean.run("one")
    await_bell(bells, Changed(id_))
    for change in (
        ("pause", "one"),
        ("unpause", "one"),
        ("rename", "one", "two"),
        ("restart", "-t", "1", "two"),
        ("kill", "-s", "KILL", "two"),
        ("rm", "two"),
    ):
        quiet(bells)
        clean(*change)
        if change[0] != "pause":  # a paused container still runs: nothing changed
            assert set(await_bell(bells, Changed(id_))) == {Changed(id_)}, change


def test_exec_does_not_ring(clean: Daemon, bells: queue.Queue[Doorbell]) -> None:
    await_bell(bells, Connected)
    first = clean.run("one")
    quiet(bells)
    clean("exec", "one", "/busybox", "true")
    last = clean.run("two")
    assert Changed(first) not in await_bell(bells, Changed(last))


def test_a_container_started_when_connected_rings_is_never_missed(
    clean: Daemon, engine: Engine
) -> None:
    """Each stream is new, so a gap between `Connected` and the subscription would show."""
    for turn in range(5):
        rung: queue.Queue[Doorbell] = queue.Queue()
        stop = threading.Event()
        watcher = threading.Thread(target=engine.watch, args=(rung.put, stop))
        watcher.start()
        await_bell(rung, Connected)
        id_ = clean.run(f"turn{turn}")
        await_bell(rung, Changed(id_))
        stop.set()
        watcher.join(2)
        assert not watcher.is_alive()


def test_a_killed_engine_rings_lost_and_its_return_connected(
    clean: Daemon, engine: Engine, bells: queue.Queue[Doorbell]
) -> None:
    await_bell(bells, Connected)
    id_ = clean.run("one")
    [before] = engine.list()
    quiet(bells)

    clean.kill()
    [lost] = await_bell(bells, Lost)
    assert isinstance(lost, Lost)
    assert clean.socket in lost.reason
    with pytest.raises(EngineUnavailableError, match=clean.socket):
        engine.list()
    with pytest.raises(EngineUnavailableError, match="is the engine running"):
        engine.find(id_)

    clean.start()
    assert Connected() not in await_bell(bells, Connected)[:-1]
    assert engine.list() == [before], "live-restore: the container went on without its engine"
    other = clean.run("two")
    await_bell(bells, Changed(other))


@pytest.mark.proves("defect 2")
def test_defect_02_a_sidecar_hears_docker_again_after_it_restarted(
    clean: Daemon, tmp_path: Path
) -> None:
    """As with podman: tests/docker/test_conlink_defects.py."""
    clean.run("server")
    with sidecar(tmp_path, "--runtime=docker", f"--docker-socket={clean.socket}") as running:
        running.until_said("All links connected")
        server = interfaces(pid(clean, "server"))
        for number in (1, 2):  # deaf after neither
            clean.stop()
            running.until_said("engine_lost", number)
            clean.start()
            labels = node(number, "docker-compose")
            clean.run(f"node_{number}", *(f"--label={k}={v}" for k, v in labels.items()))
            running.until_addressed(pid(clean, f"node_{number}"), f"10.0.1.{number}/24")
        # Also of a container that was there before.
        clean("restart", "--time=0", "node_1")
        running.until_addressed(pid(clean, "node_1"), "10.0.1.1/24")
        assert interfaces(pid(clean, "server")) == server, "what ran noticed nothing"


def pid(daemon: Daemon, name: str) -> int:
    return int(daemon("inspect", "--format={{.State.Pid}}", name))


def test_a_stopped_process_of_the_engine_does_not_hang_us(
    clean: Daemon, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("observers.engine.TIMEOUT", 1)
    clean.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(EngineUnavailableError, match="no answer within 1 s"):
            engine.list()
        assert time.monotonic() - began < 60, "it hung"
    finally:
        clean.signal(signal.SIGCONT)
    assert engine.list() == []


def test_closing_waits_for_no_answer(tmp_path: Path) -> None:
    """Somebody listens, and says nothing: each question waits as long as it may."""
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(path))
        silent.listen(16)
        engine = Engine("docker", str(path))
        askers = [threading.Thread(target=_unanswered, args=(engine,)) for _ in range(3)]
        for each in askers:
            each.start()
        silent.settimeout(10)
        heard = [silent.accept()[0] for _ in range(4)]  # each knocks, and one is let in to ask
        began = time.monotonic()
        engine.close()
        took = time.monotonic() - began
        for sock in heard:
            sock.close()
        silent.settimeout(0.1)
        while any(each.is_alive() for each in askers):  # who still asks is told nothing at once
            with contextlib.suppress(TimeoutError):
                silent.accept()[0].close()
    assert took < 5, "half as long as one question waits"


def _unanswered(engine: Engine) -> None:
    with contextlib.suppress(EngineUnavailableError):
        engine.ping()
