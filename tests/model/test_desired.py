"""What should be, computed from a configuration and the containers that run."""

from __future__ import annotations

import hashlib
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import ethtool, netem
from model.addressing import offset_mac, stable_mac
from model.commands import digest
from model.config import merge_links, parse
from model.declared import Config
from model.desired import desired, matches, namespace_of, wiring
from model.document import Node
from model.facts import Facts
from model.forwarding import slots
from model.keys import HOST, SELF, Key, NsKey, link_key
from model.nft import name_of, table_key
from model.ownership import group_of, table_of
from model.plane import bridge_mac, plane, tunnel_names
from model.problems import ConfigError, Place
from model.replicas import Container
from model.resources import (
    Address,
    Command,
    EthtoolCall,
    Link,
    NatTable,
    Neighbour,
    Offload,
    OvsBridge,
    OvsPort,
    Qdisc,
    Redirect,
    Resource,
    Route,
    Rule,
    Setting,
    Sysctl,
)
from model.rule import rule
from model.wanted import Desired, Obstacle, combine

Settings = tuple[tuple[str, object], ...]
FACTS = Facts(instance="lab", plane=SELF)
GROUP = group_of("lab")


def node(value: Any) -> Node:
    place = Place("f", 1, 1)
    if isinstance(value, dict):
        return Node({key: node(v) for key, v in value.items()}, place)
    return Node(tuple(map(node, value)) if isinstance(value, list) else value, place)


def config(*links: dict[str, Any], **sections: Any) -> Config:
    return parse(merge_links(node({"links": list(links), **sections})))


def replica(number: int, service: str = "node", **more: Any) -> Container:
    name = f"lab_{service}_{number}"
    id_ = hashlib.sha256(name.encode()).hexdigest()
    return Container(id_, name, "docker", "", service=service, number=number, **more)


def named(name: str, **more: Any) -> Container:
    return Container(name, name, "netns", f"/run/netns/{name}", **more)


def ns(name: str, container: Container) -> NsKey:
    return NsKey("container", name, container.id)


def addresses(found: Desired) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for resource in found.resources.values():
        if isinstance(resource, Address):
            result.setdefault(resource.key.ns.name, []).append(resource.ip)
    return result


def links(found: Desired) -> dict[str, Link]:
    return {str(key): r for key, r in found.resources.items() if isinstance(r, Link)}


def told(found: Desired) -> list[tuple[str, str, str]]:
    return [(str(o.key), o.state, o.message) for o in found.obstacles]


VETH: dict[str, Any] = {"service": "node", "bridge": "s1", "ip": ["10.0.1.1/24", "fd00::1/64"]}


def test_a_link_is_two_ends_an_offload_its_addresses_and_routes() -> None:
    container = replica(1)
    text = {**VETH, "mac": "02:00:00:00:00:01", "mtu": 1400, "route": "default via 10.0.1.254"}
    found = desired(config(text), [container], FACTS)
    inner, outer = link_key(ns("node_1", container), "eth0"), link_key(SELF, "node_1-eth0")
    alias = "relink lab: node_1:eth0 on s1"
    bridge = links(found)["self:s1"]
    assert (bridge.kind, bridge.up, bridge.group) == ("bridge", True, GROUP)
    assert (bridge.silent, bridge.alias) == (True, "relink lab: bridge s1")
    assert {key: r for key, r in found.resources.items() if r is not bridge} == {
        r.key: r
        for r in (
            Link(key=inner, kind="veth", peer=outer, mac="02:00:00:00:00:01", mtu=1400, up=True,
                 group=GROUP, alias=alias, promote=True),
            Link(key=outer, kind="veth", peer=inner, mtu=1400, up=True, master="s1", group=GROUP,
                 alias=alias, silent=True),
            Offload(key=Key(inner.ns, "offload", "eth0"), features=(("tx", False),)),
            Address(key=Key(inner.ns, "address", "eth0", "10.0.1.1/24"), ip="10.0.1.1/24"),
            Address(key=Key(inner.ns, "address", "eth0", "fd00::1/64"), ip="fd00::1/64"),
            Route(key=Key(inner.ns, "route", "eth0", "0.0.0.0/0 metric 0 table 254"), family=4,
                  dst="0.0.0.0/0", via="10.0.1.254"),
        )
    }  # fmt: skip
    assert set(found.parts) == {inner}
    assert set(found.parts[inner]) == found.resources.keys() - {link_key(SELF, "s1")}
    assert found.because[inner] == "f:1:1 (service node, replica 1)"
    assert found.because[link_key(SELF, "s1")] == "f:1:1 (bridge s1)"
    assert not found.obstacles


def test_each_replica_is_its_number_away() -> None:
    found = desired(config({**VETH, "mac": "02:00:00:00:00:01"}), map(replica, (1, 2, 9)), FACTS)
    assert addresses(found) == {
        "node_1": ["10.0.1.1/24", "fd00::1/64"],
        "node_2": ["10.0.1.2/24", "fd00::2/64"],
        "node_9": ["10.0.1.9/24", "fd00::9/64"],
    }
    assert [links(found)[f"node_{n}:eth0"].mac for n in (1, 2, 9)] == [
        "02:00:00:00:00:01",
        "02:00:00:00:00:02",
        "02:00:00:00:00:09",
    ]
    assert {"self:node_1-eth0", "self:node_2-eth0", "self:node_9-eth0"} < links(found).keys()


def test_a_container_by_name_is_never_counted() -> None:
    container = replica(5)
    link = {"container": container.name, "bridge": "s1", "ip": "10.0.1.1/24"}
    found = desired(config(link), [container], FACTS)
    assert addresses(found) == {"node_5": ["10.0.1.1/24"]}
    assert found.because[link_key(ns("node_5", container), "eth0")] == (
        "f:1:1 (container lab_node_5)"
    )


def test_a_derived_mac_counts_replicas() -> None:
    found = links(desired(config(VETH), map(replica, (1, 2)), FACTS))
    first = stable_mac("lab", "service node", "eth0", 0)
    assert found["node_1:eth0"].mac == first
    assert found["node_2:eth0"].mac == offset_mac(first, 1)


