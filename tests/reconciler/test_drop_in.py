"""A conlink user changes the image name and nothing else: the same options, words, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.arguments import parse
from reconciler.cli import main

NET = "links: [{service: a, bridge: s1, ip: 10.0.0.1/24, route: [default via 10.0.0.254]}]\n"
COMPOSE = """\
services:
  network: {image: relink}
  b:
    image: alpine
    x-network:
      links: [{bridge: s1, ip: 10.0.0.2/24}]
      commands: [{command: echo hello}]
x-network:
  bridges: [{bridge: s1, mode: linux}]
  tunnels: [{type: geneve, bridge: s1, remote: 192.0.2.1, vni: 7, netem: delay 10ms}]
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    for name in ("VERBOSE", "CONLINK_BRIDGE_MODE", "COMPOSE_PROJECT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(NET)
    Path("over.yaml").write_text(
        "links: [{service: a, mtu: 1400, route: [10.9.0.0/16 dev eth0]}]\n"
    )
    Path("compose.yaml").write_text(COMPOSE)

    def go(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        out, err = capsys.readouterr()
        return code, out, err

    return go


@pytest.mark.parametrize(
    "words",
    [
        ("--network-file", "net.yaml"),
        ("--network-file=net.yaml",),
        ("--network-config", "net.yaml"),
        ("--compose-file", "compose.yaml"),
        ("--network-file", "net.yaml", "--network-file", "over.yaml"),
        ("--network-file", "net.yaml:over.yaml"),
        ("--compose-file", "compose.yaml", "--network-file", "net.yaml"),
        ("--network-file", "net.yaml", "--compose-project", "demo"),
        ("--network-file", "net.yaml", "--default-mtu", "1500"),
        ("--network-file", "net.yaml", "--keep-veth-offload"),
        ("--network-file", "net.yaml", "--docker-socket", "/d", "--podman-socket", "/p"),
        ("--network-file", "net.yaml", "-v"),
        ("--network-file", "net.yaml", "--verbose"),
        *(("--network-file", "net.yaml", "--default-bridge-mode", m)
          for m in ("ovs", "linux", "patch", "auto")),
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_option_of_conlink_is_taken(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*words, "--show-config")
    assert (code, err) == (0, "")
    assert set(json.loads(out)) <= {"links", "bridges", "tunnels", "commands"}


def test_another_schema_is_checked_against(run: Run) -> None:
    code, out, _ = run("schema")
    schema = json.loads(out)
    Path("schema.json").write_text(json.dumps(schema))
    words = ("--network-file", "net.yaml", "--config-schema", "schema.json", "--show-config")
    assert run(*words)[0] == 0
    schema["properties"].pop("links")
    Path("schema.json").write_text(json.dumps(schema))
    code, _, err = run(*words)
    assert code == 1
    assert "links" in err


def test_one_of_the_two_kinds_of_file_is_needed(run: Run) -> None:
    code, out, err = run("--default-mtu", "1500")
    assert (code, out) == (1, "")
    assert "--network-file or --compose-file" in err


def test_the_defaults_are_conlinks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VERBOSE", "CONLINK_BRIDGE_MODE"):
        monkeypatch.delenv(name, raising=False)
    options = parse([])
    assert (options.default_bridge_mode, options.default_mtu) == ("auto", 65535)
    assert options.docker_socket == "/var/run/docker.sock"
    assert options.podman_socket == "/var/run/podman/podman.sock"
    assert (options.keep_veth_offload, options.verbose) == (False, False)


def test_two_options_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONLINK_BRIDGE_MODE", "patch")
    monkeypatch.setenv("VERBOSE", "1")
    options = parse([])
    assert (options.default_bridge_mode, options.verbose) == ("patch", True)
    assert parse(["--default-bridge-mode", "ovs"]).default_bridge_mode == "ovs"


def test_show_config_is_one_document_in_the_words_of_the_files(run: Run) -> None:
    """For net2dot and its like: sections as lists, a service's own link with its service."""
    words = ("--compose-file", "compose.yaml", "--network-file", "net.yaml:over.yaml")
    code, out, err = run(*words, "--show-config")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "links": [
            {"bridge": "s1", "ip": "10.0.0.2/24", "service": "b"},
            {"service": "a", "bridge": "s1", "ip": "10.0.0.1/24", "mtu": 1400,
             "route": ["default via 10.0.0.254", "10.9.0.0/16 dev eth0"]},
        ],
        "bridges": [{"bridge": "s1", "mode": "linux"}],
        "tunnels": [{"type": "geneve", "bridge": "s1", "remote": "192.0.2.1", "vni": 7,
                     "netem": "delay 10ms"}],
        "commands": [{"command": "echo hello", "service": "b"}],
    }  # fmt: skip


@pytest.mark.kernel
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_life_in_conlinks_words(tmp_path: Path, number: signal.Signals) -> None:
    """`/app/build/conlink.js OPTIONS` of a compose file, in a world of its own."""
    (tmp_path / "net.yaml").write_text("links: [{container: a, bridge: s1, ip: 10.0.0.1/24}]\n")
    (tmp_path / "conlink.js").write_text(
        f"#!{sys.executable}\nimport sys\nfrom reconciler.cli import main\nsys.exit(main())\n"
    )
    (tmp_path / "conlink.js").chmod(0o755)
    world = (
        "mount -t tmpfs tmpfs /run && mkdir -p /run/netns && ip netns add a && "
        'exec "$0" --runtime netns --network-file "$1" --default-bridge-mode linux'
    )
    with subprocess.Popen(
        ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", world,
         str(tmp_path / "conlink.js"), str(tmp_path / "net.yaml")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as sidecar:  # fmt: skip
        assert sidecar.stdout
        limit = threading.Timer(60, sidecar.kill)
        limit.start()
        said = []
        for line in sidecar.stdout:  # to its end, should it end first
            said.append(line)
            if "All links connected" in line:
                sidecar.send_signal(number)
        limit.cancel()
        assert sidecar.wait(20) == 0, "".join(said)
    assert sum("All links connected" in line for line in said) == 1, "".join(said)
