"""No packet is lost by us: a flood between two containers while things happen to Relink.

`RELINK_FAULTS=long` in the environment makes each flood half a minute, else it is two seconds. The
data plane is pinned, or the host's. What takes an engine is in tests/docker/test_no_packet_lost.py.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from actuators.ovs_daemons import Place
from tests.faults.flood import UNTOUCHED, Tally, disturbed, flood, tally
from tests.kernel.lab import CLONE_NEWNET, Lab, private_run, sh, unshare
from tests.lab.features import guest
from tests.lab.ovs import Tools

pytestmark = pytest.mark.kernel

PLANE = "relink-lab"
HOST = "relink-host"  # which is no container
PATIENCE = 60 if guest() else 20  # seconds
NET = """
bridges: [{{bridge: s1, mode: {mode}}}, {{bridge: s2, mode: linux}}]
links:
- {{container: left, bridge: s1, ip: 10.0.0.1/16, mtu: 1500}}
- {{container: right, bridge: s1, ip: 10.0.0.2/16, mtu: 1500}}
- {{service: other, bridge: {beside}, ip: 10.0.1.1/16, mtu: 1500}}
{more}
"""
# On the containers that talk, on one of their switch's neighbours, and a switch more.
MORE = """\
- {container: left, bridge: s2, dev: eth1, ip: 10.2.0.1/24, mtu: 1400, route: 10.9.0.0/16}
- {container: right, bridge: s2, dev: eth1, ip: 10.2.0.2/24, nat: 10.3.0.2}
- {service: other, bridge: s3, dev: eth1, ip: 10.4.0.1/24}
"""


@dataclass(slots=True)
class World:
    """Two containers that talk, and a Relink that things happen to."""

    lab: Lab
    mode: str
    more: str = ""
    dataplane: str = "pinned"
    within: Sequence[str] = ()  # words that start Relink somewhere else
    process: subprocess.Popen[bytes] | None = None
    running: ExitStack = field(default_factory=ExitStack)

    def write(self) -> None:
        """Write the configuration."""
        beside = "s2" if self.mode == "patch" else "s1"  # a patch has two ends
        self.lab.config(NET.format(mode=self.mode, beside=beside, more=self.more))

    def start(self) -> None:
        """Start Relink, and wait until it has found everything."""
        words = ("--interval", "3600", "--on-exit", "keep", "--dataplane", self.dataplane)
        self.process = self.running.enter_context(self.lab.sidecar(*words, through=self.within))
        self.lab.until_log("All links connected", PATIENCE)

    def end(self, number: signal.Signals) -> int:
        """Send Relink a signal that ends it; return how it ended."""
        assert self.process
        started = self.process.pid
        os.kill(_child(started) if self.within else started, number)
        code = self.process.wait(20)
        self.running.close()
        return code

    def is_killed(self) -> None:
        """Kill Relink, and start it again."""
        assert self.end(signal.SIGKILL) == -signal.SIGKILL
        self.start()

    def is_restarted(self) -> None:
        """Stop Relink in order, and start it again."""
        assert self.end(signal.SIGTERM) == 0
        self.start()

    def is_reconfigured(self) -> None:
        """Add links beside those that are in use, or take them away again."""
        self.more = "" if self.more else MORE
        wanted = {"10.4.0.1/24"} if self.more else set()
        self.write()
        self.lab.wait_for(lambda: self.lab.addresses("other_1", "eth1") == wanted, PATIENCE)
        self.lab.wait_for(lambda: bool(self.lab.index("left", "eth1")) == bool(wanted), PATIENCE)

    def has_others_come_and_go(self) -> None:
        """Have two more replicas of a service, and none again."""
        self.lab.add("other_2", "other_3")
        for name in ("other_2", "other_3"):
            self.lab.wait_for(partial(self.lab.addresses, name, "eth0"), PATIENCE)
        self.lab.remove("other_2", "other_3")

    def told(self) -> str:
        """Return what Relink has said, and Open vSwitch where it runs."""
        log = Place().log("ovs-vswitchd")
        return self.lab.log() + (log.read_text() if log.exists() else "")

    def late(self) -> int:
        """Return how many packets of the flood Open vSwitch's own datapath did not fetch in time.

        It reads each port by a socket (packet(7)) that holds some 270 of them, in the thread that
        does everything else, too. That was seen to wait 385 ms for a processor, and 336 ms for the
        kernel's lock of all links, while much else ran (6.18). The kernel counts what it does not
        hold, as `d` of `skmem` (ss(8)).
        """
        sockets = sh("ip", "netns", "exec", PLANE, "ss", "--packet", "-nm")
        return sum(map(int, re.findall(r":left-eth0\s.*skmem:\(.*,d(\d+)\)", sockets)))

    def ends(self) -> list[int]:
        """Return the indexes of the interfaces in use."""
        return [self.lab.index(name, "eth0") for name in ("left", "right")]


@pytest.fixture(scope="module")
def _private() -> None:
    private_run()


@pytest.fixture
def lab(_private: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    unshare(CLONE_NEWNET)
    sh("ip", "link", "set", "lo", "up")
    made = Lab(tmp_path_factory.mktemp("flood"))
    yield made
    made.close()
    sh("ip", "netns", "delete", PLANE, check=False)


@pytest.fixture
def daemons() -> Iterator[None]:
    """Leave no Open vSwitch behind: it outlives a Relink that keeps its links."""
    yield
    Tools(Place()).end()


def _child(pid: int) -> int:
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@contextmanager
def talking(lab: Lab, mode: str) -> Iterator[World]:
    """Have two containers that reach each other."""
    lab.add("left", "right", "other_1")
    with started(World(lab, mode)) as world:
        yield world


@contextmanager
def started(world: World) -> Iterator[World]:
    """Have what a world declares."""
    lab = world.lab
    world.write()
    with world.running:
        world.start()
        lab.wait_for(lambda: lab.pings("left", "10.0.0.2"), PATIENCE)
        yield world


ALL: tuple[Callable[[World], None], ...] = (
    World.is_killed,
    World.is_restarted,
    World.is_reconfigured,
    World.has_others_come_and_go,
)
KERNEL = pytest.mark.needs("openvswitch")


# About as much to import as Relink is.
UNRELATED = (
    "asyncio",
    "concurrent.futures",
    "email",
    "http.client",
    "yaml",
    "hypothesis",
    "docker",
)


def fetched(late: int, told: Tally) -> str:
    """Return for people whether a switch has fetched all."""
    if not late:
        return "the switch fetched all"
    return f"{late} not fetched by the switch, at most {told.outage:.0f} ms in a row"


def host_ends(lab: Lab) -> list[int]:
    """Return the indexes of both ends of the links in use, and of their switch."""
    inner = [lab.index(name, "eth0") for name in ("left", "right")]
    return inner + [lab.index(HOST, name) for name in ("left-eth0", "right-eth0", "s1")]


def _cases() -> Iterator[object]:
    for name, mode, marks, disturbances in (
        ("linux", "linux", (), ALL),
        ("patch", "patch", (), ALL),
        ("ovs, kernel", "ovs", KERNEL, (World.is_killed, World.has_others_come_and_go)),
    ):
        for each in disturbances:
            yield pytest.param(mode, each, marks=marks, id=f"{each.__name__}: {name}")


@pytest.mark.usefixtures("daemons")
@pytest.mark.parametrize(("mode", "disturb"), list(_cases()))
def test_no_packet_is_lost_while_relink(
    lab: Lab, mode: str, disturb: Callable[[World], None], measured: Callable[[str], None]
) -> None:
    with talking(lab, mode) as world:
        ends = world.ends()
        with flood("/run/netns/left", "/run/netns/right", "10.0.0.2") as packets:
            times = disturbed(packets, lambda: disturb(world))
        told = packets.tally
        measured(f"{told}, {times} times")
        assert told.amiss == UNTOUCHED, f"{told}\n{world.told()}"
        assert world.ends() == ends


@pytest.mark.lacks("openvswitch")
@pytest.mark.usefixtures("daemons")
@pytest.mark.parametrize("disturb", ALL, ids=lambda disturb: disturb.__name__)
def test_ovs_in_userspace_loses_nothing_but_what_it_does_not_fetch_while_relink(
    lab: Lab, disturb: Callable[[World], None], measured: Callable[[str], None]
) -> None:
    """What a switch did not fetch is lost before Relink, or anything of its making, has a say."""
    with talking(lab, "ovs") as world:
        ends, late = world.ends(), world.late()
        with flood("/run/netns/left", "/run/netns/right", "10.0.0.2") as packets:
            times = disturbed(packets, lambda: disturb(world))
        told, late = packets.tally, world.late() - late
        measured(f"{told}, {times} times; {fetched(late, told)}")
        amiss = {**told.amiss, "lost": told.lost - min(late, told.lost)}
        assert amiss == UNTOUCHED, f"{told}\n{world.told()}"
        assert world.ends() == ends


@pytest.mark.lacks("openvswitch")
@pytest.mark.usefixtures("daemons")
def test_what_a_switch_in_userspace_does_not_fetch_while_programs_start_that_are_not_relink(
    lab: Lab, measured: Callable[[str], None]
) -> None:
    """It is what a busy machine does to it: nothing happens to Relink, or to Open vSwitch."""
    words = (sys.executable, "-c", f"import {', '.join(UNRELATED)}")
    with talking(lab, "ovs") as world:
        late = world.late()
        with flood("/run/netns/left", "/run/netns/right", "10.0.0.2") as packets:
            times = disturbed(packets, lambda: subprocess.run(words, check=True))
        told, late = packets.tally, world.late() - late
        measured(f"{told}, {times} times; {fetched(late, told)}")
        assert {**told.amiss, "lost": told.lost - min(late, told.lost)} == UNTOUCHED


@pytest.mark.parametrize("disturb", ALL, ids=lambda disturb: disturb.__name__)
def test_nor_with_the_data_plane_in_the_namespace_of_the_host_while_relink(
    lab: Lab, disturb: Callable[[World], None], measured: Callable[[str], None]
) -> None:
    """The host is a namespace with a process 1 of its own; Relink's is another beside it."""
    lab.add("left", "right", "other_1", HOST)
    host = ["ip", "netns", "exec", HOST, "unshare", "--pid", "--fork", "--kill-child=KILL",
            "--mount-proc", "--propagation=slave",
            "sh", "-c", "echo ready; exec sleep 864000"]  # fmt: skip
    with subprocess.Popen(host, stdout=subprocess.PIPE) as machine:
        try:
            assert machine.stdout
            assert machine.stdout.readline() == b"ready\n"
            first = str(_child(machine.pid))
            # What ends nsenter ends what it has started.
            beside = (
                "nsenter",
                "--target",
                first,
                "--pid",
                "--mount",
                "setpriv",
                "--pdeathsig=TERM",
            )
            with started(World(lab, "linux", dataplane="host", within=beside)) as world:
                ends = host_ends(lab)
                assert all(ends)
                with flood("/run/netns/left", "/run/netns/right", "10.0.0.2") as packets:
                    times = disturbed(packets, lambda: disturb(world))
                assert host_ends(lab) == ends
        finally:
            machine.kill()
    told = packets.tally
    measured(f"{told}, {times} times")
    assert told.amiss == UNTOUCHED, f"{told}\n{lab.log()}"