def test_a_replica_past_its_prefix_is_refused_and_the_others_are_wanted() -> None:
    found = desired(config({**VETH, "ip": "10.0.1.253/24"}), map(replica, (1, 2, 3, 4)), FACTS)
    assert addresses(found) == {"node_1": ["10.0.1.253/24"], "node_2": ["10.0.1.254/24"]}
    assert told(found) == [
        ("node_3:eth0", "refused",
         "replica 3: 10.0.1.253/24 + 2 is the broadcast address of 10.0.1.0/24 (f:1:1)"),
        ("node_4:eth0", "refused",
         "replica 4: 10.0.1.253/24 + 3 is past the end of 10.0.1.0/24 (f:1:1)"),
    ]  # fmt: skip
    assert len([key for key in found.parts if key.dev == "eth0"]) == 4, "all four are told about"


def test_a_mac_that_runs_over_is_refused() -> None:
    found = desired(config({**VETH, "mac": "02:00:00:ff:ff:ff"}), map(replica, (1, 2)), FACTS)
    assert [state for _, state, _ in told(found)] == ["refused"]
    assert "node_1:eth0" in links(found)


def test_long_names_that_begin_alike_do_not_clash() -> None:
    container = replica(1, service="a-long-service")
    specs = [
        {"service": "a-long-service", "bridge": "s1", "dev": dev}
        for dev in ("uplink0", "uplink1", "eth0")
    ]
    found = desired(config(*specs), [container], FACTS)
    outers = [r.key.dev for r in links(found).values() if r.master]
    assert len(set(outers)) == 3
    assert f"c{container.id[:8]}-eth0" in outers
    assert all(len(name) <= 15 for name in outers)
    assert not found.obstacles


def test_an_alias_fits_the_kernel() -> None:
    found = desired(config(VETH), [replica(1)], Facts(instance="ä" * 300, plane=SELF))
    assert all(len((r.alias or "").encode()) <= 255 for r in links(found).values())


def test_of_two_links_that_want_one_address_the_lower_has_it() -> None:
    one = {"service": "a", "bridge": "s1", "ip": "10.0.1.2/24"}
    two = {"service": "b", "bridge": "s1", "ip": "10.0.1.1/24"}
    first, second = replica(1, "a"), replica(2, "b")
    found = desired(config(one, two), [second, first], FACTS)
    assert addresses(found) == {"a_1": ["10.0.1.2/24"]}
    assert told(found) == [("b_2:eth0", "refused", "address 10.0.1.2 is already taken by a_1:eth0")]
    assert "b_2:eth0" not in links(found)
    assert "self:b_2-eth0" not in links(found)


def test_one_address_on_two_bridges_is_no_clash() -> None:
    one = {"service": "a", "bridge": "s1", "ip": "10.0.1.1/24"}
    two = {"service": "b", "bridge": "s2", "ip": "10.0.1.1/24"}
    assert not desired(config(one, two), [replica(1, "a"), replica(1, "b")], FACTS).obstacles


def test_an_outer_name_belongs_to_one_replica() -> None:
    found = desired(config({**VETH, "outer-dev": "port"}), map(replica, (1, 2)), FACTS)
    assert told(found) == [
        ("node_2:eth0", "refused", "interface name port is already taken by node_1:eth0")
    ]


def test_one_mac_on_one_bridge() -> None:
    mac = "02:00:00:00:00:05"
    one = {"service": "a", "bridge": "s1", "mac": mac}
    two = {"service": "b", "bridge": "s1", "mac": mac}
    found = desired(config(one, two), [replica(1, "a"), replica(1, "b")], FACTS)
    assert told(found) == [
        ("b_1:eth0", "refused", f"hardware address {mac} is already taken by a_1:eth0")
    ]


def test_one_route_of_one_namespace() -> None:
    one = {"service": "node", "bridge": "s1", "ip": "10.0.1.1/24", "route": "default"}
    two = {**one, "dev": "eth1", "ip": "10.0.2.1/24"}
    found = desired(config(one, two), map(replica, (1, 2)), FACTS)
    taken = "route 0.0.0.0/0 metric 0 table 254 is already taken by"
    assert told(found) == [
        ("node_1:eth1", "refused", f"{taken} node_1:eth0"),
        ("node_2:eth1", "refused", f"{taken} node_2:eth0"),
    ]


def test_one_dev_by_service_and_by_name_is_declared_twice() -> None:
    container = replica(1)
    by_name = {"container": container.name, "bridge": "s2", "ip": "10.0.9.1/24"}
    found = desired(config(VETH, by_name), [container], FACTS)
    assert addresses(found) == {"node_1": ["10.0.1.1/24", "fd00::1/64"]}
    assert told(found) == [("node_1:eth0", "refused", "eth0 is declared twice for node_1 (f:1:1)")]


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ("host", "the container uses the host's network; nothing is changed there"),
        ("lab_pod_1", "the container uses the network of lab_pod_1; declare the link there"),
        ("ns:/run/netns/x", "the container uses the network of ns:/run/netns/x"),
    ],
)
def test_a_network_of_somebody_else_is_not_touched(shares: str, said: str) -> None:
    found = desired(config(VETH), [replica(1, shares=shares), replica(2)], FACTS)
    ((key, state, message),) = told(found)
    assert (key, state) == ("node_1:eth0", "blocked")
    assert message.startswith(said)
    assert set(addresses(found)) == {"node_2"}


def test_a_dummy_is_one_interface() -> None:
    container = replica(1)
    found = desired(config({"service": "node", "type": "dummy", "ip": "10.0.1.1/24"}),
                    [container], FACTS)  # fmt: skip
    key = link_key(ns("node_1", container), "eth0")
    mac = stable_mac("lab", "service node", "eth0", 0)
    assert found.resources == {
        key: Link(key=key, kind="dummy", mac=mac, mtu=65535, up=True, group=GROUP,
                  alias="relink lab: node_1:eth0", promote=True),
        Key(key.ns, "address", "eth0", "10.0.1.1/24"): Address(
            key=Key(key.ns, "address", "eth0", "10.0.1.1/24"), ip="10.0.1.1/24"
        ),
    }  # fmt: skip
    assert found.parts == {key: tuple(found.resources)}
    assert found.bridges == {}


