"""`relink-start` with real engines: Docker, podman, and podman without root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import rootless
from tests.lab.comments import sitting, told
from tests.lab.compose import CONNECTED
from tests.lab.engine import docker, environment
from tests.lab.waiting import until
from tools.site import console

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/outside-compose.md"
START = Path(sys.executable).with_name("relink-start")
ONE, TWO, NETWORK = "relink-start-one", "relink-start-two", "relink-start-network"
NET = """\
links:
- {container: "${FIRST:?}", bridge: s1, ip: 10.0.1.1/24}
- {container: "${SECOND:?}", bridge: s1, ip: 10.0.1.2/24}
"""
GIVEN = ("--name", NETWORK, "--rm", "-e", f"FIRST={ONE}", "-e", f"SECOND={TWO}")
NODE = ("--rm", "--detach", "--network=none", "alpine", "sleep", "864000")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A `relink-start` in the foreground."""

    process: subprocess.Popen[bytes]
    log: Path

    def connected(self, times: int = 1) -> None:
        until(
            lambda: self.log.read_text().count(CONNECTED) >= times or self.process.poll(),
            f"{CONNECTED!r} in its log",
            explain=self.log.read_text,
        )
        assert self.process.poll() is None, self.log.read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


@contextmanager
def sidecar(
    words: Sequence[str], directory: Path, variables: Mapping[str, str] | None = None
) -> Iterator[Sidecar]:
    log = directory / "sidecar.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            list(words),
            cwd=directory,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield Sidecar(process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "it's here"
    made.mkdir()
    (made / "net.yaml").write_text(NET)
    return made


@pytest.fixture
def nodes() -> Iterator[None]:
    subprocess.run(["docker", "rm", "-f", ONE, TWO, NETWORK], capture_output=True, check=False)
    for name in (ONE, TWO):
        docker("run", f"--name={name}", *NODE)
    yield
    docker("rm", "--force", ONE, TWO)


@pytest.mark.usefixtures("nodes")
@pytest.mark.proves(
    "relink-start docker",
    "relink-start -v",
    "relink-start --network-file",
    "relink-start --mode",
    "relink-start --host-mode",
    "relink-start -- OPTIONS OF run",
    "relink-start names with spaces",
)
def test_containers_of_docker_are_connected_until_the_sidecar_is_stopped(directory: Path) -> None:
    words = ("-v", "--mode", "docker", "--host-mode", "docker", "--network-file", "net.yaml")
    with sidecar([str(START), *words, "--", *GIVEN], directory, environment()) as running:
        running.connected()
        docker("exec", ONE, "ping", "-c1", "-w5", "10.0.1.2")

        # The file is replaced, as editors do, and what is mounted is its directory.
        new = directory / "new"
        new.write_text(NET.replace("10.0.1.2/", "10.0.1.3/"))
        new.replace(directory / "net.yaml")
        until(
            lambda: "10.0.1.3/24" in docker("exec", TWO, "ip", "address"),
            "the new address",
            explain=running.log.read_text,
        )
        docker("exec", ONE, "ping", "-c1", "-w5", "10.0.1.3")

        assert running.stop() == 0, running.log.read_text()
        assert "eth0" not in docker("exec", ONE, "ip", "link")


@pytest.mark.usefixtures("nodes")
@pytest.mark.proves("relink-start docker", "relink-start --dry-run")
def test_what_a_dry_run_prints_can_be_pasted(directory: Path) -> None:
    printed = subprocess.run(
        [START, "--network-file", "net.yaml", "--dry-run", "--", *GIVEN],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    with sidecar(["sh", "-c", f"exec {printed}"], directory, environment()) as running:
        running.connected()
        docker("exec", ONE, "ping", "-c1", "-w5", "10.0.1.2")
        assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def demo() -> Iterator[Path]:
    """Have a directory whose name is fit to be shown."""
    with tempfile.TemporaryDirectory(prefix="demo-") as made:
        yield Path(made)


@pytest.mark.proves("relink-start docker", "relink-start --dry-run")
def test_the_page_does_what_it_says_with_docker(demo: Path) -> None:
    typed = told(console.of(PAGE.read_text(), "outside-docker"))
    with sitting(typed, demo, transcript="outside-docker") as typist:
        typist.play()


@pytest.mark.proves("relink-start podman")
def test_the_page_does_what_it_says_with_podman(demo: Path, podman: dict[str, str]) -> None:
    typed = told(console.of(PAGE.read_text(), "outside-podman"))
    with sitting(typed, demo, podman, transcript="outside-podman") as typist:
        typist.play()


@pytest.mark.proves("relink-start OPTIONS OF reconcile", "relink-start exit code of the engine")
def test_a_wrong_option_of_reconcile_is_told_by_the_sidecar(directory: Path) -> None:
    done = subprocess.run(
        [START, "--network-file", "net.yaml", "--frobnicate", "--", "--rm"],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "reconcile: unrecognized arguments: --frobnicate" in done.stderr


@pytest.mark.proves("relink-start podman", "relink-start --podman-socket")
def test_containers_of_podman_are_connected(directory: Path, podman: dict[str, str]) -> None:
    def run(*words: str) -> str:
        done = subprocess.run(
            ["podman", *words],
            env={**os.environ, **podman},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout

    socket = directory / "podman.sock"
    service = subprocess.Popen(
        ["podman", "system", "service", "--time=0", f"unix://{socket}"],
        env={**os.environ, **podman},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(socket.exists, "podman's socket")
        for name in (ONE, TWO):
            run("run", f"--name={name}", *NODE)
        words = ("--mode=podman", "--podman-socket=podman.sock", "--network-file=net.yaml")
        with sidecar([str(START), *words, "--", *GIVEN], directory, podman) as running:
            running.connected()
            run("exec", ONE, "ping", "-c1", "-w5", "10.0.1.2")
            assert running.stop() == 0, running.log.read_text()
            assert "eth0" not in run("exec", ONE, "ip", "link")
    finally:
        run("rm", "--force", "--ignore", "--time=0", ONE, TWO, NETWORK)
        service.terminate()
        service.wait(timeout=20)


@pytest.fixture
def somebody() -> Iterator[rootless.User]:
    if why := rootless.missing():
        if "CI" in os.environ:  # where every case is run; elsewhere one may lack podman
            pytest.fail(why)
        pytest.skip(f"{why}; .ci/run runs it")
    with rootless.user() as made:
        for image in ("alpine", "relink"):
            saved = subprocess.Popen(
                ["docker", "save", image], env=environment(), stdout=subprocess.PIPE
            )
            assert saved.stdout
            made.run("podman", "load", "--quiet", stdin=saved.stdout.fileno())
            saved.communicate()
        yield made


@pytest.mark.proves("engine podman without root", "relink-start podman without root")
def test_containers_of_podman_without_root_are_connected(somebody: rootless.User) -> None:
    (somebody.home / "net.yaml").write_text(NET)
    assert somebody.run("id", "--user") != "0"
    start = somebody.python(
        "tools.start.cli", [ROOT / "tools", ROOT / "model", ROOT / "reconciler"]
    )
    with somebody.service():
        for name in (ONE, TWO):
            somebody.run("podman", "run", f"--name={name}", *NODE)
        words = ("-v", "--mode", "podman", "--host-mode", "podman", "--network-file", "net.yaml")
        run = somebody.words(*start, *words, "--", *GIVEN)
        with sidecar(run, somebody.home) as running:
            running.connected()
            somebody.run("podman", "exec", ONE, "ping", "-c1", "-w5", "10.0.1.2")
            # Drift is repaired there as anywhere.
            pid = somebody.run("podman", "inspect", "--format={{.State.Pid}}", TWO)
            subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "link", "delete", "eth0"],
                           check=True)  # fmt: skip
            somebody.run("podman", "exec", ONE, "ping", "-c1", "-w10", "10.0.1.2")
            # Not by a signal: without root `podman run` of 4.3 passes it on, and then never ends.
            somebody.run("podman", "stop", NETWORK)
            assert running.process.wait(timeout=20) == 0, running.log.read_text()
            assert "eth0" not in somebody.run("podman", "exec", ONE, "ip", "link")
