"""The words of `relink-start`. What they start: tests/docker/test_relink_start.py."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from model.problems import ConfigError
from tools.start.command import socket_of

START = Path(sys.executable).with_name("relink-start")
CAPABILITIES = (
    "--cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add NET_BROADCAST "
    "--security-opt apparmor=unconfined"
)


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Desk:
    """A directory with a network file and a socket, and programs named docker and podman."""

    root: Path

    def start(self, *words: str, under: Sequence[str] = (), **variables: str) -> Result:
        environment = {"PATH": f"{self.root}/bin:/usr/bin:/bin", **variables}
        done = subprocess.run(
            [*under, START, *words],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def command(self, *words: str, **variables: str) -> str:
        """Return what --dry-run prints."""
        result = self.start("--dry-run", *words, **variables)
        assert (result.code, result.err) == (0, ""), result
        return result.out.removesuffix("\n")

    def refused(self, *words: str, under: Sequence[str] = (), **variables: str) -> str:
        result = self.start(*words, under=under, **variables)
        assert (result.code, result.out) == (1, ""), result
        said, end, _ = result.err.rpartition("\nNothing was started.\n")
        assert end, result.err
        return said


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    root = tmp_path / "my desk"
    (root / "bin").mkdir(parents=True)
    for name in ("docker", "podman"):
        program = root / "bin" / name
        program.write_text(f'#!/bin/sh\necho "{name}: $# words"\nprintf "<%s>" "$@"\nexit 5\n')
        program.chmod(0o755)
    for name in ("net.yaml", "compose.yaml", "schema.json"):
        (root / name).write_text("{}")
    (root / "sub").mkdir()
    (root / "sub" / "more.yaml").write_text("{}")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(root)  # the name of a socket may have 108 bytes
        try:
            listening.bind("sock")
        finally:
            os.chdir(here)
        yield Desk(root)


@pytest.mark.proves(
    "relink-start --dry-run",
    "relink-start --mode",
    "relink-start --host-mode",
    "relink-start --network-file",
    "relink-start --docker-socket",
    "relink-start -- OPTIONS OF run",
    "relink-start names with spaces",
)
def test_the_whole_command_for_docker(desk: Desk) -> None:
    words = ("-v", "--mode", "docker", "--host-mode", "docker", "--network-file", "net.yaml")
    given = ("--name", "network", "--rm", "-e", "NODE_NAME_1=it's one")
    place = f"{desk.root}/sock"
    assert desk.command(*words, "--docker-socket", "sock", "--", *given) == (
        f"docker run --pid host --network none {CAPABILITIES} "
        f"--volume '{place}:/var/run/docker.sock' --volume '{desk.root}:/host{desk.root}:ro' "
        "--name network --rm -e 'NODE_NAME_1=it'\"'\"'s one' "
        f"relink reconcile --network-file '/host{desk.root}/net.yaml' -v"
    )


@pytest.mark.proves(
    "relink-start --dry-run",
    "relink-start --mode",
    "relink-start --network-file",
    "relink-start --podman-socket",
    "relink-start names with spaces",
)
def test_the_whole_command_for_podman(desk: Desk) -> None:
    place = f"{desk.root}/sock"
    words = ("--mode=podman", "--podman-socket", "sock", "--network-file=net.yaml")
    assert desk.command(*words) == (
        f"podman run --pid host --network none {CAPABILITIES} --security-opt label=disable "
        f"--volume '{place}:/var/run/podman/podman.sock' "
        f"--volume '{desk.root}:/host{desk.root}:ro' "
        f"relink reconcile --network-file '/host{desk.root}/net.yaml'"
    )


@pytest.mark.proves("relink-start --dry-run", "relink-start exit code of the engine")
def test_what_a_dry_run_prints_is_what_is_started(desk: Desk) -> None:
    words = ("--network-file", "net.yaml", "--docker-socket", "sock", "--", "-e", "A=$(id) `id`;")
    printed = shlex.split(desk.command(*words))
    ran = desk.start(*words)
    assert ran.code == 5, "the exit code is the engine's"
    assert ran.out.splitlines()[0] == f"docker: {len(printed) - 1} words"
    assert ran.out.splitlines()[1] == "".join(f"<{word}>" for word in printed[1:])
    pasted = subprocess.run(
        ["sh", "-c", desk.command(*words)],
        env={"PATH": f"{desk.root}/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (pasted.stdout, pasted.returncode) == (ran.out, 5)


@pytest.mark.proves(
    "relink-start --mode", "relink-start --host-mode", "relink-start the engine that is there"
)
def test_the_engine_that_is_watched_and_the_one_that_runs_the_sidecar(desk: Desk) -> None:
    words = ("--network-file", "net.yaml", "--podman-socket", "sock", "--docker-socket", "sock")
    both = desk.command(*words, "--mode", "podman", "--host-mode", "docker")
    assert both.startswith("docker run ")
    assert ":/var/run/podman/podman.sock" in both
    assert "docker.sock" not in both
    assert "label=disable" not in both
    (desk.root / "bin" / "docker").unlink()
    only = desk.start(*words, "--dry-run", PATH=f"{desk.root}/bin")
    assert only.out.startswith("podman run "), "with podman alone podman is meant"


@pytest.mark.proves(
    "relink-start --network-file",
    "relink-start --network-config",
    "relink-start --compose-file",
    "relink-start --config-schema",
)
def test_files_of_all_kinds_keep_their_order_and_are_mounted_by_directory(desk: Desk) -> None:
    (desk.root / "link.yaml").symlink_to("sub/more.yaml")
    inside = f"/host{desk.root}"
    words = ("--compose-file", "compose.yaml", "--network-config", "net.yaml:sub/more.yaml",
             "--config-schema=schema.json", "--network-file", "link.yaml")  # fmt: skip
    found = shlex.split(desk.command(*words, "--docker-socket", "sock"))
    start = found.index("reconcile") + 1
    assert found[start:] == [
        *("--compose-file", f"{inside}/compose.yaml"),
        *("--network-config", f"{inside}/net.yaml"),
        *("--network-config", f"{inside}/sub/more.yaml"),
        *("--config-schema", f"{inside}/schema.json"),
        *("--network-file", f"{inside}/sub/more.yaml"),  # what the link leads to
    ]
    volumes = [found[n + 1] for n, word in enumerate(found) if word == "--volume"]
    assert volumes[1:] == [f"{desk.root}:{inside}:ro", f"{desk.root}/sub:{inside}/sub:ro"]


@pytest.mark.parametrize(
    "options",
    [
        *(
            pytest.param(words, marks=pytest.mark.proves(f"relink-start {words[0]}"))
            for words in (("-v",), ("--verbose",), ("--compose-project", "my project"))
        ),
        ("--default-bridge-mode", "linux", "--default-mtu", "1500", "--keep-veth-offload"),
        ("--dataplane=host", "-v", "--compose-project=p"),
    ],
)
@pytest.mark.proves("relink-start OPTIONS OF reconcile")
def test_options_of_reconcile_are_handed_on_as_they_are(
    desk: Desk, options: tuple[str, ...]
) -> None:
    found = desk.command("--network-file", "net.yaml", "--docker-socket", "sock", *options)
    assert found.endswith("net.yaml' " + shlex.join(options))


@pytest.mark.parametrize("network", [("--network", "bridge"), ("--network=bridge",), ("--net=x",)])
@pytest.mark.proves("relink-start -- OPTIONS OF run")
def test_a_network_of_ones_own_takes_the_place_of_none(
    desk: Desk, network: tuple[str, ...]
) -> None:
    words = ("--network-file", "net.yaml", "--docker-socket", "sock", "--", *network)
    found = desk.command(*words)
    assert "--network none" not in found
    assert f" {shlex.join(network)} relink reconcile " in found


@pytest.mark.proves("relink-start --image", "relink-start RELINK_IMAGE")
def test_the_image_by_option_or_environment(desk: Desk) -> None:
    words = ("--network-file", "net.yaml", "--docker-socket", "sock")
    assert " mine:1 reconcile " in desk.command(*words, RELINK_IMAGE="mine:1")
    assert " its:2 reconcile " in desk.command(*words, "--image", "its:2", RELINK_IMAGE="mine:1")


def test_where_sockets_are() -> None:
    def at(engine: str, uid: int, **environment: str) -> str:
        return str(socket_of(engine, environment, uid))

    assert at("docker", 1000) == "/var/run/docker.sock"
    assert at("docker", 0, DOCKER_HOST="unix:///run/user/5/docker.sock") == (
        "/run/user/5/docker.sock"
    )
    assert at("podman", 0, XDG_RUNTIME_DIR="/run/user/0") == "/var/run/podman/podman.sock"
    assert at("podman", 1000) == "/run/user/1000/podman/podman.sock"
    assert at("podman", 1000, XDG_RUNTIME_DIR="/x") == "/x/podman/podman.sock"
    assert at("podman", 1000, CONTAINER_HOST="unix:///y") == "/y"
    with pytest.raises(ConfigError, match="DOCKER_HOST: 'tcp://h:1' is not on this machine"):
        at("docker", 0, DOCKER_HOST="tcp://h:1")


@pytest.mark.parametrize(
    ("mode", "uid", "variables", "socket_path"),
    [
        ("docker", 0, {}, "/var/run/docker.sock"),
        ("docker", 1000, {}, "/var/run/docker.sock"),
        pytest.param(
            *("docker", 1000, {"DOCKER_HOST": "unix:///run/user/5/docker.sock"}),
            "/run/user/5/docker.sock",
            marks=pytest.mark.proves("relink-start DOCKER_HOST"),
        ),
        ("podman", 0, {"XDG_RUNTIME_DIR": "/run/user/0"}, "/var/run/podman/podman.sock"),
        pytest.param(
            *("podman", 1000, {}, "/run/user/1000/podman/podman.sock"),
            marks=pytest.mark.proves("relink-start podman without root"),
        ),
        pytest.param(
            *("podman", 1000, {"XDG_RUNTIME_DIR": "/run/x y"}, "/run/x y/podman/podman.sock"),
            marks=pytest.mark.proves("relink-start podman without root"),
        ),
        pytest.param(
            *("podman", 1000, {"CONTAINER_HOST": "unix:///run/y"}, "/run/y"),
            marks=pytest.mark.proves("relink-start CONTAINER_HOST"),
        ),
    ],
)
@pytest.mark.proves("relink-start the engine's usual socket")
def test_a_socket_is_looked_for_where_the_engine_s_client_does(
    desk: Desk, mode: str, uid: int, variables: dict[str, str], socket_path: str
) -> None:
    """On a machine without any, which is why it is named."""
    empty = 'mount -t tmpfs tmpfs /run && exec unshare --user --map-user="$0" "$@"'
    said = desk.refused(
        *("--network-file", "net.yaml", "--mode", mode),
        under=("/usr/bin/unshare", "--mount", "sh", "-c", empty, str(uid)),
        **variables,
    )
    assert said.startswith(f"{socket_path}: there is no socket; ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "relink-start: give --network-file or --compose-file: nothing says what to connect"),
        (
            ("--network-file", "none.yaml:sub"),
            (
                "none.yaml: there is no such file, though --network-file names it\n"
                "sub: is not a file, though --network-file names it"
            ),
        ),
        (
            ("--network-file", "net.yaml", "--docker-socket", "none"),
            (
                "{root}/none: there is no socket; start dockerd, or name its socket with "
                "--docker-socket"
            ),
        ),
        (
            ("--network-file", "net.yaml", "--mode", "podman", "--podman-socket", "none"),
            (
                "{root}/none: there is no socket; start podman's service, as with 'podman system "
                "service --time=0 &', or name its socket with --podman-socket"
            ),
        ),
        (
            ("--network-file", "net.yaml", "--docker-socket", "net.yaml"),
            "{root}/net.yaml: is not a socket",
        ),
    ],
)
@pytest.mark.proves("relink-start no file, no socket")
def test_what_is_wrong_is_told_and_nothing_started(
    desk: Desk, words: tuple[str, ...], said: str
) -> None:
    own = () if "--docker-socket" in words else ("--docker-socket", "sock")
    assert desk.refused(*words, *own) == said.format(root=desk.root)
    assert desk.refused("--dry-run", *words, *own) == said.format(root=desk.root)


@pytest.mark.proves("relink-start DOCKER_HOST")
def test_an_engine_that_is_elsewhere_is_refused(desk: Desk) -> None:
    assert desk.refused("--network-file", "net.yaml", DOCKER_HOST="ssh://there") == (
        "DOCKER_HOST: 'ssh://there' is not on this machine; the sidecar needs a unix:// socket"
    )


@pytest.mark.proves("relink-start no engine")
def test_programs_that_are_not_there_or_none(desk: Desk) -> None:
    words = ("--network-file", "net.yaml", "--docker-socket", "sock")
    (desk.root / "bin" / "docker").write_bytes(b"\x7fELF nothing")
    broken = desk.start(*words, PATH=f"{desk.root}/bin")
    assert broken.code == 126
    assert broken.err == "relink-start: docker: Exec format error\n"
    (desk.root / "bin" / "docker").unlink()
    absent = desk.start(*words, "--mode", "docker", PATH=f"{desk.root}/bin")
    assert absent.code == 127
    assert absent.err == "There is no program docker.\nNothing was started.\n"


@pytest.mark.proves("relink-start wrong words")
def test_wrong_words(desk: Desk) -> None:
    result = desk.start("--mode", "lxc")
    assert result.code == 1
    assert "argument --mode: invalid choice: 'lxc'" in result.err
    assert result.err.endswith("Try 'relink-start --help'.\n")


@pytest.mark.proves("relink-start help")
def test_help_fits_a_screen_and_teaches(desk: Desk) -> None:
    result = desk.start("--help")
    assert result.code == 0
    lines = result.out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 100
    assert "rootless" in result.out
    assert "exit codes:" in result.out


@pytest.mark.proves("relink-start no file, no socket")
def test_a_directory_that_no_engine_can_mount_is_said(desk: Desk) -> None:
    (desk.root / "a:b").mkdir()
    (desk.root / "a:b/net.yaml").write_text("{}")
    (desk.root / "link").symlink_to("a:b")
    said = desk.refused("--docker-socket", "sock", "--network-file", "link/net.yaml")
    assert said == "link/net.yaml: a directory with ':' in its path cannot be mounted"