@pytest.mark.parametrize(
    ("kind", "more", "values", "has_mac"),
    [
        ("vlan", {"vlanid": 5}, (("vlanid", 5),), True),
        ("macvlan", {}, (), True),
        ("macvlan", {"mode": "bridge"}, (("mode", "bridge"),), True),
        ("macvlan", {"mode": "passthru"}, (("mode", "passthru"),), False),
        ("macvtap", {"mode": "vepa"}, (("mode", "vepa"),), True),
        ("ipvlan", {"mode": "l2"}, (("mode", "l2"),), False),
        ("ipvtap", {}, (), False),
    ],
)
@pytest.mark.parametrize("base", ["host", "conlink", "local"])
def test_one_of_the_vlan_family_is_stacked_on_its_parent(
    kind: str, more: dict[str, Any], values: Settings, base: str, *, has_mac: bool
) -> None:
    text = {"service": "node", "type": kind, "base": base, "outer-dev": "ens3", **more}
    inner = ns("node_1", replica(1))
    link = links(desired(config(text), [replica(1)], FACTS))["node_1:eth0"]
    assert link.parent == link_key({"host": HOST, "conlink": SELF, "local": inner}[base], "ens3")
    assert (link.kind, link.settings, link.mtu) == (kind, values, None), "it has its parent's MTU"
    assert (link.peer, link.group, link.up, link.promote) == (None, GROUP, True, True)
    assert (link.mac is not None) is has_mac
    given = links(desired(config({**text, "mtu": 1400}), [replica(1)], FACTS))["node_1:eth0"]
    assert given.mtu == 1400


def test_netem_is_the_root_qdisc() -> None:
    found = desired(config({**VETH, "netem": "delay 1ms"}), [replica(1)], FACTS)
    inner = link_key(ns("node_1", replica(1)), "eth0")
    key = Key(inner.ns, "qdisc", "eth0", "root")
    assert found.resources[key] == Qdisc(key=key, netem=netem.parse("delay 1ms"))
    assert key in found.parts[inner]


def test_ethtool_settings_and_calls_are_resources_of_their_own() -> None:
    words = ["-G rx 512", "-C rx-usecs 10", "-L combined 2", "-s speed 100", "--offload gro off"]
    found = desired(config({**VETH, "ethtool": words}), [replica(1)], FACTS)
    where = ns("node_1", replica(1))
    made = {r.key: r for r in found.resources.values() if isinstance(r, Setting | EthtoolCall)}
    expected = [
        Setting(key=Key(where, "setting", "eth0", "ring"), values=(("rx", 512),)),
        Setting(key=Key(where, "setting", "eth0", "coalesce"), values=(("rx-usecs", 10),)),
        Setting(key=Key(where, "setting", "eth0", "channels"), values=(("combined", 2),)),
        ethtool.call(link_key(where, "eth0"), ("--change", "speed", "100")),
    ]
    assert made == {each.key: each for each in expected}
    assert set(made) <= set(found.parts[link_key(where, "eth0")])


# ------------------------------------------------------------------------------ address translation


def tables(found: Desired) -> dict[str, tuple[str, ...]]:
    return {str(r.key.ns): r.summary for r in found.resources.values() if isinstance(r, NatTable)}


def test_nat_is_a_table_of_the_container() -> None:
    found = desired(config({**VETH, "nat": "10.9.9.9"}), [replica(1)], FACTS)
    where = ns("node_1", replica(1))
    assert tables(found) == {"node_1": ("eth0 -> 10.9.9.9, back as 10.0.1.1",)}
    key = Key(where, "nat", "", name_of("lab"))
    assert key in found.parts[link_key(where, "eth0")]
    assert found.because[key] == "f:1:1 (service node, replica 1)"


def test_two_links_of_a_container_translate_in_one_table() -> None:
    one = {**VETH, "nat": "10.9.9.9"}
    two = {
        "service": "node",
        "type": "dummy",
        "dev": "eth1",
        "ip": "10.0.2.1/24",
        "nat": "10.8.8.8",
    }
    found = desired(config(one, two), [replica(1)], FACTS)
    assert tables(found) == {
        "node_1": ("eth0 -> 10.9.9.9, back as 10.0.1.1", "eth1 -> 10.8.8.8, back as 10.0.2.1")
    }
    where = ns("node_1", replica(1))
    for dev in ("eth0", "eth1"):
        assert Key(where, "nat", "", name_of("lab")) in found.parts[link_key(where, dev)]


def test_a_forward_leads_there_and_back() -> None:
    text = {**VETH, "ip": "10.0.1.1/24", "mac": "02:00:00:00:00:01",
            "forward": ["1080:80/tcp", "53:5300/udp"]}  # fmt: skip
    found = desired(config(text), [replica(1)], FACTS)
    where = ns("node_1", replica(1))
    inner = link_key(where, "eth0")
    gateway, mac = "169.254.0.158", bridge_mac("lab", SELF, "s1")
    mark = table_of(GROUP, slots(["eth0"])["eth0"])
    assert tables(found) == {
        "node_1": (f"eth0 from {mac} returns by mark {mark:#x}",),
        "self": ("tcp 1080 -> 10.0.1.1:80", "udp 53 -> 10.0.1.1:5300"),
    }
    there = {
        Neighbour(key=Key(SELF, "neighbour", "s1", "10.0.1.1"), mac="02:00:00:00:00:01"),
        Route(key=Key(SELF, "route", "s1", "10.0.1.1/32 metric 0 table 254"), family=4,
              dst="10.0.1.1/32", scope=253),
        Sysctl(key=Key(SELF, "sysctl", "", "net/ipv4/ip_forward"), value="1"),
    }  # fmt: skip
    udp = {"protocol": "udp", "sports": (5300, 5300)}
    back = {
        Neighbour(key=Key(where, "neighbour", "eth0", gateway), mac=mac),
        Route(key=Key(where, "route", "eth0", f"0.0.0.0/0 metric 0 table {mark}"), family=4,
              dst="0.0.0.0/0", via=gateway, src="10.0.1.1", table=mark, onlink=True),
        rule(where, 4, table=mark, priority=100, mark=mark),
        rule(where, 4, table=mark, priority=40000, protocol="tcp", sports=(80, 80)),
        rule(where, 4, table=254, priority=32000, specific=True, **udp),
        rule(where, 4, table=mark, priority=32001, **udp),
    }  # fmt: skip
    kinds = (Neighbour, Route, Sysctl, Rule)
    assert {r for r in found.resources.values() if isinstance(r, kinds)} == there | back
    assert {r.key for r in there | back} <= set(found.parts[inner])
    table = Key(SELF, "nat", "", name_of("lab"))
    assert table in found.parts[inner]
    assert found.because[table] == found.because[inner]
    assert links(found)["node_1:eth0"].src_valid_mark is True
    assert links(found)["self:node_1-eth0"].src_valid_mark is None