def test_packets_that_are_lost_are_seen(lab: Lab, measured: Callable[[str], None]) -> None:
    """Somebody lowers a port, and Relink raises it: what was sent meanwhile is missing."""
    with talking(lab, "linux") as world:

        def lowered() -> None:
            lab.ip(PLANE, "link", "set", "right-eth0", "down")
            lab.wait_for(lambda: "UP" in (lab.link(PLANE, "right-eth0") or {})["flags"])
            lab.wait_for(lambda: lab.pings("left", "10.0.0.2"))

        with flood("/run/netns/left", "/run/netns/right", "10.0.0.2") as packets:
            disturbed(packets, lowered, 0.5)
    told = packets.tally
    measured(f"{told}; at most {told.outage:.0f} ms without any")
    assert 0 < told.longest <= told.lost < told.sent, f"{told}\n{world.told()}"


def test_what_becomes_of_numbers_is_counted() -> None:
    told = tally(8, [0, 1, 4, 2, 2, 7], 2.0)
    assert told.amiss == {"lost": 3, "reordered": 1, "duplicated": 1}
    assert (told.longest, told.rate, told.outage) == (2, 4.0, 500.0)
    assert tally(2, [0, 1], 1.0).amiss == UNTOUCHED
    assert tally(2, [], 1.0).longest == 2
