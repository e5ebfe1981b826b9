"""The clock of the machine is set, forwards and back, while Relink works: it goes by another."""

from __future__ import annotations

import signal
import time
from functools import partial

import pytest

from tests.kernel.lab import Lab

NET = "links: [{service: node, bridge: s1, ip: 10.0.0.1/16}]"
YEAR, DAY, HOUR = 365 * 86400.0, 86400.0, 3600.0


@pytest.mark.needs("clock")
def test_a_clock_that_jumps_is_no_matter(lab: Lab) -> None:
    """Drift is repaired at once, and what failed is tried again, whatever time it is said to be."""
    nodes = [f"node_{n}" for n in range(1, 9)]  # each drifts seldom enough to be no fight
    lab.add(*nodes)
    lab.config(NET)

    def is_mended(node: str) -> bool:
        [row] = lab.show(node, "link", "show", "dev", "eth0")
        return bool(row["mtu"] == 65535)

    real, steady = time.time(), time.monotonic()
    try:
        with lab.sidecar("--interval", "3600") as sidecar:
            lab.until_log("All links connected", 40)
            for n, jump in enumerate([YEAR, -2 * YEAR, DAY, -DAY, HOUR, -HOUR, 0.5, -0.5] * 7):
                time.clock_settime(time.CLOCK_REALTIME, time.time() + jump)
                node = nodes[n % len(nodes)]
                lab.ip(node, "link", "set", "eth0", "mtu", str(1400 + n))
                lab.wait_for(partial(is_mended, node))
            # A name that is taken is waited for; it goes, and so does the wait.
            sidecar.send_signal(signal.SIGSTOP)
            lab.ip("", "link", "delete", "node_1-eth0")
            lab.ip("", "link", "add", "node_1-eth0", "type", "bridge")
            sidecar.send_signal(signal.SIGCONT)
            lab.until_log("Conflict")
            time.clock_settime(time.CLOCK_REALTIME, time.time() - YEAR)
            lab.ip("", "link", "delete", "node_1-eth0")
            lab.wait_for(lambda: lab.addresses("node_1", "eth0") == {"10.0.0.1/16"})
    finally:
        time.clock_settime(time.CLOCK_REALTIME, real + time.monotonic() - steady)
