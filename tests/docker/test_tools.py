"""wait and copy in containers that Relink wires, which have busybox alone or nothing at all."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.comments import sitting, told
from tests.lab.compose import Compose, project
from tests.lab.containers import Container, log_of
from tests.lab.engine import docker, environment
from tests.lab.images import RELINK
from tests.lab.waiting import until
from tools.site import console

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("tools-compose.yaml")
GREETING = "a/b & 'c' \"d\" \\1"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take the tools out of the image, by the command that is documented."""
    made = tmp_path_factory.mktemp("tools")
    for name in ("wait", "wait.sh", "copy", "copy.sh"):
        with (made / name).open("wb") as file:
            words = ("docker", "run", "--rm", "--entrypoint", "cat", RELINK, f"/tools/{name}")
            subprocess.run(words, stdout=file, env=environment(), check=True)
        (made / name).chmod(0o755)
    return made


@pytest.mark.proves("wait static")
def test_a_tool_is_taken_out_as_the_page_says(tmp_path: Path) -> None:
    page = ROOT / "docs/wait-and-copy.md"
    typed = told(console.of(page.read_text(), "tools"))
    with sitting(typed, tmp_path, transcript="tools") as typist:
        typist.play()
        assert (tmp_path / "wait").read_bytes().startswith(b"\x7fELF")


@pytest.fixture(scope="module")
def bare() -> Iterator[str]:
    """Have an image that holds nothing but an empty directory."""
    tar = subprocess.run(
        ["tar", "-c", "--no-recursion", "-C", "/", "tmp"], capture_output=True, check=True
    ).stdout
    yield docker("import", "-", "relink-bare", content=tar)
    docker("image", "rm", "--force", "relink-bare")


@pytest.fixture
def compose(tools: Path, bare: str, tmp_path: Path) -> Iterator[Compose]:  # noqa: ARG001 - its image
    files = tmp_path / "files"
    (files / "etc").mkdir(parents=True)
    (files / "etc/greeting").write_text("{{GREETING}} {{UNSET}}\n")
    with project(FILE, "relink-tools", {"TOOLS": str(tools), "FILES": str(files)}) as made:
        yield made


def code_of(container: Container) -> int | None:
    """Return the exit code of a container, None while it runs."""
    state = container.inspect()["State"]
    return None if state["Running"] else state["ExitCode"]


@pytest.mark.proves(
    "wait -i",
    "wait -I",
    "wait -t",
    "wait -6",
    "wait several hosts",
    "wait --ready",
    "wait -- COMMAND",
    "wait without a shell",
    "copy -T",
    "copy unset variable",
    "copy -- COMMAND",
    "copy without a shell",
)
def test_each_form_waits_for_its_links_and_its_server(compose: Compose) -> None:
    # First they wait; the sidecar comes later.
    compose.up("server", "dash", "ash", "bare", "stuck")
    forms = {name: compose.container(name) for name in ("dash", "ash", "bare")}
    for name, container in forms.items():
        until(
            lambda each=container: "wait: waiting for interface eth0" in log_of(each.id),
            f"{name} waits",
            explain=lambda each=container: log_of(each.id),
        )
    compose.up("network")
    for name, container in forms.items():
        code = until(
            lambda each=container: (found := code_of(each)) is not None and (found,),
            f"{name} has ended",
            seconds=60,
            explain=lambda each=container: log_of(each.id) + compose.log(),
        )
        log = log_of(container.id)
        assert code == (0,), f"{name}: {log}\n{compose.log()}"
        assert "copy: /files/etc/greeting:1: UNSET is not set, and left as it is" in log
        if name != "bare":
            assert log.splitlines()[-1] == f"{GREETING} {{{{UNSET}}}}"
        assert GREETING.encode() in _copied(container, "/etc/greeting")


def _copied(container: Container, path: str) -> bytes:
    words = ("docker", "cp", f"{container.id}:{path}", "-")
    return subprocess.run(words, capture_output=True, env=environment(), check=True).stdout


@pytest.mark.proves("wait --ready", "wait --timeout names the condition")
def test_ready_is_never_said_where_a_link_is_missing_and_anew_in_each_life(
    compose: Compose,
) -> None:
    compose.up("network", "server", "dash", "stuck")
    stuck, dash = compose.ps(all_=True)["stuck", 1], compose.ps(all_=True)["dash", 1]
    until(lambda: code_of(stuck) is not None, "stuck has given up", explain=compose.log)
    assert code_of(stuck) == 124
    assert log_of(stuck.id).splitlines()[-1] == (
        "wait: timed out after 2 s, waiting for the links of this container to be as declared"
    )
    for life in (1, 2):
        until(
            lambda life=life: log_of(dash.id).count(f"\n{GREETING}") == life,
            f"life {life} of dash has ended",
            seconds=60,
            explain=lambda: log_of(dash.id) + compose.log(),
        )
        until(lambda: code_of(dash) == 0, "it has ended")
        docker("start", dash.id)


@pytest.mark.proves("wait --ready")
def test_what_is_told_keeps_no_dead_container_alive(compose: Compose) -> None:
    """The sidecar holds a socket in each container that it has told; it goes with the container."""
    compose.up("network", "server")
    server, sidecar = compose.container("server"), compose.container("network")
    until(
        lambda: "@relink/ready/" in server.in_network("cat", "/proc/net/unix"),
        "the server is told",
        explain=compose.log,
    )
    assert "server_1-eth0" in sidecar.interfaces()
    docker("kill", server.id)
    until(lambda: "server_1-eth0" not in sidecar.interfaces(), "its link is gone", seconds=5)
