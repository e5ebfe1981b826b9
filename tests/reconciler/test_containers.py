"""Which containers there are, and what each should have: always the same as computed afresh."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import merge_links, parse
from model.declared import Config
from model.desired import desired, namespace_of
from model.document import Node
from model.facts import Facts
from model.keys import SELF, NsKey, link_key
from model.problems import Place
from model.replicas import Container
from model.wanted import combine
from reconciler.containers import Roster

FACTS = Facts(instance="lab", plane=SELF)


def node(value: Any) -> Node:
    place = Place("f", 1, 1)
    if isinstance(value, dict):
        return Node({key: node(v) for key, v in value.items()}, place)
    return Node(tuple(map(node, value)) if isinstance(value, list) else value, place)


def config(*links: dict[str, Any]) -> Config:
    return parse(merge_links(node({"links": list(links)})))


ONE = config({"service": "node", "bridge": "s1", "ip": "10.0.0.1/24"})
TWO = config(
    {"service": "node", "bridge": "s2", "ip": "10.0.0.1/24"},
    {"service": "web", "bridge": "s2", "ip": "10.0.0.2/24"},
)


def container(
    number: int, service: str = "node", runtime: str = "docker", life: int = 0
) -> Container:
    name = f"{service}_{number}"
    id_ = hashlib.sha256(f"{name}{runtime}{life}".encode()).hexdigest()
    return Container(id_, name, runtime, "", service=service, number=number)


def key(each: Container) -> NsKey:
    return namespace_of(each, FACTS)


def test_a_container_comes_and_goes() -> None:
    roster, first = Roster(ONE, FACTS), container(1)
    assert roster.put(first) == key(first)
    assert roster.declared() == {link_key(key(first), "eth0")}
    assert roster.owners == {"node_1-eth0": key(first)}
    assert roster.put(first) == key(first), "told again"
    assert roster.remove("docker", first.id) == key(first)
    assert roster.remove("docker", first.id) is None
    assert roster.departed == {"node_1-eth0"}
    assert (roster.owners, roster.containers, roster.declared()) == ({}, {}, set())


def test_a_bridge_is_no_containers() -> None:
    """Though the data plane has a neighbour on it for the container that it forwards to."""
    forward = {"service": "node", "bridge": "s1", "ip": "10.0.0.1/24", "forward": "80:80/tcp"}
    roster, first, second = Roster(config(forward), FACTS), container(1), container(2)
    roster.put(first)
    roster.put(second)
    assert roster.owners == {"node_1-eth0": key(first), "node_2-eth0": key(second)}
    roster.remove("docker", first.id)
    assert roster.departed == {"node_1-eth0"}
    assert roster.owners == {"node_2-eth0": key(second)}


def test_a_container_without_links_is_known_and_of_no_matter() -> None:
    roster, other = Roster(ONE, FACTS), container(1, "web")
    assert roster.put(other) is None
    assert roster.put(other) is None
    assert roster.remove("docker", other.id) is None
    assert roster.departed == set()


def test_of_another_runtime_is_not_removed() -> None:
    roster, first = Roster(ONE, FACTS), container(1)
    roster.put(first)
    assert roster.remove("podman", first.id) is None
    assert roster.containers == {key(first): first}


def test_a_container_that_changed() -> None:
    roster, first = Roster(ONE, FACTS), container(1)
    roster.put(first)
    changed = Container(first.id, first.name, "docker", "", service="node", number=1, shares="host")
    assert roster.put(changed) == key(first)
    assert roster.world().wirings[key(first)].resources == ()


def test_a_restarted_container_takes_its_outer_name_back() -> None:
    roster, old, new = Roster(ONE, FACTS), container(1), container(1, life=1)
    roster.put(old)
    roster.remove("docker", old.id)
    roster.put(new)
    assert roster.departed == set()
    assert roster.owners == {"node_1-eth0": key(new)}


def test_a_restart_whose_end_is_heard_after_its_start() -> None:
    roster, old, new = Roster(ONE, FACTS), container(1), container(1, life=1)
    roster.put(old)
    roster.put(new)
    assert roster.contested
    roster.contested = False
    roster.remove("docker", old.id)
    assert roster.contested, "the new one may have now what it could not have"
    assert roster.owners == {"node_1-eth0": key(new)}


def test_a_list_replaces_what_one_engine_runs() -> None:
    roster = Roster(ONE, FACTS)
    one, two, three = container(1), container(2), container(3)
    away = container(9, runtime="podman")
    roster.put(away)
    assert roster.replace("docker", [one, two]) == {key(one), key(two)}
    assert roster.replace("docker", [two, three]) == {key(one), key(three)}
    assert set(roster.containers.values()) == {away, two, three}
    assert roster.replace("docker", [two, three]) == set()
    assert roster.replace("podman", []) == {key(away)}


def test_another_configuration() -> None:
    roster = Roster(ONE, FACTS)
    one, web = container(1), container(1, "web")
    roster.put(one)
    roster.put(web)
    roster.reconfigure(TWO, FACTS)
    assert roster.declared() == {link_key(key(one), "eth0"), link_key(key(web), "eth0")}
    assert set(roster.containers.values()) == {one, web}
    assert roster.config == TWO


def test_two_that_claim_one_address_are_contested() -> None:
    roster = Roster(TWO, FACTS)
    roster.put(container(1))
    assert not roster.contested
    roster.put(container(2))  # 10.0.0.2, as web_1
    assert not roster.contested
    roster.put(container(1, "web"))
    assert roster.contested


CONTAINERS = [
    container(n, s, life=life) for n in (1, 2) for s in ("node", "web") for life in (0, 1)
]
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "remove"]), st.sampled_from(CONTAINERS))
    | st.tuples(st.just("replace"), st.lists(st.sampled_from(CONTAINERS), unique=True))
    | st.tuples(st.just("reconfigure"), st.sampled_from([ONE, TWO])),
    max_size=15,
)


@settings(deadline=None)
@given(steps=STEPS)
def test_whatever_happened_the_world_is_as_computed_afresh(steps: list[tuple[str, Any]]) -> None:
    roster = Roster(ONE, FACTS)
    running: dict[str, Container] = {}
    for what, value in steps:
        match what:
            case "put":
                roster.put(value)
                running[value.id] = value
            case "remove":
                roster.remove("docker", value.id)
                running.pop(value.id, None)
            case "replace":
                roster.replace("docker", value)
                running = {each.id: each for each in value}
            case "reconfigure":
                roster.reconfigure(value, FACTS)
    wanted = desired(roster.config, running.values(), FACTS)
    found = combine(roster.world().wirings.values())
    assert (found.resources, found.parts) == (wanted.resources, wanted.parts)
    assert found.obstacles == wanted.obstacles
    fresh = Roster(roster.config, FACTS)
    fresh.replace("docker", running.values())
    assert roster._claims == fresh._claims
    assert fresh.contested <= roster.contested
    assert roster.owners.keys() <= fresh.owners.keys()
    if not roster.contested:  # then a pass looks at everything, and none of this is used
        assert roster.owners == fresh.owners
        assert not roster.departed & roster.owners.keys()


def test_a_renamed_container_is_one_container() -> None:
    roster = Roster(config({"container": "web", "bridge": "s1", "ip": "10.0.0.1/24"}), FACTS)
    web = Container(id="e" * 64, name="web", runtime="docker", netns="")
    old = roster.put(web)
    new = roster.put(replace(web, name="other"))
    assert old is not None
    assert new == old, "nothing is declared for it under its new name, and what it had goes"
    assert [ns.name for ns in roster.containers] == ["other"]
    assert roster.departed == {"web-eth0"}
    assert roster.find("docker", web.id) == next(iter(roster.containers))
