"""The command line without a world: words in, words and an exit code out."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler import control
from reconciler.arguments import parse, parser
from reconciler.cli import main
from reconciler.programs import PROGRAMS, parser_of

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    for name in ("VERBOSE", "CONLINK_BRIDGE_MODE", "COMPOSE_PROJECT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text("links: [{service: a, bridge: s1, ip: 10.0.0.1/24}]\n")
    Path("more.yaml").write_text("links: [{service: b, bridge: s1, ip: 10.0.0.9/24}]\n")

    def go(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        out, err = capsys.readouterr()
        return code, out, err

    return go


def commands() -> list[tuple[str, ...]]:
    """Every command of every console command, and the console commands themselves."""
    found: list[tuple[str, ...]] = []
    for program in PROGRAMS:
        found.append((program,))
        for action in parser_of(program)._actions:
            if isinstance(action, argparse._SubParsersAction):
                found += [(program, name) for name in action.choices]
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_teaches_and_fits_a_screen(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A screen is 80 x 24: what it does, an example, exit codes, and what is used most."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        parser_of(words[0]).parse_args([*words[1:], "--help"])
    out, err = capsys.readouterr()
    assert (stop.value.code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) <= 23  # the prompt takes the last
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"usage: {' '.join(words)} ")
    assert len(lines[2]) > 30, "no word of what it does"
    assert "example" in out
    assert "exit codes:" in out
    (example,) = re.findall(rf"^  (?:eval \"\$\()?({words[0]} .*)$", out, re.MULTILINE)[-1:]
    assert example.startswith(" ".join(words))


def test_the_whole_help_has_every_option(run: Run) -> None:
    code, whole, _ = run("--help-all")
    assert code == 0
    shown = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", whole, re.MULTILINE))
    assert shown == {
        flag for action in parser()._actions for flag in action.option_strings if flag[1] == "-"
    }
    _, status, _ = run("status", "--help-all")
    assert "--dataplane" in status
    assert "--dataplane" not in run("status", "--help")[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give --network-file or --compose-file"),
        (("--network-file", "net.yaml", "--onse"), "unrecognized arguments: --onse"),
        (("--network-file", "net.yaml", "--once", "--dry-run"), "choose one"),
        (("--network-file", "net.yaml", "--default-mtu", "70000"), "from 68 to 65535"),
        (("--network-file", "net.yaml", "--interval", "soon"), "from 0.1 to 86400"),
        (("--network-file", "net.yaml", "--runtime", "lxc"), "invalid choice: 'lxc'"),
        (("frobnicate",), "invalid choice: 'frobnicate'"),
        (("status",), "no sidecar runs here"),
        (("--network-file", "none.yaml", "validate"), "none.yaml: cannot be read"),
        (("--network-file", "net.yaml", "--docker-socket", "/x", "--podman-socket", "/y"),
         "no container engine: neither /x nor /y exists"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_an_error_that_says_what_to_do(
    run: Run, words: tuple[str, ...], says: str
) -> None:
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert says in err
    assert "Traceback" not in err


def test_a_wrong_environment_is_an_error_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONLINK_BRIDGE_MODE", "token-ring")
    code, _, err = run("--network-file", "net.yaml", "validate")
    assert code == 1
    assert "CONLINK_BRIDGE_MODE must be one of auto, linux, ovs, patch" in err


def test_validate_counts_and_names_every_error(run: Run) -> None:
    assert run("validate", "--network-file", "net.yaml:more.yaml")[:2] == (
        0, "Valid: 2 links, 1 bridge.\n",
    )  # fmt: skip
    Path("bad.yaml").write_text("links: [{service: a, brigde: s1, ip: 10.0.0.300/24}]\n")
    code, out, err = run("validate", "--network-file", "bad.yaml")
    assert (code, out) == (1, "")
    assert "bad.yaml:1:" in err
    assert "nothing was changed." in err


def test_show_config_is_the_merged_configuration(run: Run) -> None:
    for words in (("show-config",), ("--show-config",)):
        code, out, _ = run(*words, "--network-file", "net.yaml", "--network-config", "more.yaml")
        assert code == 0
        assert [link["service"] for link in json.loads(out)["links"]] == ["a", "b"]


def test_schema_is_a_json_schema(run: Run) -> None:
    code, out, _ = run("schema")
    assert code == 0
    assert json.loads(out)["title"] == "Relink network file"
    assert json.loads(out)["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert "x-network" in json.loads(run("schema", "--compose")[1])["properties"]


def test_options_may_stand_before_the_command_and_after_it(run: Run) -> None:
    words = ("--network-file", "net.yaml", "show-config", "--network-config", "more.yaml")
    code, out, _ = run(*words)
    assert code == 0
    assert [link["service"] for link in json.loads(out)["links"]] == ["a", "b"]
    options = parse(
        ["--runtime", "netns", "--default-mtu", "1400", "status", "--runtime", "podman"]
    )
    assert (options.runtime, options.default_mtu) == (["netns", "podman"], 1400)
    assert parse(["status", "--default-mtu", "1400"]).default_mtu == 1400
    assert parse(["status", "--runtime", "netns"]).runtime == ["netns"]
    assert parse(["--runtime", "netns", "status"]).runtime == ["netns"]


@pytest.mark.parametrize("words", [(), ("status",)])
def test_without_a_runtime_named_the_engines_that_are_there_are_meant(
    run: Run, words: tuple[str, ...]
) -> None:
    assert parse(words).runtime is None
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind("engine.sock")
        deaf.listen()
        deaf.close()
        options = ("--docker-socket", "engine.sock", "--podman-socket", "/y")
        code, _, err = run(*words, *options, "--network-file", "net.yaml",
                           *(() if words else ("--dry-run",)))  # fmt: skip
    assert code == 1
    assert "engine.sock" in err
    assert "no container engine" not in err


def test_an_option_of_another_command_is_refused(run: Run) -> None:
    code, out, err = run("schema", "--once")
    assert (code, out) == (1, "")
    assert "unrecognized arguments: --once" in err


def test_version_is_quick_because_it_imports_nothing(run: Run) -> None:
    assert run("--version")[1].startswith("relink ")
    script = (
        "import sys; from reconciler.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'pyroute2','docker','deepdiff','structlog','yaml','aiohttp','jsonschema'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_closed_pipe_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)  # as `reconcile schema | true`
    done = subprocess.run(
        [sys.executable, "-m", "reconciler.cli", "schema"],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_control_socket_goes_where_its_owner_may_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.access", lambda _path, _mode: False)  # /run is somebody else's
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert control.directory() == tmp_path / "relink"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert str(os.getuid()) in str(control.directory())


def test_a_socket_that_a_killed_sidecar_left_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(control, "directory", lambda: tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(tmp_path / "alive.sock"))
        alive.listen()
        assert control.instances() == ["alive"]
    assert control.ask("dead") is None
    assert control.ask("none") is None
