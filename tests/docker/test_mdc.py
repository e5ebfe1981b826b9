"""mdc, compose and containers: what only starts when something is started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.compose import command
from tests.lab.engine import docker, environment

pytestmark = pytest.mark.docker

MDC = Path(sys.executable).with_name("mdc")
PROJECT = "relink-mdc"
COMPOSE = """\
version: "2.4"
services:
  one:
    image: alpine
    network_mode: none
    command: sleep 864000
    environment: {WHO: "${WHO}"}
    volumes: ["./.files/one:/files:ro"]
  only-with-more:
    image: alpine
    network_mode: none
    command: sleep 864000
    profiles: [MODE_more]
"""


class Project:
    """A directory with modes, and the containers that come of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in {
            "base/compose.yaml": COMPOSE,
            "base/env": "WHO=base\n",
            "base/one/files/etc/conf": "base",
            "more/deps": "base",
            "more/env": 'WHO="${WHO}, more"\n',
            "more/one/files/etc/conf": "more",
        }.items():
            path = root / "modes" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def mdc(self, *words: str) -> None:
        own = {"DOCKER_COMPOSE": " ".join(command()), "COMPOSE_PROJECT_NAME": PROJECT}
        done = subprocess.run(
            [MDC, *words],
            cwd=self.root,
            env={**environment(), **own},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"

    def containers(self) -> dict[str, str]:
        """Return the running containers by their services."""
        label = "com.docker.compose"
        found = docker(
            "ps",
            f"--filter=label={label}.project={PROJECT}",
            f'--format={{{{.Label "{label}.service"}}}} {{{{.ID}}}}',
        )
        return dict(tuple(line.split()) for line in found.splitlines())


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    made.mdc("more", "down", "-t", "0")
    yield made
    made.mdc("more", "down", "-t", "0")


@pytest.mark.proves(
    "mdc runs compose",
    "mdc COMPOSE_PROFILES",
    "mdc env file order",
    "mdc files overlay",
    "mdc files emptied first",
)
def test_profiles_files_and_variables_reach_the_containers(project: Project) -> None:
    project.mdc("base", "up", "-d", "-t", "0")
    assert list(project.containers()) == ["one"]
    assert docker("exec", project.containers()["one"], "cat", "/files/etc/conf") == "base"
    project.mdc("more", "up", "-d", "-t", "0")
    containers = project.containers()
    assert sorted(containers) == ["one", "only-with-more"]
    assert docker("exec", containers["one"], "cat", "/files/etc/conf") == "more"
    assert docker("exec", containers["one"], "sh", "-c", "echo $WHO") == "base, more"
