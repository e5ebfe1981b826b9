"""Which kernel runs and what it can do: asked by making the thing, never by its version.

Knows nothing of tests. A name here is what `@pytest.mark.needs` takes.
"""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

CLONE_NEWNET = 0x40000000  # linux/sched.h
# A kernel of tests/lab/guest.py was started with these words, and runs on this.
STARTED = "RELINK_RUN="
GUESTS = {"uml": ("/proc/cpuinfo", "User Mode Linux"),
          "qemu": ("/sys/class/dmi/id/sys_vendor", "QEMU")}  # fmt: skip

CLOCK = "clock"  # one that may be set, because it is nobody else's
_CHILD = "ip link add link parent name probe type"
_NEW = "ip link add probe type"
# Each is run in a namespace of its own that has one interface, `parent`.
PROBES = {
    "8021q": f"{_CHILD} vlan id 5",
    "dummy": f"{_NEW} dummy",
    "geneve": f"{_NEW} geneve id 5 remote 192.0.2.1",
    "ipvlan": f"{_CHILD} ipvlan",
    "ipvtap": f"{_CHILD} ipvtap",
    "macvlan": f"{_CHILD} macvlan",
    "macvtap": f"{_CHILD} macvtap",
    "netem": "tc qdisc add dev parent root netem delay 1ms",
    "openvswitch": "genl ctrl get name ovs_datapath",
    "vxlan": f"{_NEW} vxlan id 5 remote 192.0.2.1 dstport 4789",
}


@cache
def guest() -> str:
    """Return `uml` or `qemu` on a kernel of tests/lab/guest.py, empty on the machine's own."""
    if STARTED not in Path("/proc/cmdline").read_text():
        return ""
    [name] = [
        name
        for name, (file, words) in GUESTS.items()
        if Path(file).exists() and words in Path(file).read_text()
    ]
    return name


def kernel() -> str:
    """Return the name of this environment in the ledger, as `kernel 6.18.1` or `uml 6.1.9`."""
    return f"{guest() or 'kernel'} {platform.release()}"


@cache
def has(feature: str) -> bool:
    """Probe a feature of the kernel, once.

    Without the right to make a namespace there is none.

    Raises:
        ValueError: no such name.
        FileNotFoundError: the tool that asks is not installed.
    """
    if feature == CLOCK:  # to try it would set the machine's
        return bool(guest())
    if feature not in PROBES:
        raise ValueError(
            f"needs({feature!r}): no such feature; there are {', '.join([*PROBES, CLOCK])}"
        )
    words = PROBES[feature].split()
    if shutil.which(words[0]) is None:
        raise FileNotFoundError(f"{words[0]} is not installed; scripts/prepare test does it")
    with ThreadPoolExecutor(1) as thread:  # whose namespace goes with it
        return thread.submit(_probe, words).result()


def _probe(words: list[str]) -> bool:
    if ctypes.CDLL(None).unshare(CLONE_NEWNET):
        return False
    parent = ["ip", "link", "add", "parent", "type", "veth", "peer", "name", "other"]
    return all(
        subprocess.run(each, capture_output=True, check=False).returncode == 0
        for each in (parent, words)
    )
