"""The command line on a real kernel, in this process: what it prints, and its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from reconciler.cli import main
from tests.kernel.lab import Lab

NET = """
links:
- {service: node, bridge: s1, ip: 10.0.0.1/16}
- {service: node, bridge: s2, dev: eth1, ip: 10.9.0.1/16, netem: delay 40ms}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("VERBOSE", raising=False)
    monkeypatch.delenv("CONLINK_BRIDGE_MODE", raising=False)

    def go(*words: str) -> tuple[int, str, str]:
        file = ("--network-file", str(lab.directory / "net.yaml"))
        try:
            code = main([*file, "--runtime", "netns", "--instance", "lab", *words])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        out, err = capsys.readouterr()
        return code, out, err

    return go


def test_preview_once_preview_destroy(lab: Lab, run: Run) -> None:
    lab.add("node_1", "node_2")
    lab.config(NET.replace(", netem: delay 40ms", ""))
    code, out, _ = run("--dry-run")
    assert (code, out.splitlines()[-1]) == (
        2, "Plan: 6 to create, 0 to change, 0 to replace, 0 to delete.",
    )  # fmt: skip
    code, out, _ = run("--once")
    assert code == 0
    assert out.splitlines()[-2:] == [
        "Done: 6 created, 0 changed, 0 replaced, 0 deleted.",
        "All links connected",
    ]
    assert run("--dry-run") == (0, "Nothing to do: everything is as declared.\n", "")
    code, out, _ = run("--destroy", "--dry-run")
    assert code == 2
    assert "Plan: 0 to create, 0 to change, 0 to replace, 6 to delete." in out
    assert run("--destroy")[:2] == (0, "Removed 6 of 6.\n")
    assert run("--destroy")[:2] == (0, "Removed 0 of 0.\n")


def test_status_without_a_sidecar_looks_itself_and_says_so(lab: Lab, run: Run) -> None:
    lab.add("node_1")
    lab.config(NET)
    code, out, _ = run("status")
    assert code == 2
    assert "node_1:eth0  Pending" in out
    assert "no sidecar runs here" in out
    assert run("status", "--check")[0] == 1


def test_a_failure_that_lasts_ends_once_with_an_error(
    lab: Lab, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses: an interface index that another interface got since the look."""
    lab.add("node_1")
    lab.config(NET.replace(", netem: delay 40ms", ""))
    monkeypatch.setattr(
        "reconciler.apply._Numbers.free_index", lambda _self, _link: 1  # loopback's
    )  # fmt: skip
    code, _, err = run("--once")
    assert code == 1
    assert "node_1:eth0: Backoff" in err or "node_1:eth0: Pending" in err


def test_progress_shows_on_a_terminal_after_a_second(
    lab: Lab, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.add("node_1")
    lab.config(NET)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    clock = iter(range(0, 10_000, 2))
    monkeypatch.setattr("reconciler.commands.time.monotonic", lambda: next(clock))
    _, _, err = run("--once")
    assert " operations" in err


@pytest.mark.parametrize("instance", ["a/b", "x" * 65, "a\nb"])
def test_an_instance_that_cannot_be_a_name_is_refused(lab: Lab, run: Run, instance: str) -> None:
    lab.config(NET)
    code, _, err = run("--instance", instance, "--dry-run")
    assert code == 1
    assert "--instance" in err


def test_an_engine_that_is_absent_is_an_error_for_once(lab: Lab, run: Run) -> None:
    lab.config(NET)
    socket = str(lab.directory / "none.sock")
    code, _, err = run("--runtime", "docker", "--docker-socket", socket, "--dry-run")
    assert code == 1
    assert socket in err
    # Destroying does not need it: what is ours shows in the data plane.
    assert run("--runtime", "docker", "--docker-socket", socket, "--destroy")[0] == 0
