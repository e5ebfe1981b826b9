"""The typed configuration: what each key becomes. What is refused is in tests/reconciler/wrong."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from model import ethtool, netem
from model.config import merge_links, parse
from model.declared import BridgeSpec, Config, Forward, LinkSpec, Owner, TunnelSpec
from model.document import Node
from model.problems import ConfigError, Place
from model.route import RouteSpec

PLACE = Place("f", 1, 1)
STACKED = ("host", "conlink", "local")


def node(value: Any, line: int = 1) -> Node:
    """Make a document of plain values; each element of a list stands on a line of its own."""
    if isinstance(value, dict):
        return Node({k: node(v, line) for k, v in value.items()}, Place("f", line, 1))
    if isinstance(value, list):
        return Node(tuple(node(v, n) for n, v in enumerate(value, 1)), Place("f", line, 1))
    return Node(value, Place("f", line, 1))


def config(**sections: Any) -> Config:
    return parse(merge_links(node(sections)))


def link(**keys: Any) -> LinkSpec:
    keys = {"service": "a", **({"bridge": "s1"} if "type" not in keys else {}), **keys}
    return config(links=[keys]).links[0]


def refused(**sections: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(**sections)
    return [str(problem) for problem in caught.value.problems]


def test_an_empty_document_is_an_empty_configuration() -> None:
    assert config() == Config()


def test_a_link_has_the_defaults_of_conlink() -> None:
    assert link() == LinkSpec(
        place=PLACE,
        owner=Owner("service", "a"),
        type="veth",
        dev="eth0",
        base="conlink",
        bridge="s1",
    )


def test_every_key_of_a_veth() -> None:
    found = link(
        dev="eth1", mac="02-00-00-00-00-0A", mtu=1400, ip=["10.0.0.1/24", "FD00::1/64"],
        route=["default via 10.0.0.254", "default via fd00::fe"], nat="10.9.9.9",
        netem=["delay 1ms", "loss 1%"], forward="1080:80/tcp", ethtool="--offload rx off",
        base="conlink", **{"outer-dev": "port"},
    )  # fmt: skip
    assert found == LinkSpec(
        place=PLACE,
        owner=Owner("service", "a"),
        dev="eth1",
        bridge="s1",
        outer_dev="port",
        ips=(ipaddress.ip_interface("10.0.0.1/24"), ipaddress.ip_interface("fd00::1/64")),
        mac="02:00:00:00:00:0a",
        mtu=1400,
        routes=(
            RouteSpec(dst="0.0.0.0/0", family=4, via="10.0.0.254"),
            RouteSpec(dst="::/0", family=6, via="fd00::fe", metric=1024),
        ),
        nat=ipaddress.ip_address("10.9.9.9"),
        netem=netem.parse("delay 1ms loss 1%"),
        forwards=(Forward((1080, 1080), (80, 80), "tcp"),),
        ethtool=ethtool.parse(["--offload rx off"]),
    )


@pytest.mark.parametrize(
    ("kind", "more", "bases"),
    [
        ("veth", {"bridge": "s1"}, ("conlink",)),
        ("dummy", {}, ("local",)),
        ("vlan", {"outer-dev": "ens3", "vlanid": 5}, STACKED),
        ("macvlan", {"outer-dev": "ens3", "mode": "bridge"}, STACKED),
        ("macvtap", {"outer-dev": "ens3", "mode": "vepa"}, STACKED),
        ("ipvlan", {"outer-dev": "ens3", "mode": "l3"}, STACKED),
        ("ipvtap", {"outer-dev": "ens3"}, STACKED),
    ],
)
def test_the_first_base_of_a_kind_is_its_default(
    kind: str, more: dict[str, Any], bases: tuple[str, ...]
) -> None:
    found = link(type=kind, **more)
    assert (found.type, found.base, found.bridge) == (kind, bases[0], more.get("bridge", ""))
    assert found.outer_dev == more.get("outer-dev", "")
    assert found.mode == more.get("mode", "")
    assert found.vlanid == more.get("vlanid")
    for base in bases:
        assert link(type=kind, **more, base=base).base == base
    for base in {*STACKED, "nowhere"} - {*bases}:
        (told,) = refused(links=[{"service": "a", "type": kind, "base": base, **more}])
        expected = f"f:1:1: {base!r} is no base of {kind}; allowed: {', '.join(bases)}"
        assert told == expected


@pytest.mark.parametrize(
    ("text", "outside", "inside", "protocol"),
    [
        ("1080:80/tcp", (1080, 1080), (80, 80), "tcp"),
        ("8000-8009:80-89/udp", (8000, 8009), (80, 89), "udp"),
        ("7-7:8/tcp", (7, 7), (8, 8), "tcp"),
        ("65535:65534/tcp", (65535, 65535), (65534, 65534), "tcp"),
        ("1-4096:1-4096/tcp", (1, 4096), (1, 4096), "tcp"),
    ],
)
def test_a_forward_is_two_ranges_of_one_length(
    text: str, outside: tuple[int, int], inside: tuple[int, int], protocol: Any
) -> None:
    assert link(ip="10.0.0.1/24", forward=text).forwards == (Forward(outside, inside, protocol),)


def test_a_netem_mapping_is_what_its_words_are() -> None:
    values = {"delay": "40ms", "jitter": "5ms", "loss": "1%", "ecn": True, "rate": "10mbit"}
    assert link(netem=values).netem == netem.parse("delay 40ms 5ms loss 1% ecn rate 10mbit")
    assert link(netem={"ecn": False}).netem is link(netem={}).netem is None, "as with no text"


def test_offset_words_say_what_grows() -> None:
    assert link().offsets == {"ip", "mac", "forward"}
    assert link(offset=["vlanid"]).offsets == {"vlanid"}
    assert link(offset=[]).offsets == frozenset()


def test_a_replica_with_words_of_its_own() -> None:
    found = link(
        ip="10.0.0.1/24", mtu=1400, **{"per-replica": [{"ip": "10.0.0.7/24"}, {"mtu": 1300}]}
    )
    first, second, third = (found.of(number) for number in (1, 2, 3))
    assert ([str(ip) for ip in first.ips], first.mtu) == (["10.0.0.7/24"], 1400)
    assert ([str(ip) for ip in second.ips], second.mtu) == (["10.0.0.1/24"], 1300)
    assert third == found
    # What is given for one replica is meant as it is; the rest still follows the offset rule.
    assert first.offsets == {"mac", "forward"}
    assert second.offsets == found.offsets
    assert first.per_replica == ()


def test_what_two_replicas_say_is_no_clash_before_they_run() -> None:
    same = [{"ip": "10.0.0.7/24"}, {"ip": "10.0.0.7/24"}]
    assert len(link(**{"per-replica": same}).per_replica) == 2


def test_one_string_is_a_list_of_one_and_an_empty_list_is_nothing() -> None:
    assert link(ip="10.0.0.1/24").ips == link(ip=["10.0.0.1/24"]).ips
    empty = link(ip=[], route=[], netem=[], ethtool=[], forward=[])
    assert (empty.ips, empty.routes, empty.netem, empty.ethtool, empty.forwards) == (
        (), (), None, None, (),
    )  # fmt: skip


def test_a_host_prefix_and_a_point_to_point_net_have_no_broadcast_address() -> None:
    assert len(link(ip=["10.0.0.0/31", "10.0.0.2/32", "10.0.0.3"]).ips) == 3


def test_the_anycast_address_of_ipv6_is_an_address() -> None:
    assert str(link(ip="fd00::/64").ips[0]) == "fd00::/64"


def test_a_route_without_an_interface_needs_no_address() -> None:
    assert link(route="blackhole 10.0.0.0/8").routes[0].type == "blackhole"


def test_a_route_may_name_its_own_interface() -> None:
    assert link(ip="10.0.0.1/24", route="default dev eth0").routes[0].dev == "eth0"


def test_mtu_1280_is_enough_for_ipv6() -> None:
    assert link(ip="fd00::1/64", mtu=1280).mtu == 1280


def test_bridges_are_the_declared_and_the_named() -> None:
    found = config(
        links=[{"service": "a", "bridge": "s2"}, {"service": "b", "bridge": "s1"}],
        bridges=[{"bridge": "s1", "mode": "linux"}, {"bridge": "s1", "mode": "linux"}],
        tunnels=[{"type": "vxlan", "bridge": "s3", "remote": "fd00::9", "vni": 7}],
    )
    assert [(bridge.name, bridge.mode) for bridge in found.bridges] == [
        ("s1", "linux"),
        ("s2", None),
        ("s3", None),
    ]
    assert found.bridges[1] == BridgeSpec(PLACE, "s2")


def test_a_tunnel() -> None:
    (found,) = config(
        tunnels=[
            {"type": "geneve", "bridge": "s1", "remote": "10.0.0.9", "vni": 7, "netem": "loss 1%"}
        ]
    ).tunnels
    assert (found.type, found.bridge, str(found.remote), found.vni) == (
        "geneve",
        "s1",
        "10.0.0.9",
        7,
    )
    assert found.netem == netem.parse("loss 1%")


def test_every_key_of_a_tunnel() -> None:
    given = {
        "type": "vxlan", "bridge": "s1", "remote": "FD00::9", "vni": 7, "port": 4000,
        "local": "fd00::8", "ttl": 9, "tos": 1, "df": "set", "mtu": 1400,
    }  # fmt: skip
    (found,) = config(tunnels=[given]).tunnels
    assert found == TunnelSpec(
        place=PLACE, type="vxlan", bridge="s1", remote=ipaddress.ip_address("fd00::9"), vni=7,
        port=4000, local=ipaddress.ip_address("fd00::8"), ttl=9, tos=1, df="set", mtu=1400,
    )  # fmt: skip


def test_two_tunnels_differ_by_kind_number_or_remote() -> None:
    tunnel = {"type": "geneve", "bridge": "s1", "remote": "10.0.0.9", "vni": 7}
    more: tuple[dict[str, object], ...] = (
        {},
        {"type": "vxlan"},
        {"vni": 8},
        {"remote": "10.0.0.10"},
    )
    assert len(config(tunnels=[tunnel | m for m in more]).tunnels) == 4
    assert refused(tunnels=[tunnel, tunnel | {"bridge": "s2"}]) == [
        "f:2:1: a geneve tunnel with vni 7 to 10.0.0.9 is already taken by bridge s1 (f:1:1)"
    ]


def test_two_vxlans_differ_by_number_or_port() -> None:
    """The kernel tells them apart by nothing else."""
    tunnel = {"type": "vxlan", "bridge": "s1", "remote": "10.0.0.9", "vni": 7}
    other = tunnel | {"remote": "10.0.0.10"}
    assert len(config(tunnels=[tunnel, other | {"port": 4790}, other | {"vni": 8}]).tunnels) == 3
    for same in (other, other | {"port": 4789}):
        (told,) = refused(tunnels=[tunnel, same])
        assert told == (
            "f:2:1: vxlan with vni 7 on port 4789 is already taken by bridge s1 (f:1:1); the kernel"
            " has one for each vni and port: give another 'port', or use geneve"
        )


def test_a_list_is_executed_as_it_is_and_a_string_by_a_shell() -> None:
    found = config(
        commands=[
            {"service": "a", "command": ["echo", "a b", "$x"]},
            {"container": "b", "command": "echo a b"},
        ]
    ).commands
    assert [(str(c.owner), c.argv) for c in found] == [
        ("service a", ("echo", "a b", "$x")),
        ("container b", ("sh", "-c", "echo a b")),
    ]


def test_one_address_may_be_on_two_bridges_but_not_twice_on_one() -> None:
    one = {"service": "a", "bridge": "s1", "ip": "10.0.0.1/24"}
    assert len(config(links=[one, one | {"service": "b", "bridge": "s2"}]).links) == 2
    assert refused(links=[one, one | {"container": "b", "service": "", "ip": "10.0.0.1/16"}]) == [
        "f:2:1: 10.0.0.1 on bridge s1 is already taken by service a dev eth0 (f:1:1)"
    ]


def test_one_port_of_the_sidecar_leads_to_one_link() -> None:
    one = {"service": "a", "bridge": "s1", "ip": "10.0.0.1/24", "forward": "1080:80/tcp"}
    two = {"service": "b", "bridge": "s1", "ip": "10.0.0.2/24"}
    assert len(config(links=[one, two | {"forward": "1080:80/udp"}]).links) == 2
    assert refused(links=[one, two | {"forward": "1080:81/tcp"}]) == [
        "f:2:1: port 1080/tcp of the sidecar is already taken by service a dev eth0 (f:1:1)"
    ]


def test_a_parent_may_have_many_children() -> None:
    child = {"type": "vlan", "outer-dev": "ens3", "service": "a"}
    found = config(links=[child | {"vlanid": 5}, child | {"vlanid": 6, "dev": "eth1"}])
    assert len(found.links) == 2


def test_wrong_entries_of_every_section_are_told_at_once() -> None:
    told = refused(
        links=[{"service": "a", "bridge": "s1", "ip": "x"}, {"bridge": "s1"}],
        tunnels=[{"type": "vxlan", "bridge": "s1", "vni": 1}],
        commands=[{"command": "x"}],
        bridges=[{"bridge": "s1", "mode": "ovs"}, {"bridge": "s1", "mode": "linux"}],
    )
    assert len(told) == 4


@pytest.mark.parametrize("value", [None, 5, "x", {}, [5], [None], [[]]])
@pytest.mark.parametrize("section", ["links", "bridges", "tunnels", "commands"])
def test_what_no_schema_has_seen_is_refused_or_passed_over(section: str, value: Any) -> None:
    try:
        found: object = config(**{section: value})
    except ConfigError as error:
        found = error
    assert isinstance(found, Config | ConfigError)


@pytest.mark.parametrize("mtu", [1500.5, float("inf"), float("nan"), "1500", None, True])
def test_a_number_that_no_schema_has_seen(mtu: object) -> None:
    assert link(mtu=mtu).mtu in (None, 1)


def test_a_link_of_no_owner_is_not_merged() -> None:
    root = node({"links": [{"bridge": "a"}, {"bridge": "b"}, {"service": "x", "dev": 7}, "text"]})
    assert merge_links(root).bare() == root.bare()
