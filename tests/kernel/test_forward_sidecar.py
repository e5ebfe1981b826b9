"""Forwarded ports as they are declared: from outside to two replicas, and what happens to it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from reconciler.control import ask
from reconciler.passes import run
from tests.kernel.lab import Lab, sh
from tests.kernel.test_forward import (
    CLIENT,
    DOCKER,
    VERSIONS,
    address,
    default_elsewhere,
    sysctl,
    talk,
)
from tests.kernel.test_nft import TCP, UDP

NET = """
links:
- service: web
  bridge: s1
  ip: [10.0.1.1/24, "fd00:1::1/64"]
  forward: ["80:80/tcp", "80:80/udp", "8000-8009:90-99/tcp"]
"""
PLAIN = NET.rpartition("  forward")[0]
QUIET = ("--interval", "3600")  # no tick: what is repaired, was heard
KINDS = pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])


@pytest.fixture
def world(lab: Lab) -> Lab:
    """client -- (eth0) the data plane -- web_1, web_2."""
    lab.add("client", "web_1", "web_2")
    for ns in ("client", "web_1", "web_2"):
        lab.ip(ns, "link", "set", "lo", "up")
    lab.ip("", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", "client")
    for ns, ips in (("", DOCKER), ("client", CLIENT)):
        lab.ip(ns, "link", "set", "eth0", "up")
        address(lab, ns, "eth0", f"{ips[4]}/24", f"{ips[6]}/64")
    return lab


def assert_forwarded(version: int, *, kinds: tuple[int, ...] = (TCP, UDP)) -> None:
    """The client asks two ports of the data plane; each replica sees its address."""
    for kind in kinds:
        for port, ns in ((80, "web_1"), (81, "web_2")):
            found = talk("client", (DOCKER[version], port), ns, 80, kind)
            assert found == (CLIENT[version], DOCKER[version])


def policy(ns: str) -> list[str]:
    """All of a namespace that forwarding makes: told by ip and nft."""
    where = ("ip", "netns", "exec", ns) if ns else ()
    found = [sh(*where, "nft", "list", "ruleset")]
    for version in ("-4", "-6"):
        found.append(sh(*where, "ip", version, "rule"))
        routes = sh(*where, "ip", version, "route", "show", "table", "all").splitlines()
        found.append("\n".join(line for line in routes if "proto kernel" not in line))
        found.append(sh(*where, "ip", version, "neigh", "show", "nud", "permanent"))
    return found


def everything() -> dict[str, list[str]]:
    return {ns: policy(ns) for ns in ("", "web_1", "web_2")}


@pytest.mark.proves("forward tcp v4", "forward tcp v6", "forward udp v4", "forward udp v6")
def test_two_replicas_from_outside_to_inside_and_back(world: Lab) -> None:
    world.converge(NET)
    assert world.converge(NET).plan.steps == ()
    for version in (4, 6):
        assert_forwarded(version)
    for ns in ("web_1", "web_2"):  # whatever the containers' own routes and filters are
        default_elsewhere(world, ns)
        sysctl(ns, "ipv4.conf.all.rp_filter", 1)
    for version in (4, 6):
        assert_forwarded(version)
    assert world.converge(NET).plan.steps == ()


@pytest.mark.proves("forward range v4", "forward range v6")
@VERSIONS
def test_ranges_follow_one_another(world: Lab, version: int) -> None:
    world.converge(NET)
    for outside, ns, inside in (
        (8000, "web_1", 90), (8009, "web_1", 99), (8010, "web_2", 90), (8019, "web_2", 99),
    ):  # fmt: skip
        found = talk("client", (DOCKER[version], outside), ns, inside, TCP)
        assert found == (CLIENT[version], DOCKER[version])


def test_scaling_moves_the_table_and_a_container_that_stops_takes_its_part(world: Lab) -> None:
    world.config(NET)
    with world.sidecar(*QUIET):
        world.until_log("All links connected")
        two = policy("")
        world.add("web_3")
        world.ip("web_3", "link", "set", "lo", "up")
        world.until_log("web_3:eth0")
        world.wait_for(lambda: "10.0.1.3" in policy("")[0])
        for version in (4, 6):
            for kind in (TCP, UDP):
                found = talk("client", (DOCKER[version], 82), "web_3", 80, kind)
                assert found == (CLIENT[version], DOCKER[version])
            assert_forwarded(version)
        world.remove("web_3")
        world.wait_for(lambda: policy("") == two)
        world.restart("web_2")
        world.ip("web_2", "link", "set", "lo", "up")
        world.wait_for(lambda: world.addresses("web_2", "eth0"))
        world.wait_for(lambda: policy("") == two)
        assert_forwarded(4)
        world.remove("web_1", "web_2")
        world.wait_for(lambda: policy("")[0] == "")
        assert all("10.0.1." not in part and "fd00:1:" not in part for part in policy(""))


@pytest.mark.parametrize("ns", ["", "web_1"], ids=["plane", "container"])
def test_a_flushed_ruleset_is_back_at_once_because_the_kernel_rang(world: Lab, ns: str) -> None:
    world.config(NET)
    where = ("ip", "netns", "exec", ns) if ns else ()
    with world.sidecar(*QUIET):
        world.until_log("All links connected")
        world.monitor.settle()
        before = everything()
        sh(*where, "nft", "flush", "ruleset")
        took = world.wait_for(lambda: everything() == before, 5)
        print(f"\n{ns or 'data plane'}: flushed, and back after {took:.3f} s")
        assert_forwarded(4)
        assert_forwarded(6)
        assert world.reconcile("status").returncode == 0


def test_a_pass_restores_what_was_flushed_without_a_bell(world: Lab) -> None:
    world.converge(NET)
    before = everything()
    for ns in ("web_1", "web_2"):
        sh("ip", "netns", "exec", ns, "nft", "flush", "ruleset")
    sh("nft", "flush", "ruleset")
    done = world.converge(NET)
    assert {(step.action, step.key.type) for step in done.plan.steps} == {("create", "nat")}
    assert everything() == before


HARM = (
    "ip route flush proto 158 table all",
    "ip -6 route flush proto 158 table all",
    "ip neigh flush dev {dev} nud permanent",
    "nft add rule inet {table} forged accept",
)
RULES = ("ip rule del pref 100", "ip rule del pref 32000", "ip -6 rule del pref 32001")


@pytest.mark.parametrize(
    ("ns", "harm"),
    [*(("", harm) for harm in HARM), *(("web_2", harm) for harm in (*HARM, *RULES))],
)
def test_whatever_somebody_does_to_it_is_put_right_within_a_tick(
    world: Lab, ns: str, harm: str
) -> None:
    world.config(NET)
    where = ("ip", "netns", "exec", ns) if ns else ()

    def repairs() -> int:
        return sum(event["event"] in ("created", "changed") for event in world.events())

    with world.sidecar("--interval", "1"):
        world.until_log("All links connected")
        before = everything()
        table = sh(*where, "nft", "list", "tables").split()[2]
        words = harm.format(dev="eth0" if ns else "s1", table=table).split()
        if "forged" in harm:
            sh(*where, "nft", "add", "chain", "inet", table, "forged")
        done = repairs()
        sh(*where, *words)
        took = world.wait_for(lambda: repairs() > done and everything() == before, 5)
        print(f"\n{ns or 'data plane'}: {harm}: as it was after {took:.3f} s")
        assert_forwarded(4)
        assert_forwarded(6)


def test_a_forward_that_leaves_the_file_leaves_nothing(world: Lab) -> None:
    bare = everything()
    world.config(PLAIN)
    with world.sidecar(*QUIET):
        world.until_log("All links connected")
        plain = everything()
        for _ in range(2):
            world.config(NET)
            world.wait_for(lambda: "10.0.1.2" in policy("")[0])
            world.wait_for(lambda: world.reconcile("status").returncode == 0)
            assert_forwarded(4)
            assert_forwarded(6)
            world.config(PLAIN)
            world.wait_for(lambda: everything() == plain)
    assert everything() == bare


def test_strangers_are_as_they_were(world: Lab) -> None:
    world.converge(PLAIN)
    for ns, dev in (("", "s1"), ("web_1", "eth0")):
        where = ("ip", "netns", "exec", ns) if ns else ()
        world.ip(ns, "rule", "add", "pref", "100", "fwmark", "7", "lookup", "77")
        world.ip(ns, "-6", "rule", "add", "pref", "32001", "fwmark", "7", "lookup", "77")
        neighbour = ("lladdr", "02:00:00:00:00:77", "dev", dev, "nud", "permanent")
        world.ip(ns, "neigh", "add", "10.0.1.77", *neighbour)
        world.ip(ns, "route", "add", "blackhole", "203.0.113.0/24", "table", "77")
        sh(*where, "nft", "add", "table", "inet", "theirs")
        sh(*where, "nft", "add", "chain", "inet", "theirs", "c")
    before = everything()
    world.config(NET)
    with world.sidecar("--interval", "0.3"):
        world.until_log("All links connected")
        world.restart("web_2")
        world.ip("web_2", "link", "set", "lo", "up")
        world.wait_for(lambda: world.addresses("web_2", "eth0") and ask("lab")["connected"])
        assert_forwarded(4)
        world.config(PLAIN)
        world.wait_for(lambda: everything() == before)


def test_it_is_quiet_when_everything_is_as_declared(world: Lab) -> None:
    world.converge(NET)
    for _ in range(10):
        assert world.converge(NET).plan.steps == ()
    before = everything()
    with world.sidecar("--interval", "0.1", "--on-exit", "keep"):
        world.until_log("All links connected")
        with world.untouched():
            world.monitor.wait(4)  # forty ticks
        said = {event["event"] for event in world.events()}
    assert said <= {
        "engine_connected", "containers_listed", "All links connected", "stopping", "stopped",
    }  # fmt: skip
    assert everything() == before


def test_a_setting_that_may_not_be_written_is_said_in_words(world: Lab) -> None:
    """As in a container without `sysctls`: /proc/sys is mounted read-only."""
    sysctl("client", "ipv4.ip_forward", 0)
    sh("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=0")
    file = str(world.config(NET))
    script = (
        "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && "
        'exec "$@" --runtime netns --instance lab --network-file "$0" --once'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, file, sys.executable, "-m", "reconciler.cli"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "All links connected" not in done.stdout
    words = "give the sidecar `sysctls: {net.ipv6.conf.all.forwarding: 1}`"
    assert words in done.stderr
    assert_forwarded(4)  # the rest converges
    status = json.loads(
        world.reconcile("--network-file", file, "status", "--output", "json").stdout
    )
    assert {link["state"] for link in status["links"]} <= {"Pending", "Refused"}
    sh("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    assert_forwarded(6)
    assert world.reconcile("--network-file", file, "--once").returncode == 0


@pytest.mark.parametrize("gone", ["routes", "links"])
@pytest.mark.parametrize("then", ["without ports", "without links"])
def test_what_made_a_way_back_goes_though_the_way_went_while_nobody_looked(
    world: Lab, gone: str, then: str
) -> None:
    """Relink was killed, the way to its rules and tables went, and the file is another."""
    world.converge(PLAIN)
    before = everything()
    done = world.converge(NET)
    rules = [step.after for step in done.plan.steps if step.key.type == "rule"]
    tables = {str(getattr(rule, "table")) for rule in rules}  # noqa: B009 - of any resource
    assert tables
    for ns in ("web_1", "web_2"):
        if gone == "links":
            world.ip(ns, "link", "delete", "eth0")
        for table in tables if gone == "routes" else ():
            world.ip(ns, "route", "flush", "table", table, check=False)
            world.ip(ns, "-6", "route", "flush", "table", table, check=False)
    world.converge(PLAIN if then == "without ports" else "links: []")
    if then == "without ports":
        assert everything() == before
    for ns in ("web_1", "web_2"):
        assert "proto 158" not in sh("ip", "-n", ns, "-d", "rule")
        if then == "without links":
            assert "relink-" not in sh("ip", "netns", "exec", ns, "nft", "list", "tables")
    assert world.preview(PLAIN if then == "without ports" else "links: []").plan.steps == ()


def test_rules_of_another_relink_are_not_taken_for_ours_while_its_link_is_gone(world: Lab) -> None:
    world.instance = "other"
    world.converge(NET)
    world.ip("web_1", "link", "delete", "eth0")
    before = sh("ip", "-n", "web_1", "-d", "rule")
    assert "ipproto udp" in before
    world.instance = "lab"
    assert world.converge("links: []").plan.steps == ()
    assert sh("ip", "-n", "web_1", "-d", "rule") == before


def test_a_bridge_stays_when_the_containers_go_that_it_leads_to(world: Lab) -> None:
    """Also in a look at a container of another bridge, which asks for what has departed by name."""
    world.add("node_1")
    roster = world.roster(f"{NET}\n- {{service: node, bridge: s2, ip: 10.0.2.1/24}}\n")
    run(roster.world(), decide=lambda plan, _: plan)
    bridges = world.index("", "s1"), world.index("", "s2")
    for name in ("web_1", "web_2"):
        roster.remove("netns", name)
    [node] = [ns for ns in roster.containers if ns.name == "node_1"]
    done = run(roster.world(), frozenset({node}), also=roster.departed, decide=lambda plan, _: plan)
    assert [str(step.key) for step in done.plan.steps] == ["self:web_1-eth0", "self:web_2-eth0"]
    assert (world.index("", "s1"), world.index("", "s2")) == bridges
