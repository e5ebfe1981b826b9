"""net2dot as it is called: the JSON of --show-config on stdin, a graph on stdout."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NET2DOT = [Path(sys.executable).with_name("net2dot")]


def run(given: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*NET2DOT, *words], input=given, capture_output=True, check=False, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("example", "variables", "drawn"),
    [
        pytest.param(
            *("test1", {}, ["h1", "s1", "10.1.0.100/24"]),
            marks=pytest.mark.proves("net2dot services and bridges"),
        ),
        pytest.param(
            *("test10", {}, ["forward 80:80/tcp"]),
            marks=pytest.mark.proves("net2dot forward"),
        ),
        pytest.param(
            "test5-geneve",
            {"NODE_ADDR": "10.9.0.1/24", "REMOTE": "192.0.2.2"},
            ["geneve", "192.0.2.2"],
            marks=pytest.mark.proves("net2dot tunnels"),
        ),
        pytest.param(
            "test8",
            {
                "HOST_INTERFACE": "eth7",
                "NODE1_HOST_ADDRESS": "192.0.2.5/24",
                "NODE2_HOST_ADDRESS": "192.0.3.5/24",
            },
            ["macvlan", "vlan 5", "eth7"],
            marks=pytest.mark.proves("net2dot devices of the host"),
        ),
    ],
)
@pytest.mark.proves("net2dot JSON in, a graph out", "net2dot graphviz draws it")
def test_what_show_config_prints_becomes_what_graph_prints(
    example: str, variables: dict[str, str], drawn: list[str]
) -> None:
    words = [sys.executable, "-m", "reconciler.cli", "--compose-file",
             f"examples/{example}-compose.yaml"]  # fmt: skip
    env = {**os.environ, **variables}
    shown = subprocess.run(
        [*words, "--show-config"], capture_output=True, check=True, cwd=ROOT, env=env
    )
    done = run(shown.stdout)
    assert (done.returncode, done.stderr) == (0, b"")
    parsed = subprocess.run(["dot", "-Tsvg"], input=done.stdout, capture_output=True, check=True)
    assert parsed.stderr == b""
    assert [word for word in drawn if word not in parsed.stdout.decode()] == []
    graph = subprocess.run([*words, "graph"], capture_output=True, check=True, cwd=ROOT, env=env)
    # But for the number of replicas, which is compose's and not the network's.
    alike = graph.stdout.decode().replace("node2 (×2)", "node2").replace("10.2.0.1 … 10.2.0.2/24",
                                                                         "10.2.0.1/24")  # fmt: skip
    assert done.stdout.decode() == alike


@pytest.mark.proves("net2dot words as they are")
def test_a_dollar_that_was_filled_in_already_is_left_alone() -> None:
    text = '{"links": [{"service": "a$b", "bridge": "s", "ip": "10.0.0.1/24"}]}'
    assert "a$b" in run(text.encode()).stdout.decode()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"", "(stdin):1:1: not JSON: Expecting value"),
        (b"links: []", "(stdin):1:1: not JSON: Expecting value"),
        (b"\xff", "(stdin): not UTF-8 text"),
        (b"[1]", "(stdin): expected the mapping that `reconcile --show-config` prints"),
        (b"null", "(stdin): expected the mapping that `reconcile --show-config` prints"),
        (b'{"links": {}}', "(stdin):1:11: 'links' is a mapping, not a list"),
        (b'{"links": [\n {"service": "a"}]}', "(stdin):2:2: a veth link needs 'bridge'"),
        (b'{"lnks": []}', "unknown key 'lnks'"),
        (b"[" * 100_000, "(stdin): nested too deeply"),
    ],
)
@pytest.mark.proves("net2dot bad input")
def test_bad_input_is_an_error_with_its_place(given: bytes, says: str) -> None:
    done = run(given)
    assert (done.returncode, done.stdout) == (1, b"")
    error = done.stderr.decode()
    assert says in error
    assert error.startswith("net2dot: ")
    assert "Traceback" not in error


@pytest.mark.proves("net2dot help", "net2dot wrong words")
def test_help_teaches_and_a_wrong_word_is_an_error() -> None:
    helped = run(b"", "--help").stdout.decode()
    assert "net2dot < net.json | dot -Tsvg > net.svg" in helped
    wrong = run(b"{}", "--colour")
    assert (wrong.returncode, wrong.stdout) == (1, b"")
    assert "net2dot: unknown: --colour" in wrong.stderr.decode()


@pytest.mark.proves("net2dot nothing on stdin")
def test_a_terminal_is_told_what_to_give_instead_of_waiting_for_ever() -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        NET2DOT, stdin=theirs, capture_output=True, text=True, check=False, cwd=ROOT, timeout=30
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 1
    assert "give it what `reconcile show-config` prints" in done.stderr
