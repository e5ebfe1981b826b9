"""What should be, computed from a configuration and the containers that run."""

from __future__ import annotations

import hashlib
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.addressing import offset_mac, stable_mac
from model.config import Config, merge_links, parse
from model.desired import (
    Desired,
    Facts,
    Obstacle,
    combine,
    desired,
    matches,
    namespace_of,
    plane,
    wiring,
)
from model.document import Node
from model.keys import SELF, Key, NsKey, link_key
from model.ownership import group_of
from model.problems import Place
from model.replicas import Container
from model.resources import Address, Link, Offload, Route

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


@pytest.mark.parametrize(
    "link",
    [
        {"type": "dummy"},
        {"type": "vlan", "outer-dev": "ens3", "vlanid": 5},
        {"type": "macvlan", "outer-dev": "ens3"},
        {"type": "macvtap", "outer-dev": "ens3"},
        {"type": "ipvlan", "outer-dev": "ens3"},
        {"type": "ipvtap", "outer-dev": "ens3"},
    ],
)
def test_a_kind_is_wanted_or_reported(link: dict[str, Any]) -> None:
    found = desired(config({"service": "node", **link}), [replica(1)], FACTS)
    made = "node_1:eth0" in links(found)
    reported = [t for t in told(found) if t[:2] == ("node_1:eth0", "unsupported")]
    assert made or (reported and link["type"] in reported[0][2])


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"base": "host"}, "base host"),
        ({"netem": "delay 1ms"}, "netem"),
        ({"nat": "10.9.9.9"}, "nat"),
        ({"forward": "1080:80/tcp"}, "forward"),
        ({"ethtool": "--offload rxvlan off"}, "ethtool setting"),
        ({"ethtool": "-s speed 100"}, "ethtool setting"),
    ],
)
def test_what_is_valid_is_wanted_or_reported(more: dict[str, Any], what: str) -> None:
    found = desired(config({**VETH, **more}), [replica(1)], FACTS)
    reported = [message for _, state, message in told(found) if state == "unsupported"]
    assert len(found.resources) > 6 or any(what in message for message in reported)


@pytest.mark.parametrize("mode", ["ovs", "patch"])
def test_a_bridge_mode_is_wanted_or_reported(mode: str) -> None:
    found = desired(config(VETH, bridges=[{"bridge": "s1", "mode": mode}]), [replica(1)], FACTS)
    keys = {key for key, state, _ in told(found) if state == "unsupported"}
    assert "self:s1" in links(found) or {"self:s1", "node_1:eth0"} <= keys
    by_default = Facts(instance="lab", plane=SELF, bridge_mode=mode)  # type: ignore[arg-type]
    assert told(desired(config(VETH), [replica(1)], by_default)) == told(found)


def test_a_linux_bridge_is_wanted_in_every_default_mode() -> None:
    facts = Facts(instance="lab", plane=SELF, bridge_mode="ovs")
    found = desired(config(VETH, bridges=[{"bridge": "s1", "mode": "linux"}]), [replica(1)], facts)
    assert not found.obstacles


def test_tunnels_and_commands_are_wanted_or_reported() -> None:
    sections = {
        "tunnels": [{"type": "vxlan", "bridge": "s1", "remote": "10.0.0.9", "vni": 7}],
        "commands": [{"service": "node", "command": "true"}],
    }
    found = desired(config(**sections), [replica(1)], FACTS)
    keys = {key for key, state, _ in told(found) if state == "unsupported"}
    assert "self:vxlan-7" in links(found) or "self:vxlan-7" in keys
    assert any(key.startswith("node_1") for key in keys) or found.parts


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


# ------------------------------------------------------------------------------------ properties

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
    {"service": "web", "type": "dummy", "dev": "d0"},
]
SOME_CONTAINERS = st.lists(st.sampled_from(CONTAINERS), unique_by=lambda c: (c.id, c.name))
SOME_LINKS = st.lists(st.sampled_from(range(len(LINKS))), unique=True)


@settings(deadline=None)
@given(data=st.data(), chosen=SOME_LINKS, containers=SOME_CONTAINERS)
def test_the_order_of_containers_is_no_matter(
    data: st.DataObject, chosen: list[int], containers: list[Container]
) -> None:
    declared = config(*(LINKS[n] for n in chosen))
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
    declared = config(*(LINKS[n] for n in chosen))
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
    declared = config(*(LINKS[n] for n in chosen))
    whole = combine(
        [plane(declared, FACTS), *(wiring(declared, each, FACTS) for each in containers)]
    )
    assert whole == desired(declared, containers, FACTS)
    for each in containers:
        alone = wiring(declared, each, FACTS)
        own = namespace_of(each, FACTS)
        assert {r.key.ns for r in alone.resources} <= {own, SELF}
        assert {key.ns for key in alone.parts} <= {own}
