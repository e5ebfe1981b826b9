"""One engine and one set of images for all tests in here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import engine, images
from tests.lab.engine import HOME, docker


@pytest.fixture(scope="package")
def dockerd() -> Iterator[None]:
    """Have an engine: the one that answers, or one for the tests in here.

    Not for the session: an engine that another test starts on its own socket with `--bridge=none`
    deletes docker0 (20.10), whosever it is.
    """
    if why := engine.missing():
        pytest.skip(f"{why}; .ci/run runs it")
    engine.share_run_netns()
    with engine.dockerd():
        yield


@pytest.fixture(scope="package", autouse=True)
def lab(dockerd: None) -> None:  # noqa: ARG001 - the images are made by the engine
    """Have the images of the examples, and Relink's own as built from this source."""
    images.make_all()


@pytest.fixture
def podman(tmp_path: Path) -> dict[str, str]:
    """Have podman with the images, and settings that suit a machine without CAP_SYS_RESOURCE."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed; .ci/run runs it")
    conf = tmp_path / "containers.conf"
    conf.write_text(
        "[engine]\n"
        'runtime = "runc"\n'
        'cgroup_manager = "cgroupfs"\n'
        'events_logger = "file"\n'
        'tmp_dir = "/run/relink-lab/podman-examples/tmp"\n'
        "[containers]\n"
        'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
    )
    storage = tmp_path / "storage.conf"
    storage.write_text(
        "[storage]\n"
        'driver = "overlay"\n'
        f'graphroot = "{HOME}/podman-examples"\n'
        'runroot = "/run/relink-lab/podman-examples/run"\n'
    )
    settings = {"CONTAINERS_CONF": str(conf), "CONTAINERS_STORAGE_CONF": str(storage)}
    Path("/var/run/podman").mkdir(exist_ok=True)
    for image in ("alpine", "relink"):
        archive = tmp_path / f"{image}.tar"
        docker("save", f"--output={archive}", image)
        subprocess.run(
            ["podman", "load", "--quiet", f"--input={archive}"],
            env={**os.environ, **settings},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        archive.unlink()
    return settings
