"""`nat` as it is declared: an address behind a container, in both directions."""

from __future__ import annotations

import pytest

from tests.kernel.lab import Lab, sh
from tests.kernel.test_forward import VERSIONS, address, join, sysctl, talk
from tests.kernel.test_nft import TCP, UDP

BEHIND = {4: "192.0.2.7", 6: "2001:db8:2::7"}
ME = {4: "10.0.0.1", 6: "fd00::1"}
OTHER = {4: "10.0.0.2", 6: "fd00::2"}
NET = """
links:
- {{container: gate, bridge: s1, ip: [10.0.0.1/24, "fd00::1/64"], nat: "{target}"}}
- {{container: other, bridge: s1, ip: [10.0.0.2/24, "fd00::2/64"]}}
"""


@pytest.fixture
def world(lab: Lab) -> Lab:
    """other -- (s1) -- gate -- far; far knows gate and nobody else."""
    lab.add("gate", "other", "far")
    for ns in ("gate", "other", "far"):
        lab.ip(ns, "link", "set", "lo", "up")
    join(lab, ("gate", "eth1"), ("far", "eth0"))
    address(lab, "gate", "eth1", "192.0.2.1/24", "2001:db8:2::1/64")
    address(lab, "far", "eth0", f"{BEHIND[4]}/24", f"{BEHIND[6]}/64")
    lab.ip("far", "route", "add", "default", "via", "192.0.2.1")
    lab.ip("far", "route", "add", "default", "via", "2001:db8:2::1")
    sysctl("gate", "ipv4.ip_forward", 1)
    sysctl("gate", "ipv6.conf.all.forwarding", 1)
    return lab


def assert_translated(version: int) -> None:
    for kind in (TCP, UDP):
        found = talk("other", (ME[version], 5000), "far", 5000, kind)
        assert found == (OTHER[version], ME[version]), "what arrives goes to what is behind"
        found = talk("far", (OTHER[version], 6000), "other", 6000, kind)
        assert found == (ME[version], OTHER[version]), "what leaves comes from the link's address"


def ruleset(ns: str) -> str:
    return sh("ip", "netns", "exec", ns, "nft", "list", "ruleset")


@pytest.mark.proves("nat v4", "nat v6")
def test_both_directions_of_both_families(world: Lab) -> None:
    for version in (4, 6):
        net = NET.format(target=BEHIND[version])
        world.converge(net)
        assert world.converge(net).plan.steps == ()
        assert_translated(version)
        assert world.pings("other", ME[version])
        assert world.pings("far", OTHER[version])


@VERSIONS
def test_a_flush_is_repaired_at_once_and_what_leaves_the_file_goes(
    world: Lab, version: int
) -> None:
    net = NET.format(target=BEHIND[version])
    world.config(net)
    sh("ip", "netns", "exec", "gate", "nft", "add", "table", "inet", "theirs")
    with world.sidecar("--interval", "3600"):
        world.until_log("All links connected")
        before = ruleset("gate")
        index = world.index("gate", "eth0")
        sh("ip", "netns", "exec", "gate", "nft", "delete", "table", *_our_table(before))
        took = world.wait_for(lambda: sorted(ruleset("gate")) == sorted(before), 5)
        print(f"\nv{version}: back after {took:.3f} s")
        assert_translated(version)
        world.config(net.replace(f', nat: "{BEHIND[version]}"', ""))
        world.wait_for(lambda: ruleset("gate").split() == ["table", "inet", "theirs", "{", "}"])
        assert world.index("gate", "eth0") == index
        world.config(net)
        world.wait_for(lambda: "dnat" in ruleset("gate"))
        assert_translated(version)
    assert ruleset("gate").split() == ["table", "inet", "theirs", "{", "}"]


def _our_table(shown: str) -> tuple[str, str]:
    name = next(word for word in shown.split() if word.startswith("relink"))
    return "inet", name


def test_a_container_that_restarts_has_it_again(world: Lab) -> None:
    world.config(NET.format(target=BEHIND[4]))
    with world.sidecar("--interval", "3600"):
        world.until_log("All links connected")
        before = ruleset("gate")
        for _ in range(5):
            world.restart("gate")
            world.wait_for(lambda: ruleset("gate") == before)
        assert ruleset("other") == ""