def test_a_forward_to_both_families_takes_both_ways() -> None:
    found = desired(config({**VETH, "forward": "1080:80/tcp"}), [replica(1)], FACTS)
    assert tables(found)["self"] == ("tcp 1080 -> 10.0.1.1:80", "tcp 1080 -> [fd00::1]:80")
    six = Route(
        key=Key(SELF, "route", "s1", "fd00::1/128 metric 1024 table 254"), family=6,
        dst="fd00::1/128", metric=1024,
    )  # fmt: skip
    assert found.resources[six.key] == six
    switches = {r.key.detail for r in found.resources.values() if isinstance(r, Sysctl)}
    assert switches == {"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"}


def test_each_replica_has_the_ports_after_those_of_the_one_before() -> None:
    text = {**VETH, "ip": "10.0.1.1/24", "forward": ["1080:80/tcp", "8000-8009:90-99/udp"]}
    found = desired(config(text), map(replica, (1, 3)), FACTS)
    assert tables(found)["self"] == (
        "tcp 1080 -> 10.0.1.1:80",
        "tcp 1082 -> 10.0.1.3:80",
        "udp 8000-8009 -> 10.0.1.1:90-99",
        "udp 8020-8029 -> 10.0.1.3:90-99",
    )


def test_ports_past_the_last_one_are_refused() -> None:
    text = {**VETH, "forward": "65535:80/tcp"}
    found = desired(config(text), map(replica, (1, 2)), FACTS)
    assert told(found) == [
        ("node_2:eth0", "refused", "replica 2: port 65535 + 1 is past 65535 (f:1:1)")
    ]
    assert tables(found).keys() == {"node_1", "self"}


def test_the_sidecar_has_one_way_to_an_address_that_it_forwards_to() -> None:
    one = {"service": "node", "bridge": "s1", "ip": "10.0.1.1/24", "forward": "1080:80/tcp"}
    other = {"service": "web", "bridge": "s2", "ip": "10.0.1.1/24", "forward": "1081:80/tcp"}
    found = desired(config(one, other), [replica(1), replica(1, "web")], FACTS)
    assert told(found) == [
        ("web_1:eth0", "refused", "forwarded address 10.0.1.1 is already taken by node_1:eth0")
    ]


def test_a_port_of_the_sidecar_is_forwarded_once_in_each_family() -> None:
    one = {"service": "node", "bridge": "s1", "ip": "10.0.1.1/24", "forward": "1080:80/tcp"}
    other = {"service": "web", "bridge": "s1", "ip": "10.0.1.9/24", "forward": "1081:80/tcp"}
    six = {"service": "web", "bridge": "s1", "ip": "fd00::9/64", "forward": "1081:80/tcp"}
    found = desired(config(one, other), [replica(2), replica(1, "web")], FACTS)
    assert told(found) == [
        ("web_1:eth0", "refused",
         "port 1081/tcp (IPv4) of the sidecar is already taken by node_2:eth0")
    ]  # fmt: skip
    assert tables(found) == {
        "node_2": tables(found)["node_2"], "self": ("tcp 1081 -> 10.0.1.2:80",),
    }  # fmt: skip
    assert not desired(config(one, six), [replica(2), replica(1, "web")], FACTS).obstacles


def test_a_link_that_lost_takes_nothing_from_the_other_links_of_its_container() -> None:
    """Two links of one container share a rule, a table and a switch of the kernel."""
    first = {"service": "a", "bridge": "s1", "ip": "10.0.1.2/24"}
    lost = {"service": "b", "bridge": "s1", "ip": "10.0.1.1/24", "forward": "53:53/udp"}
    kept = {"service": "b", "bridge": "s2", "dev": "eth1", "ip": "10.0.2.1/24",
            "forward": "54:53/udp"}  # fmt: skip
    containers = [replica(1, "a"), replica(2, "b")]
    found = desired(config(first, lost, kept), containers, FACTS)
    assert [key for key, *_ in told(found)] == ["b_2:eth0"]
    missing = set(found.parts[link_key(ns("b_2", containers[1]), "eth1")]) - set(found.resources)
    assert not missing
    assert tables(found)["self"] == ("udp 55 -> 10.0.2.2:53",)
    assert not [key for key in found.resources if key.ns.name == "b_2" and key.dev == "eth0"]


@pytest.mark.parametrize("key", ["nat", "forward"])
def test_an_interface_that_nft_cannot_name_is_not_translated(key: str) -> None:
    value = {"nat": "10.9.9.9", "forward": "1080:80/tcp"}[key]
    found = desired(config({**VETH, "dev": "@0", key: value}), [replica(1)], FACTS)
    assert told(found) == [
        ("node_1:@0", "refused",
         "replica 1: nft cannot match an interface called '@0' (f:1:1)")
    ]  # fmt: skip


# ---------------------------------------------------------------------------- patches, Open vSwitch


def patched(*services: str, **more: Any) -> Desired:
    specs = [{"service": name, "bridge": "p1", **more} for name in services]
    declared = config(*specs, bridges=[{"bridge": "p1", "mode": "patch"}])
    return desired(declared, [replica(1, name) for name in services], FACTS)


