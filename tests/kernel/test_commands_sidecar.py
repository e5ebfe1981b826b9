"""Declared commands: once in a container's life, when its links are as declared, side by side."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.lab import Lab

LINKS = """
links:
- {service: node, bridge: s1, ip: 10.0.0.1/16}
"""
QUIET = ("--interval", "3600")
HOSTILE = [
    "a b", "$(touch owned)", "`id`", "; reboot", "'", '"', "\\", "-n", "--", "", "*", "~",
    "line\nline", "tab\t", "caf\u00e9 \u2603", "\x1b[31m", "%s", "{{x}}", "| cat", "&&", ">x",
]  # fmt: skip
REPR = "import sys; [print(ascii(word)) for word in sys.argv[1:]]"


def net(*commands: dict[str, Any], links: str = LINKS) -> str:
    """`$` is for variables of the configuration unless it is doubled."""
    text = json.dumps(list(commands), ensure_ascii=True).replace("$", "$$")
    return f"{links}commands: {text}\n"


def status(lab: Lab) -> list[dict[str, Any]]:
    answer = lab.reconcile("status", "--output", "json")
    if not answer.stdout:
        return []  # it has not begun to listen
    found: list[dict[str, Any]] = json.loads(answer.stdout)["commands"]
    return found


def codes(lab: Lab) -> dict[str, list[int | None]]:
    found: dict[str, list[int | None]] = {}
    for each in status(lab):
        found.setdefault(each["container"], []).append(each["code"])
    return found


def ended(lab: Lab) -> bool:
    """Every declared command has ended, as the kernel keeps it."""
    found = status(lab)
    return bool(found) and all(each["state"] == "ended" for each in found)


def lines(lab: Lab, container: str) -> list[str]:
    return [
        event["line"]
        for event in lab.events()
        if event["event"] == "command_output" and event["container"] == container
    ]


def logged(lab: Lab, word: str) -> Path:
    """A file that a command appends a line to each time that it runs."""
    return lab.directory / word


def appends(path: Path, word: str = "ran") -> dict[str, Any]:
    return {"service": "node", "command": ["sh", "-c", 'echo "$1" >>"$0"', str(path), word]}


@pytest.mark.proves("command list", "command string")
def test_lists_and_strings_run_once_the_links_are_there(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    lab.config(
        net(
            {"service": "node", "command": ["ip", "-br", "addr", "show", "dev", "eth0"]},
            {"container": "node_2", "command": "echo one; echo two >&2; exit 3"},
        )
    )
    with lab.sidecar(*QUIET):
        lab.wait_for(lambda: lab.log().count("command_ended") == 3)
        assert "10.0.0.1/16" in lines(lab, "node_1")[0]
        assert {"one", "two"} < set(lines(lab, "node_2"))
        assert any("10.0.0.2/16" in line for line in lines(lab, "node_2"))
        lab.wait_for(lambda: ended(lab))
        assert {ns: sorted(each) for ns, each in codes(lab).items()} == {
            "node_1": [0], "node_2": [0, 3],
        }  # fmt: skip
        failed = [e for e in lab.events() if e["event"] == "command_ended" and e["code"]]
        assert [(e["container"], e["code"], e["level"]) for e in failed] == [
            ("node_2", 3, "warning")
        ]
        text = lab.reconcile("status").stdout.splitlines()
        table = text[next(n for n, line in enumerate(text) if line.startswith("CONTAINER")) :]
        assert table[0].split() == ["CONTAINER", "STATE", "CODE", "COMMAND"]
        assert {tuple(line.split()[:3]) for line in table[1:]} == {
            ("node_1", "ended", "0"), ("node_2", "ended", "0"), ("node_2", "ended", "3"),
        }  # fmt: skip
        assert "sh -c 'echo one; echo two >&2; exit 3'" in "\n".join(table)
        # The links are connected, whatever became of the commands.
        assert lab.reconcile("status").returncode == 0


def test_the_log_tells_of_the_links_before_what_their_commands_say(lab: Lab) -> None:
    lab.add(*(f"node_{n}" for n in range(1, 11)))
    lab.config(net({"service": "node", "command": "echo hello"}))
    with lab.sidecar(*QUIET):
        lab.wait_for(lambda: lab.log().count("command_ended") == 10)
        told = [event["event"] for event in lab.events()]
        connected = told.index("All links connected")
        assert "created" in told[:connected]
        assert "created" not in told[connected:]
        assert {"command_output", "command_ended"}.isdisjoint(told[:connected])
        assert told[connected:].count("command_output") == 10


def test_hostile_words_reach_the_program_as_they_are(lab: Lab) -> None:
    lab.add("node_1")
    lab.config(net({"service": "node", "command": ["python3", "-c", REPR, *HOSTILE]}))
    with lab.sidecar(*QUIET):
        lab.wait_for(lambda: ended(lab))
        assert lines(lab, "node_1") == [ascii(word) for word in HOSTILE]
        assert status(lab)[0]["command"][3:] == HOSTILE
        text = lab.reconcile("status").stdout
        assert "\x1b[31m" not in text
        assert "\nline" not in text
    assert not Path("owned").exists()


def test_commands_run_side_by_side(lab: Lab) -> None:
    """Each waits for the other, by two pipes."""
    lab.add("node_1", "node_2")
    there, back = lab.directory / "there", lab.directory / "back"
    for path in (there, back):
        os.mkfifo(path)
    tells = ["sh", "-c", 'echo x >"$0"; cat "$1"', str(there), str(back)]
    answers = ["sh", "-c", 'cat "$0"; echo y >"$1"', str(there), str(back)]
    lab.config(
        net(
            {"container": "node_1", "command": tells},
            {"container": "node_1", "command": answers},
        )
    )
    with lab.sidecar(*QUIET):
        lab.wait_for(lambda: ended(lab))
        assert sorted(lines(lab, "node_1")) == ["x", "y"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_once_in_a_life_of_the_container_not_of_the_sidecar(lab: Lab, number: int) -> None:
    lab.add("node_1", "node_2")
    ran = logged(lab, "ran")
    lab.config(net(appends(ran)))
    for _ in range(3):
        with lab.sidecar(*QUIET, "--on-exit", "keep") as sidecar:
            lab.until_log("All links connected")
            lab.wait_for(lambda: ended(lab))
            assert codes(lab) == {"node_1": [0], "node_2": [0]}
            sidecar.send_signal(number)
            sidecar.wait(10)
    assert ran.read_text().split() == ["ran"] * 2
    with lab.sidecar(*QUIET):
        lab.wait_for(lambda: ended(lab))
        lab.restart("node_1")
        lab.wait_for(lambda: len(ran.read_text().split()) == 3)
        lab.wait_for(lambda: codes(lab) == {"node_1": [0], "node_2": [0]})
        assert len(ran.read_text().split()) == 3


def test_a_container_that_restarts_20_times_runs_it_20_times(lab: Lab) -> None:
    lab.add("node_1")
    ran = logged(lab, "ran")
    lab.config(net(appends(ran)))
    with lab.sidecar(*QUIET):
        for number in range(1, 21):
            lab.wait_for(lambda n=number: ran.exists() and len(ran.read_text().split()) == n)
            lab.restart("node_1")
        lab.wait_for(lambda: len(ran.read_text().split()) == 21)
        lab.wait_for(lambda: ended(lab))
        lab.monitor.settle()
        assert len(ran.read_text().split()) == 21
        lab.remove("node_1")
        lab.wait_for(lambda: status(lab) == [])


def test_one_that_runs_on_is_told_and_not_started_again(lab: Lab) -> None:
    lab.add("node_1")
    ran, go = logged(lab, "ran"), lab.directory / "go"
    script = 'echo ran >>"$0"; while ! [ -e "$1" ]; do sleep 0.05; done; exit 7'
    lab.config(net({"service": "node", "command": ["sh", "-c", script, str(ran), str(go)]}))
    try:
        with lab.sidecar(*QUIET) as first:
            lab.wait_for(ran.exists)
            lab.wait_for(lambda: [each["state"] for each in status(lab)] == ["running"])
            first.kill()
            first.wait()
        with lab.sidecar(*QUIET):
            lab.until_log("All links connected")
            assert [(each["state"], each["code"]) for each in status(lab)] == [("started", None)]
            lab.monitor.settle()
            assert ran.read_text() == "ran\n"
    finally:
        go.touch()


def test_nothing_runs_while_a_link_of_its_container_is_blocked(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    lab.ip("node_2", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")  # not ours
    ran = logged(lab, "ran")
    lab.config(net(appends(ran, "$RELINK"), {"service": "node", "command": ["true"]}))
    with lab.sidecar(*QUIET):
        lab.until_log("not_ready")
        lab.wait_for(lambda: codes(lab)["node_1"] == [0, 0])
        assert {each["state"] for each in status(lab) if each["container"] == "node_2"} == {
            "waiting"
        }
        assert len(ran.read_text().split()) == 1
        lab.ip("node_2", "link", "del", "eth0")
        lab.until_log("All links connected")
        lab.wait_for(lambda: codes(lab)["node_2"] == [0, 0])
        assert len(ran.read_text().split()) == 2


def test_a_command_that_is_declared_later_runs_then_and_one_that_goes_is_forgotten(
    lab: Lab,
) -> None:
    lab.add("node_1")
    ran = logged(lab, "ran")
    lab.config(net(appends(ran, "first")))
    with lab.sidecar(*QUIET):
        lab.wait_for(lambda: ended(lab))
        lab.config(net(appends(ran, "first"), appends(ran, "second")))
        lab.wait_for(lambda: len(status(lab)) == 2 and ended(lab))
        assert ran.read_text().split() == ["first", "second"]
        lab.config(net(appends(ran, "second")))
        lab.wait_for(lambda: len(status(lab)) == 1)
        assert ran.read_text().split() == ["first", "second"]


def test_lines_of_commands_that_run_at_once_stay_whole(lab: Lab) -> None:
    nodes = [f"node_{n}" for n in range(1, 7)]
    lab.add(*nodes)
    file = str(lab.config(net({"service": "node", "command": ["seq", "2000"]})))
    done = lab.reconcile("--network-file", file, "--once")
    assert done.returncode == 0
    told = [line.split(": ", 1) for line in done.stderr.splitlines()]
    for node in nodes:
        assert [each[1] for each in told if each[0] == node] == [str(n) for n in range(1, 2001)]
    assert len(told) == 2000 * len(nodes)


def test_once_waits_says_what_is_printed_and_fails_with_a_command(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    file = str(lab.config(net({"service": "node", "command": "sleep 0.3; echo done"})))
    done = lab.reconcile("--network-file", file, "--once")
    assert (done.returncode, sorted(done.stderr.split("\n"))) == (
        0, ["", "node_1: done", "node_2: done"],
    )  # fmt: skip
    assert "All links connected" in done.stdout
    again = lab.reconcile("--network-file", file, "--once")
    assert (again.returncode, again.stderr) == (0, "")
    assert lab.reconcile("--network-file", file, "--dry-run").returncode == 0
    looked = json.loads(lab.reconcile("--network-file", file, "status", "--output", "json").stdout)
    assert [each["code"] for each in looked["commands"]] == [0, 0]
    lab.config(net({"container": "node_2", "command": ["sh", "-c", "echo no >&2; exit 9"]}))
    failed = lab.reconcile("--network-file", file, "--once")
    assert failed.returncode == 1
    assert failed.stderr.splitlines() == [
        "node_2: no", "node_2: sh -c 'echo no >&2; exit 9': exit code 9",
    ]  # fmt: skip
    lab.config(net({"container": "node_1", "command": ["no-such-program"]}))
    missing = lab.reconcile("--network-file", file, "--once")
    assert missing.returncode == 1
    assert "no-such-program: exit code 127" in missing.stderr


def test_another_instance_neither_sees_nor_forgets_it_and_destroy_does(lab: Lab) -> None:
    lab.add("node_1")
    ran = logged(lab, "ran")
    file = str(lab.config(net(appends(ran))))
    other = str(lab.config("links: [{container: node_1, bridge: s9, dev: eth9}]", "other.yaml"))
    assert lab.reconcile("--network-file", file, "--once").returncode == 0
    lab.instance = "another"
    assert lab.reconcile("--network-file", other, "--once").returncode == 0
    assert lab.reconcile("--network-file", other, "--destroy").returncode == 0
    lab.instance = "lab"
    assert lab.reconcile("--network-file", file, "--dry-run").returncode == 0
    assert lab.reconcile("--network-file", file, "--destroy").returncode == 0
    assert "blackhole" not in lab.ip("node_1", "route", "show", "table", "all")
    assert lab.reconcile("--network-file", file, "--once").returncode == 0
    assert ran.read_text().split() == ["ran", "ran"]
