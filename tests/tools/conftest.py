"""Each test of a program runs for each of its forms: three shells, static, and with sanitizers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tools.programs import FORMS, TOOLS, Program, entering, network


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with busybox' tools, and both builds of the static programs."""
    made = tmp_path_factory.mktemp("programs")
    made.chmod(0o755)
    made.parent.chmod(0o755)
    subprocess.run([TOOLS / "build", made / "static"], check=True)
    checks = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([TOOLS / "build", made / "sanitized", "gcc", *checks], check=True)
    (made / "busybox").mkdir()
    done = subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True)
    for applet in done.stdout.split():
        (made / "busybox" / applet).symlink_to("/bin/busybox")
    return made


def _program(name: str, form: str, built: Path) -> Program:
    """The forms in dash and bash use the machine's own tools, the one in ash busybox' alone."""
    script, path = str(TOOLS / f"{name}.sh"), os.environ["PATH"]
    match form:
        case "dash":
            return Program(("dash", script), path)
        case "bash":
            return Program(("bash", "--posix", script), path)
        case "busybox":
            return Program((str(built / "busybox/ash"), script), str(built / "busybox"))
        case _:
            return Program((str(built / form / name),), path)


def pytest_itemcollected(item: pytest.Item) -> None:
    """What a test shows of a program it shows of the form that it runs."""
    if isinstance(item, pytest.Function) and "form" in item.fixturenames:
        form = FORMS[item.callspec.params["form"]]
        for name in {"wait", "copy"}.intersection(item.fixturenames):
            item.add_marker(pytest.mark.proves(f"{name} {form}"))


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def wait(form: str, built: Path) -> Program:
    return _program("wait", form, built)


@pytest.fixture
def copy(form: str, built: Path) -> Program:
    return _program("copy", form, built)


@pytest.fixture
def net() -> Iterator[int]:
    with network() as pid:
        yield pid


@pytest.fixture
def inside(wait: Program, net: int) -> Program:
    """Return wait in a network of its own (`net`)."""
    return replace(wait, before=entering(net))