def redirects(found: Desired) -> dict[str, str]:
    return {r.key.dev: str(r.target) for r in found.resources.values() if isinstance(r, Redirect)}


def test_a_patch_leads_each_of_two_ends_to_the_other() -> None:
    found = patched("a", "b")
    assert redirects(found) == {"a_1-eth0": "self:b_1-eth0", "b_1-eth0": "self:a_1-eth0"}
    assert links(found).keys() == {"a_1:eth0", "b_1:eth0", "self:a_1-eth0", "self:b_1-eth0"}
    assert links(found)["self:a_1-eth0"].master == "", "it is no bridge"
    for link, parts in found.parts.items():
        assert Key(SELF, "redirect", f"{link.ns.name}-eth0") in parts
        assert found.because[Key(SELF, "redirect", f"{link.ns.name}-eth0")] == found.because[link]
    assert not found.obstacles
    assert not found.notes


def test_an_end_of_a_patch_whose_other_end_does_not_run_is_noted() -> None:
    found = patched("a")
    assert redirects(found) == {}
    assert {str(k): v for k, v in found.notes.items()} == {
        "a_1:eth0": "the other end of patch p1 does not run"
    }
    assert not found.obstacles


def test_a_third_end_of_a_patch_is_refused_whatever_the_order() -> None:
    found = patched("c", "a", "b")
    assert told(found) == [
        ("c_1:eth0", "refused", "patch p1 joins two links, and has a_1:eth0 and b_1:eth0")
    ]
    assert set(redirects(found)) == {"a_1-eth0", "b_1-eth0"}
    assert "c_1:eth0" not in links(found)


def test_an_end_that_lost_its_address_makes_place_in_the_patch() -> None:
    one = {"service": "a", "bridge": "p1", "ip": "10.0.1.2/24"}
    two = {**one, "service": "b", "ip": "10.0.1.1/24"}
    three = {**one, "service": "c", "ip": "10.0.1.3/24"}
    declared = config(one, two, three, bridges=[{"bridge": "p1", "mode": "patch"}])
    found = desired(declared, [replica(1, "a"), replica(2, "b"), replica(1, "c")], FACTS)
    assert [key for key, *_ in told(found)] == ["b_2:eth0"]
    assert set(redirects(found)) == {"a_1-eth0", "c_1-eth0"}


def test_a_patch_has_no_address_to_forward_to() -> None:
    """Where the command line makes it one; a file that says so is refused as it is read."""
    text = {**VETH, "ip": "10.0.1.1/24", "forward": "1080:80/tcp"}
    facts = Facts(instance="lab", plane=SELF, bridge_mode="patch")
    assert told(desired(config(text), [replica(1)], facts)) == [
        ("node_1:eth0", "refused", "replica 1: 'forward' needs a bridge, and s1 is a patch (f:1:1)")
    ]
    with pytest.raises(ConfigError, match="'forward' needs a bridge, and s1 is a patch"):
        config(text, bridges=[{"bridge": "s1", "mode": "patch"}])


@pytest.mark.parametrize(("datapath", "kind"), [("system", "openvswitch"), ("netdev", "tun")])
def test_a_bridge_of_open_vswitch(datapath: Any, kind: str) -> None:
    facts = Facts(instance="lab", plane=SELF, bridge_mode="ovs", datapath=datapath)
    found = desired(config(VETH), [replica(1)], facts)
    bridge = Key(SELF, "ovs-bridge", "s1")
    port = Key(SELF, "ovs-port", "node_1-eth0")
    mac = bridge_mac("lab", SELF, "s1")
    assert found.resources[bridge] == OvsBridge(key=bridge, datapath=datapath, mac=mac)
    assert found.resources[port] == OvsPort(key=port, bridge="s1")
    own = links(found)["self:s1"]
    assert (own.kind, own.up, own.group, own.silent) == (kind, True, GROUP, True)
    assert links(found)["self:node_1-eth0"].master == "", "Open vSwitch plugs it in"
    assert port in found.parts[link_key(ns("node_1", replica(1)), "eth0")]


def test_a_userspace_datapath_takes_checksums_whatever_is_declared() -> None:
    def features(datapath: Any, **more: Any) -> Resource | None:
        facts = Facts(instance="lab", plane=SELF, bridge_mode="ovs", datapath=datapath,
                      keep_veth_offload=True)  # fmt: skip
        key = Key(ns("node_1", replica(1)), "offload", "eth0")
        return desired(config({**VETH, **more}), [replica(1)], facts).resources.get(key)

    off = Offload(key=Key(ns("node_1", replica(1)), "offload", "eth0"), features=(("tx", False),))
    assert features("netdev") == off
    assert features("netdev", ethtool="--offload tx on") == off
    assert features("system") is None


@pytest.mark.parametrize(
    ("mode", "auto", "what"),
    [
        ("auto", "linux", "bridge"),
        ("auto", "ovs", "tun"),
        ("ovs", "linux", "tun"),
        ("linux", "ovs", "bridge"),
        ("patch", "ovs", ""),
    ],
)
def test_the_default_mode_of_a_bridge(mode: Any, auto: Any, what: str) -> None:
    facts = Facts(instance="lab", plane=SELF, bridge_mode=mode, auto=auto)
    made = links(desired(config(VETH), [replica(1)], facts)).get("self:s1")
    assert (made.kind if made else "") == what
    # What a bridge says of itself counts more.
    own = config(VETH, bridges=[{"bridge": "s1", "mode": "linux"}])
    assert links(desired(own, [replica(1)], facts))["self:s1"].kind == "bridge"


# ------------------------------------------------------------------------------------------ tunnels


TUNNEL = {"type": "vxlan", "bridge": "s1", "remote": "10.0.0.9", "vni": 7}


def tunnels(*more: dict[str, Any], **facts: Any) -> Desired:
    declared = config(tunnels=[{**TUNNEL, **each} for each in more])
    return desired(declared, [], Facts(instance="lab", plane=SELF, **facts))


