"""Compose as its users run it: `docker compose` where that works, else `docker-compose` 1.x."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.lab.containers import Container, log_of
from tests.lab.engine import docker, environment
from tests.lab.waiting import patient, until

CONNECTED = "All links connected"  # what users of conlink grep for


@cache
def command() -> tuple[str, ...]:
    """Return the compose command of this machine.

    Raises:
        RuntimeError: there is none.
    """
    if shutil.which("docker"):
        probe = ["docker", "compose", "version"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return ("docker", "compose")
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    raise RuntimeError("neither `docker compose` nor `docker-compose` is installed")


@dataclass(frozen=True, slots=True)
class Compose:
    """One project: a compose file, the project's name, and the environment of its variables."""

    file: Path
    project: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        """Run one compose command and return how it ended, whatever the exit code."""
        return subprocess.run(
            [*command(), "--file", str(self.file), "--project-name", self.project, *arguments],
            env={**environment(), **self.variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patient(timeout),
            check=False,
        )

    def up(self, *services: str, scale: Mapping[str, int] | None = None) -> None:
        """Start the services (all without names), or bring them to these numbers of replicas."""
        scales = [f"--scale={service}={number}" for service, number in (scale or {}).items()]
        # Never --build, and nothing is pulled: the images are here. No grace for `sleep`.
        self._must("up", "--detach", "--no-build", "--timeout=0", *scales, *services)

    def down(self) -> None:
        """Kill and remove everything of the project; its namespaces take their links with them."""
        self._must("down", "--volumes", "--remove-orphans", "--timeout=0")

    def exec(
        self, service: str, *words: str, index: int = 1, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a replica of a service and return how it ended."""
        return self.run("exec", "-T", f"--index={index}", service, *words, timeout=timeout)

    def ping(self, service: str, address: str, index: int = 1, seconds: int = 5) -> None:
        """Ping once from a replica of a service.

        Raises:
            AssertionError: no answer; with what ping and the sidecar said.
        """
        done = self.exec(service, "ping", "-c1", f"-w{seconds}", address, index=index)
        words = f"{done.stdout}{done.stderr}\nsidecar: {self.log()}"
        assert done.returncode == 0, f"{service}_{index} cannot ping {address}\n{words}"

    def ps(self, service: str = "", *, all_: bool = False) -> dict[tuple[str, int], Container]:
        """Return the containers by (service, replica number): the running ones, or all."""
        label = "com.docker.compose"
        filters = [f"--filter=label={label}.project={self.project}"]
        filters += [f"--filter=label={label}.service={service}"] if service else []
        parts = (f'{{{{.Label "{label}.{key}"}}}}' for key in ("service", "container-number"))
        template = f"--format={{{{.ID}}}} {' '.join(parts)}"
        options = ["--all"] if all_ else []
        lines = docker("ps", "--no-trunc", *options, *filters, template).splitlines()
        rows = sorted((name, int(number), id_) for id_, name, number in map(str.split, lines))
        return {(name, number): Container(id_) for name, number, id_ in rows}

    def container(self, service: str, index: int = 1) -> Container:
        """Return one running replica of a service.

        Raises:
            KeyError: it does not run.
        """
        return self.ps(service)[service, index]

    def log(self, service: str = "network") -> str:
        """Return what the first replica of a service has printed, running or not."""
        found = self.ps(service, all_=True)
        return log_of(found[service, 1].id) if (service, 1) in found else "(no such container)"

    def connected(self, times: int = 1, seconds: float = 30) -> None:
        """Wait until the sidecar has said `times` times that all links are connected."""
        until(
            lambda: self.log().count(CONNECTED) >= times,
            f"{CONNECTED!r} in the log of the sidecar",
            seconds=seconds,
            explain=self.log,
            period=0.1,
        )

    def _must(self, *arguments: str) -> None:
        done = self.run(*arguments)
        if done.returncode:
            words = f"{done.stdout}{done.stderr}"
            raise RuntimeError(f"compose {' '.join(arguments)}: exit {done.returncode}\n{words}")


@contextmanager
def project(file: Path, name: str, variables: Mapping[str, str] | None = None) -> Iterator[Compose]:
    """Have a compose project, not started yet; it is gone afterwards, and its remains before."""
    made = Compose(file, name, variables or {})
    if made.ps(all_=True):
        made.down()
    try:
        yield made
    finally:
        made.down()
