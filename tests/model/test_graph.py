"""The network as nodes and edges: from what is declared alone, and with what a look found."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from model.declared import Config
from model.facts import Facts
from model.graph import NOT_RUNNING, Edge, Graph, Node, Sight, declared, live
from model.keys import SELF, NsKey, link_key
from model.replicas import Container
from reconciler.sources import load_shown


def config(**sections: list[dict[str, Any]]) -> Config:
    return load_shown(json.dumps(sections), "net.json")


def edge(graph: Graph, source: str, dev: str) -> Edge:
    return next(e for e in graph.edges if (e.source, e.dev) == (source, dev))


def node(graph: Graph, name: str) -> Node:
    return next(n for n in graph.nodes if n.id == name)


EVERYTHING: dict[str, list[dict[str, Any]]] = {
    "links": [
        {"service": "node", "bridge": "s1", "ip": ["10.0.1.1/24", "fd00::1/64"], "mtu": 1400,
         "mac": "00:0a:0b:0c:0d:01", "netem": "delay 40ms", "forward": "80:8080/tcp",
         "nat": "10.9.9.9", "outer-dev": "uplink"},
        {"service": "node", "type": "dummy", "dev": "d0", "ip": "192.0.2.1/32"},
        {"service": "node", "type": "vlan", "dev": "v5", "vlanid": 5, "outer-dev": "eth0",
         "base": "local"},
        {"container": "server", "type": "macvlan", "mode": "bridge", "outer-dev": "enp6s0"},
        {"container": "server", "type": "ipvlan", "dev": "i0", "mode": "l3", "outer-dev": "up",
         "base": "conlink"},
        {"container": "server", "type": "macvlan", "dev": "m1", "outer-dev": "s1",
         "base": "conlink"},
    ],
    "bridges": [{"bridge": "s1", "mode": "ovs"}, {"bridge": "s2"}],
    "tunnels": [
        {"type": "geneve", "bridge": "s1", "remote": "198.51.100.2", "vni": 7, "netem": "loss 1%"},
        {"type": "vxlan", "bridge": "s2", "remote": "198.51.100.2", "vni": 8, "port": 9,
         "local": "198.51.100.1"},
    ],
}  # fmt: skip


def test_every_kind_of_thing_is_a_node() -> None:
    graph = declared(config(**EVERYTHING), {"node": 3}, "linux")
    assert [(n.id, n.kind, n.count, n.detail) for n in graph.nodes] == [
        ("bridge:s1", "bridge", None, "ovs"),
        ("bridge:s2", "bridge", None, "linux"),
        ("container:server", "container", None, ""),
        ("parent:host:enp6s0", "parent", None, "host"),
        ("parent:sidecar:up", "parent", None, "sidecar"),
        ("remote:198.51.100.2", "remote", None, ""),
        ("service:node", "service", 3, ""),
    ]


def test_a_link_has_all_that_is_declared_of_it() -> None:
    graph = declared(config(**EVERYTHING), {"node": 3})
    assert edge(graph, "service:node", "eth0") == Edge(
        source="service:node", target="bridge:s1", type="veth", dev="eth0",
        addresses=("10.0.1.1/24", "fd00::1/64"), last=("10.0.1.3/24", "fd00::3/64"),
        mac="00:0a:0b:0c:0d:01", mtu=1400, nat="10.9.9.9", netem="delay 40ms",
        forwards=("80:8080/tcp",), outer="uplink",
    )  # fmt: skip


def test_a_link_leads_to_its_bridge_or_parent_or_nowhere() -> None:
    graph = declared(config(**EVERYTHING))
    assert {(e.dev, e.type, e.target, e.parent) for e in graph.edges} == {
        ("eth0", "veth", "bridge:s1", ""),
        ("d0", "dummy", None, ""),
        ("v5", "vlan", None, "eth0"),
        ("eth0", "macvlan", "parent:host:enp6s0", ""),
        ("i0", "ipvlan", "parent:sidecar:up", ""),
        ("m1", "macvlan", "bridge:s1", ""),
        ("geneve-7", "geneve", "bridge:s1", ""),
        ("vxlan-8", "vxlan", "bridge:s2", ""),
    }


def test_tunnels_come_from_their_remote() -> None:
    graph = declared(config(**EVERYTHING))
    tunnel = edge(graph, "remote:198.51.100.2", "vxlan-8")
    assert (tunnel.vni, tunnel.port, tunnel.local) == (8, 9, "198.51.100.1")
    assert edge(graph, "remote:198.51.100.2", "geneve-7").netem == "loss random 1%"


def test_how_many_replicas_is_only_told_where_it_is_known() -> None:
    link = {"service": "node", "bridge": "s1", "ip": "10.0.1.1/24"}
    assert node(declared(config(links=[link])), "service:node").count is None
    assert declared(config(links=[link])).edges[0].last == ()
    none = declared(config(links=[link]), {"node": 0})
    assert node(none, "service:node").count == 0
    assert none.edges[0].addresses == ("10.0.1.1/24",), "it is declared, whatever runs"
    past = declared(config(links=[link]), {"node": 300})
    assert past.edges[0].last == (), "the last one has no address of that prefix"


def test_replicas_with_their_own_words_have_their_own_links() -> None:
    link = {
        "service": "node", "bridge": "s1", "ip": "10.0.1.1/24",
        "per-replica": [{"netem": "delay 1ms"}, {"ip": "10.0.1.77/24"}],
    }  # fmt: skip
    graph = declared(config(links=[link]))
    assert [(e.replica, e.addresses, e.netem) for e in graph.edges] == [
        (None, ("10.0.1.3/24",), ""),
        (1, ("10.0.1.1/24",), "delay 1ms"),
        (2, ("10.0.1.77/24",), ""),
    ]
    assert [e.replica for e in declared(config(links=[link]), {"node": 2}).edges] == [1, 2]


@given(st.randoms(use_true_random=False))
def test_the_order_of_declarations_changes_nothing(shuffle: random.Random) -> None:
    mixed = {name: shuffle.sample(entries, len(entries)) for name, entries in EVERYTHING.items()}
    assert declared(config(**mixed)) == declared(config(**EVERYTHING))


def test_names_are_in_the_order_that_people_count_in() -> None:
    links = [{"service": f"n{i}", "bridge": "s", "ip": f"10.0.0.{i}/24"} for i in (10, 9, 1)]
    names = [n.name for n in declared(config(links=links)).nodes]
    assert names == ["s", "n1", "n9", "n10"]


FACTS = Facts(instance="x", plane=SELF, bridge_mode="auto", auto="linux")


def test_of_what_runs_each_container_is_a_node_with_its_own_values() -> None:
    containers = [
        Container(f"{n:064x}", f"x_node_{n}", "docker", "", service="node", number=n)
        for n in (1, 2)
    ]
    second = NsKey("container", "node_2", containers[1].id)
    sights = {
        link_key(second, "eth0"): Sight("Pending", "to modify", ("mtu 9 -> 1400",), "delay 1ms"),
        link_key(SELF, "s1"): Sight("Unsupported", "no"),
        link_key(SELF, "geneve-7"): Sight("Ready"),
    }
    graph = live(config(**EVERYTHING), containers, FACTS, sights)

    eth0 = edge(graph, "container:node_2", "eth0")
    assert eth0.addresses == ("10.0.1.2/24", "fd00::2/64")
    assert eth0.mac == "00:0a:0b:0c:0d:02"
    assert eth0.forwards == ("81:8080/tcp",)
    assert eth0.sight == sights[link_key(second, "eth0")]
    assert node(graph, "bridge:s1").sight == Sight("Unsupported", "no")
    assert node(graph, "bridge:s2").detail == "linux", "what auto is here"
    assert edge(graph, "remote:198.51.100.2", "geneve-7").sight == Sight("Ready")
    assert node(graph, "container:server").sight == Sight(NOT_RUNNING)


def test_two_containers_of_one_name_are_two_nodes() -> None:
    containers = [
        Container(f"{n:064x}"[::-1], "server", runtime, "")
        for n, runtime in ((1, "docker"), (2, "podman"))
    ]
    graph = live(config(**EVERYTHING), containers, FACTS, {})
    assert [n.name for n in graph.nodes if n.kind == "container"] == [
        "server (100000000000)",
        "server (200000000000)",
    ]