def test_a_tunnel_is_plugged_into_its_bridge() -> None:
    more = {"port": 4000, "local": "10.0.0.8", "ttl": 9, "tos": 1, "df": "set", "netem": "loss 1%"}
    found = tunnels(more)
    key = link_key(SELF, "vxlan-7")
    assert found.resources[key] == Link(
        key=key, kind="vxlan", mtu=1450, up=True, master="s1", group=GROUP, silent=True,
        alias="relink lab: vxlan-7 to 10.0.0.9 on s1",
        settings=(("df", "set"), ("local", "10.0.0.8"), ("port", 4000), ("remote", "10.0.0.9"),
                  ("tos", 1), ("ttl", 9), ("vni", 7)),
    )  # fmt: skip
    qdisc = Key(SELF, "qdisc", "vxlan-7", "root")
    assert found.resources[qdisc] == Qdisc(key=qdisc, netem=netem.parse("loss 1%"))
    assert found.parts == {key: (key, qdisc)}
    assert found.because[key] == found.because[qdisc] == "f:1:1 (tunnel vxlan-7)"
    assert found.bridges == {key: "s1"}


def test_the_ports_of_tunnels_are_those_of_their_standards() -> None:
    found = links(tunnels({}, {"type": "geneve"}))
    assert dict(found["self:vxlan-7"].settings)["port"] == 4789
    assert found["self:geneve-7"].settings == (("port", 6081), ("remote", "10.0.0.9"), ("vni", 7))


def test_a_second_tunnel_with_one_number_has_a_name_of_its_own() -> None:
    specs = config(tunnels=[
        {**TUNNEL, "type": "geneve", "vni": 16777215, "remote": remote}
        for remote in ("10.0.0.9", "10.0.0.10", "fd00::9")
    ]).tunnels  # fmt: skip
    names = tunnel_names(specs)
    assert names[0] == "geneve-16777215"
    assert len(set(names)) == 3
    assert all(name.startswith("g16777215-") for name in names[1:])
    assert all(len(name) <= 15 for name in names)
    assert tunnel_names(specs) == names


@pytest.mark.parametrize(
    ("kind", "remote", "below", "mtu"),
    [
        ("vxlan", "10.0.0.9", None, 1450),
        ("geneve", "10.0.0.9", None, 1450),
        ("vxlan", "fd00::9", None, 1430),
        ("geneve", "fd00::9", 9000, 8930),
        ("vxlan", "10.0.0.9", 65536, 65486),
        ("vxlan", "10.0.0.9", 100, 68),
    ],
)
def test_a_tunnel_takes_what_fits_the_way(
    kind: str, remote: str, below: int | None, mtu: int
) -> None:
    underlay = {} if below is None else {remote: below}
    found = tunnels({"type": kind, "remote": remote}, underlay=underlay)
    key = link_key(SELF, f"{kind}-7")
    assert links(found)[str(key)].mtu == mtu
    way = f"mtu {mtu}, which fits the way to {remote}"
    no_way = f"no route to {remote}; mtu {mtu}, as for an Ethernet"
    assert found.notes == {key: no_way if below is None else way}
    given = tunnels({"type": kind, "remote": remote, "mtu": 1300}, underlay=underlay)
    assert links(given)[str(key)].mtu == 1300
    assert given.notes == {}


def test_links_of_a_tunnels_bridge_fit_the_tunnel_and_say_so() -> None:
    narrow, wide = TUNNEL, {**TUNNEL, "vni": 8, "mtu": 9000}
    elsewhere = {**VETH, "dev": "eth1", "bridge": "s2", "ip": "10.0.2.1/24"}
    given = {**VETH, "dev": "eth2", "mtu": 1500, "ip": "10.0.1.100/24"}
    declared = config(VETH, elsewhere, given, tunnels=[wide, narrow])
    found = desired(declared, [replica(1)], FACTS)
    assert [links(found)[f"node_1:eth{n}"].mtu for n in (0, 1, 2)] == [1450, 65535, 1500]
    assert links(found)["self:node_1-eth0"].mtu == 1450
    notes = {str(k): v for k, v in found.notes.items() if k.ns != SELF}
    assert notes == {"node_1:eth0": "mtu 1450 to fit vxlan-7"}
    facts = Facts(instance="lab", plane=SELF, mtu=1400)
    assert links(desired(declared, [replica(1)], facts))["node_1:eth0"].mtu == 1400


def test_a_tunnel_on_a_patch_is_its_other_end_and_one_on_open_vswitch_a_port() -> None:
    declared = config(VETH, tunnels=[TUNNEL])
    patch = Facts(instance="lab", plane=SELF, bridge_mode="patch")
    found = desired(declared, [replica(1)], patch)
    assert redirects(found) == {"vxlan-7": "self:node_1-eth0", "node_1-eth0": "self:vxlan-7"}
    assert links(found)["self:vxlan-7"].master == ""
    ovs = Facts(instance="lab", plane=SELF, bridge_mode="ovs")
    found = desired(declared, [replica(1)], ovs)
    port = Key(SELF, "ovs-port", "vxlan-7")
    assert found.resources[port] == OvsPort(key=port, bridge="s1")
    assert found.parts[link_key(SELF, "vxlan-7")] == (link_key(SELF, "vxlan-7"), port)


# ----------------------------------------------------------------------------------------- commands


def test_a_command_needs_every_part_of_every_link_of_its_container() -> None:
    other = {"service": "node", "type": "dummy", "dev": "eth1", "nat": "10.9.9.9",
             "ip": "10.0.2.1/24"}  # fmt: skip
    commands = [
        {"service": "node", "command": ["echo", "$x"]},
        {"container": "lab_node_1", "command": "echo"},
        {"service": "web", "command": "never"},
    ]
    found = desired(config(VETH, other, commands=commands), map(replica, (1, 2)), FACTS)
    where = ns("node_1", replica(1))
    made = [r for r in found.resources.values() if isinstance(r, Command)]
    assert sorted((r.key.ns.name, r.argv) for r in made) == [
        ("node_1", ("echo", "$x")), ("node_1", ("sh", "-c", "echo")), ("node_2", ("echo", "$x")),
    ]  # fmt: skip
    own = {part for link, parts in found.parts.items() if link.ns == where for part in parts}
    assert Key(where, "nat", "", name_of("lab")) in own, "its own table too"
    assert all(set(r.needs) == own for r in made if r.key.ns == where)
    (first,) = (r for r in made if r.key.ns == where and r.argv[0] == "echo")
    assert first.key == Key(where, "command", "", digest(first.argv))
    assert found.because[first.key] == "f:1:1 (service node, replica 1)"


