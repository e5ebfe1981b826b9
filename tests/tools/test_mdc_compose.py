"""mdc with the real compose of this machine. `config` needs no engine.

With containers: tests/docker/test_mdc.py, and test4 in tests/docker/test_examples.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.comments import EXAMPLES
from tests.lab.compose import command

MDC = Path(sys.executable).with_name("mdc")


@pytest.fixture
def compose() -> str:
    try:
        return " ".join(command())
    except RuntimeError as error:
        if "CI" in os.environ:  # where every case is run; elsewhere one may lack compose
            pytest.fail(str(error))
        pytest.skip(f"{error}; .ci/run runs it")


def run(words: list[str], directory: Path, **variables: str) -> str:
    own = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
    done = subprocess.run(
        words,
        cwd=directory,
        env={**own, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


def config(compose: str, modes: str, directory: Path, **variables: str) -> dict[str, Any]:
    """Return what compose understands of these modes."""
    words = [str(MDC), modes, "config"]
    found: dict[str, Any] = yaml.safe_load(
        run(words, directory, DOCKER_COMPOSE=compose, **variables)
    )
    return found


@pytest.mark.parametrize(
    ("modes", "services"),
    [
        ("node1", {"network", "r0", "node1"}),
        ("node1,nodes2", {"network", "r0", "node1", "node2"}),
        ("all", {"network", "r0", "node1", "node2"}),
    ],
)
@pytest.mark.proves("mdc runs compose", "mdc COMPOSE_FILE", "mdc MODES_DIR")
def test_the_modes_of_example_4(
    compose: str, modes: str, services: set[str], tmp_path: Path
) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    where = {"MODES_DIR": "examples/test4-multiple/modes"}
    found = config(compose, modes, tmp_path, **where)
    assert set(found["services"]) == services
    said = str(found["services"]["network"]["command"])
    assert ("web-network.yaml" in said) == (modes == "all")
    assert ".mdc-compose.yaml:examples/test4-multiple/modes/base/compose.yaml" in said
    # And without mdc from then on: the env file is where compose looks for it.
    again = yaml.safe_load(run([*compose.split(), "config"], tmp_path, **where))
    assert again == found


@pytest.mark.proves(
    "mdc env file order",
    "mdc empty base",
    "mdc COMPOSE_DIR",
    "mdc MDC_MODE_mode",
    "mdc names with spaces",
)
def test_env_files_and_relative_paths(compose: str, tmp_path: Path) -> None:
    place = tmp_path / "it is here, $HOME"
    for name, text in {
        "base/compose.yaml": (
            'version: "2.4"\n'
            "services:\n"
            "  one:\n"
            "    image: alpine\n"
            "    volumes: ['./.files/one:/files:ro', '${COMPOSE_DIR}/own:/own']\n"
            "    environment: {BOTH: '${BOTH}', MODE: '${MDC_MODE_more-}', OWN: '${OWN}'}\n"
        ),
        "base/env": "BOTH=base\nOWN='a $$ b'",
        "more/deps": "base",
        "more/env": "BOTH=more\n",
        "more/one/files/x": "",
    }.items():
        path = place / "modes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    base = config(compose, "base", place)
    assert base["services"]["one"]["environment"]["BOTH"] == "base"
    # A variable of the environment that would win over the env file is not handed on.
    more = config(compose, "more", place, COMPOSE_FILE="nothing.yaml", COMPOSE_PROFILES="none")
    environment = more["services"]["one"]["environment"]
    assert (environment["BOTH"], environment["MODE"]) == ("more", "enabled")
    # Relative to where mdc was called, not to the mode's directory.
    volumes = str(more["services"]["one"]["volumes"]).replace("$$", "$")
    assert f"{place}/.files/one" in volumes
    assert f"{place}/own" in volumes
