"""What is released: a wheel and a source distribution, installed as a stranger installs them."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.registry

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
NET = "links:\n- {service: node, bridge: s1, ip: 10.0.1.1/24}\n"


def run(*words: str | Path, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both from a copy of the files that are under version control, and nothing else."""
    source = tmp_path_factory.mktemp("source")
    listed = run(
        *("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), cwd=ROOT
    ).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    into = tmp_path_factory.mktemp("dist")
    # The wheel is built from the source distribution, which so has all that it takes.
    run(sys.executable, "-m", "build", "--outdir", into, source, cwd=source)
    return into


def installed(wheel: Path, into: Path) -> Path:
    """Install a wheel into a new environment; return where its programs are."""
    run(sys.executable, "-m", "venv", into, cwd=into.parent)
    pip = [into / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--constraint", ROOT / "constraints.txt", wheel, cwd=into.parent)
    return into / "bin"


def test_both_are_built_and_hold_what_they_should(built: Path) -> None:
    version = PROJECT["project"]["version"]
    [wheel], [source] = built.glob("*.whl"), built.glob("*.tar.gz")
    assert wheel.name == f"relink-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {
        *(each for each in PACKAGES if "." not in each),
        f"relink-{version}.dist-info",
    }
    assert "model/schema.json" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    with tarfile.open(source) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "model/schema.json"} <= inside


def test_the_wheel_works_in_a_clean_environment(built: Path, tmp_path: Path) -> None:
    [wheel] = built.glob("*.whl")
    programs = installed(wheel, tmp_path / "venv")
    reconcile = programs / "reconcile"
    assert run(reconcile, "--version", cwd=tmp_path) == f"relink {PROJECT['project']['version']}\n"
    (tmp_path / "net.yaml").write_text(NET)
    assert run(reconcile, "--network-file", "net.yaml", "validate", cwd=tmp_path) == (
        "Valid: 1 link, 1 bridge.\n"
    )
    assert json.loads(run(reconcile, "schema", cwd=tmp_path))["title"]
    # A dry run looks at the kernel: in namespaces of its own, where one container waits.
    plan = run(
        *("unshare", "--user", "--map-root-user", "--net", "--mount", "--propagation", "private"),
        *("sh", "-c"),
        "mount -t tmpfs tmpfs /run && mkdir /run/netns && ip netns add node_1 && "
        f"exec {reconcile} --runtime netns --network-file net.yaml --dry-run",
        cwd=tmp_path,
        code=2,
    )
    assert "node_1:eth0" in plan
    assert plan.endswith("Plan: 2 to create, 0 to change, 0 to replace, 0 to delete.\n")