def test_a_command_of_a_container_without_links_needs_nothing() -> None:
    found = desired(config(commands=[{"service": "node", "command": "true"}]), [replica(1)], FACTS)
    (made,) = found.resources.values()
    assert isinstance(made, Command)
    assert made.needs == ()


# ----------------------------------------------------------------------------------------- replicas


def test_only_what_offset_names_grows() -> None:
    text = {**VETH, "ip": "10.0.1.1/24", "mac": "02:00:00:00:00:01", "forward": "1080:80/tcp"}

    def third(offset: list[str]) -> tuple[list[str], str | None, tuple[str, ...]]:
        found = desired(config({**text, "offset": offset}), [replica(3)], FACTS)
        return addresses(found)["node_3"], links(found)["node_3:eth0"].mac, tables(found)["self"]

    same, mac = ["10.0.1.1/24"], "02:00:00:00:00:01"
    assert third([]) == (same, mac, ("tcp 1080 -> 10.0.1.1:80",))
    assert third(["ip"]) == (["10.0.1.3/24"], mac, ("tcp 1080 -> 10.0.1.3:80",))
    assert third(["mac"]) == (same, "02:00:00:00:00:03", ("tcp 1080 -> 10.0.1.1:80",))
    assert third(["forward"]) == (same, mac, ("tcp 1082 -> 10.0.1.1:80",))


def test_a_tag_grows_where_that_is_said() -> None:
    text = {"service": "node", "type": "vlan", "outer-dev": "ens3", "vlanid": 4093}

    alike = desired(config(text), map(replica, (1, 2)), FACTS)
    assert told(alike) == [  # the kernel has one child for each tag of a parent
        ("node_2:eth0", "refused", "vlanid 4093 of host:ens3 is already taken by node_1:eth0")
    ]
    found = links(desired(config({**text, "offset": ["vlanid"]}), map(replica, (1, 2)), FACTS))
    tags = [dict(found[f"node_{n}:eth0"].settings)["vlanid"] for n in (1, 2)]
    assert tags == [4093, 4094]
    past = desired(config({**text, "offset": ["vlanid"]}), [replica(3)], FACTS)
    assert told(past) == [
        ("node_3:eth0", "refused", "replica 3: vlanid 4093 + 2 is past 4094 (f:1:1)")
    ]


def test_two_replicas_share_an_address_where_their_tags_differ() -> None:
    text = {"service": "node", "type": "vlan", "outer-dev": "ens3", "vlanid": 5,
            "ip": "10.0.1.1/24"}  # fmt: skip
    apart = desired(config({**text, "offset": ["vlanid", "mac"]}), map(replica, (1, 2)), FACTS)
    assert not apart.obstacles
    together = desired(config({**text, "offset": ["mac"]}), map(replica, (1, 2)), FACTS)
    assert [key for key, *_ in told(together)] == ["node_2:eth0"]


def test_a_replica_has_words_of_its_own_and_further_ones_follow_the_rule() -> None:
    text = {**VETH, "ip": "10.0.1.1/24", "mtu": 1400,
            "per-replica": [{"ip": "10.0.1.77/24"}, {"mtu": 1300}]}  # fmt: skip
    found = desired(config(text), map(replica, (1, 2, 3)), FACTS)
    assert addresses(found) == {
        "node_1": ["10.0.1.77/24"],
        "node_2": ["10.0.1.2/24"],
        "node_3": ["10.0.1.3/24"],
    }
    assert [links(found)[f"node_{n}:eth0"].mtu for n in (1, 2, 3)] == [1400, 1300, 1400]


def test_offloads_of_ones_own_and_of_the_link() -> None:
    key = Key(ns("node_1", replica(1)), "offload", "eth0")

    def features(*, keep: bool, **more: Any) -> tuple[tuple[str, bool], ...]:
        facts = Facts(instance="lab", plane=SELF, keep_veth_offload=keep)
        found = desired(config({**VETH, **more}), [replica(1)], facts).resources.get(key)
        return found.features if isinstance(found, Offload) else ()

    assert features(keep=False) == (("tx", False),)
    assert features(keep=True) == ()
    assert features(keep=True, ethtool="--offload gro off rx on") == (("gro", False), ("rx", True))
    assert features(keep=False, ethtool="--offload tx on") == (("tx", True),)


def test_the_default_mtu() -> None:
    facts = Facts(instance="lab", plane=SELF, mtu=1500)
    assert links(desired(config(VETH), [replica(1)], facts))["node_1:eth0"].mtu == 1500
    assert links(desired(config(VETH), [replica(1)], FACTS))["self:node_1-eth0"].mtu == 65535


def test_a_route_without_an_interface_stands_on_none() -> None:
    found = desired(config({**VETH, "route": "blackhole 10.9.0.0/16"}), [replica(1)], FACTS)
    (route,) = (r for r in found.resources.values() if isinstance(r, Route))
    assert (route.key.dev, route.type) == ("", "blackhole")


def test_a_service_is_of_the_project_and_the_directory() -> None:
    (spec,) = config(VETH).links
    container = replica(1, project="lab", workdir="/lab")
    for project, workdir, expected in (
        ("", "", True),
        ("lab", "", True),
        ("lab", "/lab", True),
        ("other", "", False),
        ("lab", "/other", False),
    ):
        facts = Facts(instance="lab", plane=SELF, project=project, workdir=workdir)
        assert matches(spec.owner, container, facts) is expected
    (by_name,) = config({"container": "lab_node_1", "bridge": "s1"}).links
    elsewhere = Facts(instance="lab", plane=SELF, project="other", workdir="/other")
    assert matches(by_name.owner, container, elsewhere)
    assert not matches(by_name.owner, replica(2), elsewhere)


