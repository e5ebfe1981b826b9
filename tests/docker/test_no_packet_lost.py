"""No packet is lost by us under compose: a flood while the sidecar, the engine and others change.

`RELINK_FAULTS=long` in the environment makes each flood half a minute, else it is two seconds. What
takes no engine is in tests/faults/test_no_packet_lost.py.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.flood import LONG, UNTOUCHED, Flood, disturbed, flood
from tests.kernel.lab import sh
from tests.lab import engine
from tests.lab.compose import Compose, project
from tests.lab.containers import Interface
from tests.lab.engine import docker
from tests.lab.images import RELINK
from tests.lab.waiting import until

pytestmark = pytest.mark.docker

FILE = Path(__file__).with_name("no-packet-lost-compose.yaml")
PROJECT = "relink-flood"
OUTAGES = 7 if LONG else 1
IMAGES = (RELINK, f"{RELINK}:next")
NETWORK = """\
bridges: [{{bridge: s2, mode: linux}}, {{bridge: s3, mode: linux}}, {{bridge: s4, mode: linux}}]
links:
- {{service: other, bridge: {beside}, ip: 10.0.1.1/16, mtu: 1500}}
{more}
"""
# On the containers that talk, on one of their switch's neighbours, and a switch more.
MORE = """\
- {service: left, bridge: s3, dev: eth1, ip: 10.2.0.1/24, mtu: 1400, route: 10.9.0.0/16}
- {service: right, bridge: s3, dev: eth1, ip: 10.2.0.2/24, nat: 10.3.0.2}
- {service: other, bridge: s4, dev: eth1, ip: 10.4.0.1/24}
"""


@dataclass(slots=True)
class World:
    """A compose project of two containers that talk, and a sidecar that things happen to."""

    compose: Compose
    mode: str
    variables: dict[str, str]
    more: str = ""
    image: int = 0
    ids: set[str] = field(default_factory=set)

    def write(self) -> None:
        """Write the file of what is beside the two."""
        beside = "s2" if self.mode == "patch" else "s1"  # a patch has two ends
        path = self.compose.file.with_name("network.yaml")
        temporary = path.with_suffix(".tmp")
        temporary.write_text(NETWORK.format(beside=beside, more=self.more))
        temporary.replace(path)

    def recreated(self) -> None:
        """Have compose stop the sidecar in order and make another."""
        before = self.compose.container("network").id
        done = self.compose.run("up", "-d", "--no-build", "--force-recreate", "network")
        assert done.returncode == 0, done.stderr
        assert self.compose.container("network").id != before
        self.compose.connected()

    def is_upgraded(self) -> None:
        """Have another image, and with it another sidecar."""
        self.image = 1 - self.image
        self.variables["RELINK_IMAGE"] = IMAGES[self.image]
        self.recreated()
        runs = self.compose.container("network").inspect()["Image"]
        assert runs == docker("image", "inspect", "--format={{.Id}}", IMAGES[self.image])

    def is_killed(self) -> None:
        """Kill the sidecar, and start it again."""
        sidecar, said = self.compose.container("network"), self.said("All links connected")
        docker("kill", sidecar.id)
        docker("start", sidecar.id)
        self.compose.connected(said + 1)

    def is_restarted(self) -> None:
        """Stop the sidecar in order, and start it again."""
        sidecar, said = self.compose.container("network"), self.said("All links connected")
        docker("restart", sidecar.id)
        assert self.said('"stopped"')
        self.compose.connected(said + 1)

    def is_reconfigured(self) -> None:
        """Add links beside those that are in use, or take them away again."""
        self.more = "" if self.more else MORE
        self.write()
        for name in ("left", "other"):
            self.until(name, "eth1", there=bool(self.more))

    def has_others_come_and_go(self) -> None:
        """Scale a service up and down."""
        self.compose.up("other", scale={"other": 3})
        for number in (2, 3):
            self.until("other", "eth0", number)
        self.compose.up("other", scale={"other": 1})

    def has_its_engine_restarted(self) -> None:
        """Restart the engine; the sidecar loses it, and finds it again."""
        if engine.socket_to_mount() == engine.SOCKET:
            pytest.skip("the engine that answers is somebody's own; .ci/run restarts one")
        said = self.said('"engine_connected"')
        engine.restarted()
        until(
            lambda: self.said('"engine_connected"') > said,
            "the sidecar hears the engine again",
            explain=self.compose.log,
        )

    def said(self, words: str) -> int:
        """Return how often the sidecar has said something."""
        return self.compose.log().count(words)

    def until(self, service: str, dev: str, number: int = 1, *, there: bool = True) -> None:
        """Wait for a link to be there with its address, or not to be there."""
        nothing = Interface(0, "", 0, "", ())
        until(
            lambda: (
                bool(
                    self.compose.container(service, number).interfaces().get(dev, nothing).addresses
                )
                == there
            ),
            f"{dev} of {service}_{number}: {there}",
            explain=self.compose.log,
        )

    def ends(self) -> list[Interface]:
        """Return the interfaces in use."""
        return [self.compose.container(name).interfaces()["eth0"] for name in ("left", "right")]

    @contextmanager
    def flood(self) -> Iterator[Flood]:
        """Have a flood from one to the other."""
        left, right = (
            f"/proc/{self.compose.container(name).pid()}/ns/net" for name in ("left", "right")
        )
        with flood(left, right, "10.0.0.2") as packets:
            yield packets


@contextmanager
def talking(
    directory: Path, mode: str, dataplane: str, on_exit: str = "keep", name: str = PROJECT
) -> Iterator[World]:
    """Have two containers that reach each other."""
    file = directory / "compose.yaml"
    shutil.copy(FILE, file)
    mounted = str(engine.socket_to_mount().parent)
    variables = {
        "MODE": mode, "DATAPLANE": dataplane, "ON_EXIT": on_exit,
        "RELINK_IMAGE": RELINK, "ENGINE": mounted,
    }  # fmt: skip
    with project(file, name, variables) as compose:
        world = World(compose, mode, variables)
        world.write()
        try:
            compose.up()
            compose.connected()
            compose.ping("left", "10.0.0.2")
            yield world
        finally:
            sh("ip", "netns", "delete", f"relink-{name}", check=False)


@pytest.fixture(scope="module", autouse=True)
def _next() -> Iterator[None]:
    """Have another image of the same program."""
    docker("build", "--tag", IMAGES[1], "-", content=f"FROM {RELINK}\nLABEL next=1\n".encode())
    yield
    docker("image", "rm", IMAGES[1])


@pytest.fixture(scope="module")
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with talking(tmp_path_factory.mktemp("flood"), request.param, "pinned") as made:
        yield made


ALL: tuple[Callable[[World], None], ...] = (
    World.is_killed,
    World.is_restarted,
    World.is_upgraded,
    World.is_reconfigured,
    World.has_others_come_and_go,
    World.has_its_engine_restarted,
)
# Of a patch the short form has what namespaces without an engine do not show.
SOME = ALL if LONG else (World.is_upgraded, World.has_its_engine_restarted)
CASES = [("linux", each) for each in ALL] + [("patch", each) for each in SOME]


@pytest.mark.parametrize(
    ("world", "disturb"),
    CASES,
    indirect=["world"],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_no_packet_is_lost_while_the_sidecar(
    world: World, disturb: Callable[[World], None], measured: Callable[[str], None]
) -> None:
    ends = world.ends()
    with world.flood() as packets:
        times = disturbed(packets, lambda: disturb(world))
    told = packets.tally
    measured(f"{told}, {times} times")
    assert told.amiss == UNTOUCHED, f"{told}\n{world.compose.log()}"
    assert world.ends() == ends


@pytest.mark.parametrize(
    ("setup", "disturb"),
    [
        pytest.param(("linux", "self", "clean"), World.recreated, id="own namespace, made anew"),
        pytest.param(("linux", "self", "clean"), World.is_killed, id="own namespace, killed"),
        pytest.param(
            ("ovs", "pinned", "keep"), World.is_killed, id="Open vSwitch of its own, killed"
        ),
    ],
)
def test_how_long_nothing_arrives_when_the_switch_goes_with_its_sidecar(
    setup: tuple[str, str, str],
    disturb: Callable[[World], None],
    tmp_path: Path,
    measured: Callable[[str], None],
) -> None:
    """The namespace or the daemons that forward are the container's, and end with it.

    Of whoever is killed, or keeps links at its end, they go when the kernel gets to the namespace,
    so that one time tells little.
    """
    outages = []
    with talking(tmp_path, *setup, "relink-outage") as world:
        for _ in range(OUTAGES):
            with world.flood() as packets:
                disturb(world)
                world.compose.ping("left", "10.0.0.2", seconds=20)
            told = packets.tally
            outages.append(told.outage)
            assert 0 < told.lost < told.sent
            # What waited for the address of its neighbour, whose link is new, may come after a
            # packet that was sent once it was known: the kernel empties that queue beside it
            # (neigh_update(), 6.18).
            assert told.duplicated == 0
    least, median, most = min(outages), statistics.median(outages), max(outages)
    measured(f"{len(outages)} times: {least:.0f} ms, median {median:.0f} ms, at most {most:.0f} ms "
             f"without any, at {told.rate:.0f} a second")  # fmt: skip
