"""Two sidecars of one name that know nothing of each other: the second leaves the first's links."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.lab import Lab, events
from tests.lab.waiting import patient, until

NET = "links: [{service: node, bridge: s1, ip: 10.0.0.1/16}]"
# As two containers: each has a network namespace for its data plane, and a /run/relink of its own.
APART = ("unshare", "--net", "--mount", "sh", "-c",
         'mount -t tmpfs -o mode=755 tmpfs /run/relink && exec "$@"', "apart")  # fmt: skip


class Other:
    """A sidecar of the lab's instance, in a data plane of its own."""

    def __init__(self, file: Path, log: Path) -> None:
        self.log = log
        words = ["--runtime", "netns", "--instance", "lab", "--network-file", str(file)]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*APART, sys.executable, "-m", "reconciler.cli", *words, "--interval", "3600"],
                stdout=out, stderr=out,
            )  # fmt: skip

    def said(self, event: str) -> list[dict[str, str]]:
        return [told for told in events(self.log.read_text()) if told["event"] == event]

    def waits_for(self, event: str, seconds: float = 30) -> dict[str, str]:
        until(lambda: self.said(event), event, seconds=seconds, explain=self.log.read_text)
        return self.said(event)[0]


@contextmanager
def sidecar(lab: Lab, name: str) -> Iterator[Other]:
    other = Other(lab.directory / "net.yaml", lab.directory / f"{name}.log")
    try:
        yield other
    finally:
        other.process.send_signal(signal.SIGTERM)
        other.process.wait(patient(30))


@pytest.mark.kernel
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_second_of_a_name_waits_until_the_first_is_gone(lab: Lab, how: signal.Signals) -> None:
    lab.add("node_1", "node_2")
    lab.config(NET)
    with sidecar(lab, "first") as keeper:
        keeper.waits_for("All links connected")
        with sidecar(lab, "second") as waiter:
            _waits(lab, keeper, waiter, how)


def _waits(lab: Lab, keeper: Other, waiter: Other, how: signal.Signals) -> None:
    told = waiter.waits_for("not_ready")
    assert told["state"] == "Blocked"
    assert "another Relink of the same name" in told["reason"]
    indexes = [lab.index(name, "eth0") for name in ("node_1", "node_2")]
    lab.ip("node_1", "link", "set", "eth0", "mtu", "1400")  # only one puts it right
    until(lambda: (lab.link("node_1", "eth0") or {}).get("mtu") != 1400, "it is put right")
    assert [lab.index(name, "eth0") for name in ("node_1", "node_2")] == indexes
    assert all("eth0" not in told["key"] for told in waiter.said("created"))
    keeper.process.send_signal(how)
    keeper.process.wait(patient(30))
    waiter.waits_for("All links connected")
    assert lab.addresses("node_1", "eth0") == {"10.0.0.1/16"}