def test_what_people_read_of_a_container() -> None:
    facts = Facts(instance="lab", plane=SELF, project="lab")
    assert str(namespace_of(replica(5, project="lab"), facts)) == "node_5"
    assert str(namespace_of(replica(5, project="other"), facts)) == "lab_node_5"
    assert str(namespace_of(named("router"), facts)) == "router"


def test_a_container_that_nothing_is_declared_for_has_nothing() -> None:
    assert wiring(config(VETH), named("other"), FACTS).resources == ()
    found = desired(config(VETH), [named("other")], FACTS)
    assert links(found).keys() == {"self:s1"}
    assert found.parts == {}


def test_nothing_declared_is_nothing_wanted() -> None:
    assert desired(Config(), [replica(1)], FACTS) == Desired({}, {}, {}, ())


def test_obstacles_are_told_once() -> None:
    one = wiring(config({**VETH, "netem": "loss 1%"}), replica(1), FACTS)
    assert len(combine([one, one]).obstacles) == len(set(one.obstacles))


# --------------------------------------------------------------------------------------- properties

CONTAINERS = [
    replica(1), replica(2), replica(200), replica(254), replica(1, "web"), replica(2, "web"),
    replica(3, shares="host"), named("router"), named("a-rather-long-namespace-name"),
    named("lab_node_1"),
]  # fmt: skip
LINKS: list[dict[str, Any]] = [
    VETH,
    {**VETH, "service": "web", "ip": ["10.0.1.2/24"], "netem": "delay 1ms"},
    {**VETH, "dev": "uplink0", "bridge": "s2", "ip": ["10.0.2.1/24"], "route": "default"},
    {**VETH, "dev": "uplink1", "bridge": "s3", "ip": ["10.0.3.1/30"], "route": "default"},
    {"container": "router", "bridge": "s1", "ip": "10.0.1.200/24", "outer-dev": "port"},
    {"container": "a-rather-long-namespace-name", "bridge": "s1", "outer-dev": "eth7"},
    {"container": "lab_node_1", "bridge": "s4", "dev": "eth0"},
    {"service": "web", "type": "dummy", "dev": "d0", "nat": "10.9.9.9", "ip": "10.0.8.1/24"},
    {
        "service": "web",
        "type": "vlan",
        "dev": "v0",
        "outer-dev": "d0",
        "base": "local",
        "vlanid": 5,
        "offset": ["vlanid"],
        "mac": "02:00:00:00:00:01",
    },
    {**VETH, "dev": "eth2", "bridge": "s5", "ip": "10.0.5.1/24", "forward": "53:53/udp"},
    {**VETH, "dev": "eth3", "bridge": "s5", "ip": "10.0.5.2/24", "forward": "54:53/udp"},
    {"service": "node", "dev": "p0", "bridge": "p1"},
    {"service": "web", "dev": "p0", "bridge": "p1"},
    {"container": "router", "dev": "p0", "bridge": "o1"},
]
SECTIONS: dict[str, Any] = {
    "bridges": [{"bridge": "p1", "mode": "patch"}, {"bridge": "o1", "mode": "ovs"}],
    "tunnels": [{**TUNNEL, "netem": "loss 1%"}],
    "commands": [{"service": "web", "command": "true"}],
}
SOME_CONTAINERS = st.lists(st.sampled_from(CONTAINERS), unique_by=lambda c: (c.id, c.name))
SOME_LINKS = st.lists(st.sampled_from(range(len(LINKS))), unique=True)


@settings(deadline=None)
@given(data=st.data(), chosen=SOME_LINKS, containers=SOME_CONTAINERS)
def test_the_order_of_containers_is_no_matter(
    data: st.DataObject, chosen: list[int], containers: list[Container]
) -> None:
    declared = config(*(LINKS[n] for n in chosen), **SECTIONS)
    shuffled = data.draw(st.permutations(containers))
    one, two = desired(declared, containers, FACTS), desired(declared, shuffled, FACTS)
    assert one == two
    assert one.obstacles == two.obstacles
    assert desired(declared, containers, FACTS) == one


def test_every_order_of_four_that_contend() -> None:
    link = {**VETH, "outer-dev": "port"}
    found = [desired(config(link), order, FACTS) for order in permutations(CONTAINERS[:4])]
    assert all(each == found[0] for each in found)
    assert isinstance(found[0].obstacles[0], Obstacle)


@settings(deadline=None)
@given(chosen=SOME_LINKS, containers=SOME_CONTAINERS)
def test_what_is_wanted_is_whole(chosen: list[int], containers: list[Container]) -> None:
    declared = config(*(LINKS[n] for n in chosen), **SECTIONS)
    found = desired(declared, containers, FACTS)
    names = [(str(key.ns), key.ns.id, key.dev) for key in found.resources if key.type == "link"]
    assert len(names) == len(set(names))
    blocked = {o.key for o in found.obstacles}
    for key, resource in found.resources.items():
        assert key == resource.key
        assert key in found.because
        if isinstance(resource, Link) and resource.peer:
            other = found.resources[resource.peer]
            assert isinstance(other, Link)
            assert other.peer == key
        if isinstance(resource, Link) and resource.master:
            assert resource.master_key() in found.resources
        if isinstance(resource, Address):
            assert link_key(key.ns, key.dev) in found.resources
    for link in found.parts:
        assert link in blocked or link in found.resources


@settings(deadline=None)
@given(chosen=SOME_LINKS, containers=SOME_CONTAINERS)
def test_a_wiring_depends_on_its_own_container_alone(
    chosen: list[int], containers: list[Container]
) -> None:
    declared = config(*(LINKS[n] for n in chosen), **SECTIONS)
    whole = combine(
        [plane(declared, FACTS), *(wiring(declared, each, FACTS) for each in containers)],
        table_key(SELF, "lab"),
    )
    assert whole == desired(declared, containers, FACTS)
    for each in containers:
        alone = wiring(declared, each, FACTS)
        own = namespace_of(each, FACTS)
        assert {r.key.ns for r in alone.resources} <= {own, SELF}
        assert {key.ns for key in alone.parts} <= {own}
