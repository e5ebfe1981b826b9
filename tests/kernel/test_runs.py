"""What a sidecar knows of the commands that it started, until the kernel keeps it."""

from __future__ import annotations

from pathlib import Path

from model.commands import digest
from model.keys import Key
from model.replicas import Container
from model.resources import Command
from reconciler.runs import Runs
from tests.kernel.lab import Lab, container_key


def test_a_command_runs_ends_and_is_written_down(lab: Lab) -> None:
    lab.add("node_1")
    path = Path("/run/netns/node_1")
    inode = path.stat().st_ino
    ns = container_key("node_1")
    argv = ("sh", "-c", "echo hello; exit 3")
    command = Command(key=Key(ns, "command", "", digest(argv)), argv=argv)
    heard: list[object] = []
    runs = Runs(
        {}, lambda c, line: heard.append((c, line)), lambda c, code: heard.append((c, code))
    )
    runs.close()  # nothing was ever started
    assert runs.running() == frozenset()
    runs.wait()

    start = runs.starter({ns: Container("node_1", "node_1", "netns", str(path))})
    start(command, inode)
    runs.wait()
    assert heard == [(command, "hello"), (command, 3)]
    assert runs.ended == {command.key: (inode, 3)}
    assert runs.running() == frozenset()
    runs.written(command.key)
    runs.written(command.key)
    assert runs.ended == {}
    runs.close()
