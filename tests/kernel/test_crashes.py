"""What nobody expected is told with its place, lived through, and given up on after ten in a row.

The sidecar is the real one; a function at the edge of it, as the look into a namespace, raises for
what a file names. The next interpreter that starts here loads that (sitecustomize).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from reconciler.control import ask
from reconciler.crashes import EXIT, ROW
from tests.kernel.lab import Lab

NET = """
links:
- {service: node, bridge: s1, ip: 10.0.0.1/16}
- {container: server, bridge: s1, ip: 10.0.255.1/16}
"""
# A file names what crashes now, a word each; "look:NAME" is a look into that container, and
# "write:NAME" what is done about it.
CUSTOMIZE = '''
import os, sys, threading
from pathlib import Path

FAULTS = Path(os.environ["RELINK_TEST_FAULTS"])


class UnexpectedError(Exception):
    """Nobody knows this."""


def faults():
    try:
        return FAULTS.read_text().split()
    except OSError:
        return []


def wrap(module, name, wanted):
    plain = getattr(module, name)

    def raising(*args, **more):
        for each in faults():
            if wanted(each, args):
                raise UnexpectedError(f"of {each}")
        return plain(*args, **more)

    setattr(module, name, raising)


if "reconciler.cli" in sys.orig_argv:
    import reconciler.loop
    import reconciler.passes
    from observers import doorbells, plain, process
    from reconciler import status

    wrap(reconciler.passes, "observe",
         lambda fault, args: fault in {f"look:{ns}" for ns in args[0].sockets})
    wrap(reconciler.passes, "apply",
         lambda fault, args: fault in {f"write:{step.key.ns}" for step in args[0].steps})
    wrap(doorbells.KernelDoorbell, "_by_name", lambda fault, _args: fault == "kernel")
    wrap(process.ProcessWatch, "_run", lambda fault, _args: fault == "process")
    wrap(plain.Plain, "list", lambda fault, _args: fault == "list")
    wrap(plain.Plain, "watch", lambda fault, _args: fault == "watch")
    wrap(reconciler.loop, "load", lambda fault, _args: fault == "load")
    wrap(reconciler.loop, "status_data", lambda fault, _args: fault == "status")
'''

AT_THE_START = ("list", "watch", "process")


class Faults:
    """What raises from now on."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def are(self, *names: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text("\n".join(names))
        new.replace(self._file)


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    directory = tmp_path / "customized"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(CUSTOMIZE)
    monkeypatch.setenv("PYTHONPATH", f"{directory}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("RELINK_TEST_FAULTS", str(tmp_path / "faults"))
    return Faults(tmp_path / "faults")


def _told(lab: Lab, event: str) -> list[dict[str, Any]]:
    return [each for each in lab.events() if each["event"] == event]


def _status(lab: Lab) -> dict[str, Any]:
    answer = ask(lab.instance)
    assert answer is not None, lab.log()
    return answer


@pytest.mark.parametrize("moment", ["look", "write"])
def test_a_crash_over_one_container_is_confined_to_it_and_ends_when_it_can(
    lab: Lab, faults: Faults, moment: str
) -> None:
    fault = f"{moment}:node_1"
    lab.add("node_1", "server")
    lab.config(NET)
    with lab.sidecar("--interval", "3600") as sidecar:
        lab.wait_for(lambda: "All links connected" in lab.log())
        faults.are(fault)
        lab.ip("node_1", "link", "del", "eth0")
        lab.wait_for(lambda: _told(lab, "crashed"))
        lab.add("node_2")
        lab.wait_for(lambda: lab.addresses("node_2", "eth0") == {"10.0.0.2/16"})
        lab.ip("server", "addr", "flush", "dev", "eth0")
        lab.wait_for(lambda: lab.addresses("server", "eth0") == {"10.0.255.1/16"})

        first = _told(lab, "crashed")[0]
        assert first["level"] == "error"
        assert first["scope"] in ("look at node_1", "look at everything", "look at self")
        assert first["reason"] == f"UnexpectedError: of {fault}"
        assert any("in raising" in line for line in first["traceback"])
        assert any("reconciler/passes.py" in line for line in first["traceback"])
        answer = _status(lab)
        links = {link["key"]: link for link in answer["links"]}
        assert links["node_1:eth0"]["state"] == "Unknown"
        assert f"UnexpectedError: of {fault}" in links["node_1:eth0"]["message"]
        assert links["server:eth0"]["state"] == links["node_2:eth0"]["state"] == "Ready"
        assert "look at node_1" in {crash["scope"] for crash in answer["crashes"]}
        assert not answer["connected"]
        said = lab.reconcile("status", "--instance", "lab")
        assert said.returncode == 2
        assert f"times in a row: look at node_1: UnexpectedError: of {fault}" in said.stdout

        faults.are()
        lab.wait_for(lambda: lab.addresses("node_1", "eth0") == {"10.0.0.1/16"})
        lab.wait_for(lambda: _status(lab)["crashes"] == [] and _status(lab)["connected"])
        assert sidecar.poll() is None


def test_ten_crashes_in_a_row_end_the_process_and_its_links_stay(lab: Lab, faults: Faults) -> None:
    lab.add("node_1", "node_2", "server")
    lab.config(NET)
    with lab.sidecar("--interval", "3600") as sidecar:
        lab.wait_for(lambda: "All links connected" in lab.log())
        index = lab.index("server", "eth0")
        faults.are("look:node_1")
        lab.ip("node_1", "link", "del", "eth0")
        assert sidecar.wait(90) == EXIT == 70
    crashes = [each for each in _told(lab, "crashed") if each["scope"] == "look at node_1"]
    assert [each["in_a_row"] for each in crashes] == list(range(1, ROW + 1))
    waits = [each["again_in"] for each in crashes]
    assert waits == sorted(waits), "later each time"
    assert [each["exit_code"] for each in _told(lab, "gave_up")] == [70]
    assert lab.index("server", "eth0") == index
    assert lab.addresses("node_2", "eth0") == {"10.0.0.2/16"}
    faults.are()
    with lab.sidecar("--interval", "3600"):  # as an orchestrator does
        lab.wait_for(lambda: "All links connected" in lab.log())
        assert lab.index("server", "eth0") == index


@pytest.mark.parametrize(
    ("fault", "scope"),
    [
        ("kernel", "kernel events"),
        ("list", "engine netns"),
        ("watch", "events of engine netns"),
        ("load", "configuration"),
        ("process", "thread process-watch"),
        ("status", "control socket"),
    ],
)
def test_what_crashes_beside_the_passes_is_told_too_and_goes_on_afterwards(
    lab: Lab, faults: Faults, fault: str, scope: str
) -> None:
    lab.add("node_1")
    lab.config(NET)
    if fault in AT_THE_START:
        faults.are(fault)
    # A configuration waits for the tick, and nothing else does.
    with lab.sidecar("--interval", "1" if fault == "load" else "3600") as sidecar:
        if fault not in AT_THE_START:
            lab.wait_for(lambda: "All links connected" in lab.log())
            faults.are(fault)
        if fault == "kernel":
            lab.ip("", "link", "set", "node_1-eth0", "mtu", "1400")
        if fault == "load":
            lab.config(NET.replace("10.0.0.1/16", "10.0.0.9/16"))
        if fault == "status":
            # Until it can be asked, nobody knows; a question is no reason to end.
            for _ in range(ROW + 1):
                with pytest.raises(OSError, match="the sidecar answers 500"):
                    ask(lab.instance)
        lab.until_log(f'"scope": "{scope}"')
        lab.add("node_2")
        if fault == "load":
            assert "UnexpectedError" in _status(lab)["configuration_errors"][0]
        faults.are()
        second = "10.0.0.10/16" if fault == "load" else "10.0.0.2/16"
        lab.wait_for(lambda: lab.addresses("node_2", "eth0") == {second})
        lab.wait_for(lambda: "All links connected" in lab.log())
        lab.wait_for(lambda: _status(lab)["crashes"] == [])
        assert sidecar.poll() is None
