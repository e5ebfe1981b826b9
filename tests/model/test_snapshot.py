"""Putting namespaces together: the two ends of a cable find each other, and no others."""

from __future__ import annotations

from dataclasses import replace

from model.keys import HOST, SELF, Key, NsKey, link_key
from model.ownership import group_of
from model.resources import Address, Link
from model.snapshot import NamespaceState, assemble

A, B = NsKey("container", "a", "1"), NsKey("container", "b", "2")


OURS = group_of("lab")


def veth(
    ns: NsKey, dev: str, index: int, peer_index: int, *, away: bool = True, group: int = OURS
) -> Link:
    return Link(
        key=link_key(ns, dev), kind="veth", index=index, peer_index=peer_index, peer_away=away,
        group=group,
    )  # fmt: skip


def state(*links: Link, highest: int = 0) -> NamespaceState:
    return NamespaceState({link.key: link for link in links}, highest)


def peers(*, plane: NamespaceState, **containers: NamespaceState) -> dict[str, str]:
    states = {SELF: plane, **{NsKey("container", n, n): s for n, s in containers.items()}}
    found = assemble(states, SELF, {}, {})
    return {
        str(key): str(link.peer)
        for key, link in found.resources.items()
        if isinstance(link, Link) and link.peer
    }


def inside(name: str, dev: str, index: int, peer_index: int) -> NamespaceState:
    return state(veth(NsKey("container", name, name), dev, index, peer_index))


def test_two_ends_that_name_each_other_are_a_pair() -> None:
    assert peers(plane=state(veth(SELF, "a-eth0", 7, 2)), a=inside("a", "eth0", 2, 7)) == {
        "a:eth0": "self:a-eth0",
        "self:a-eth0": "a:eth0",
    }


def test_the_same_index_in_two_containers_is_no_matter() -> None:
    found = peers(
        plane=state(veth(SELF, "a-eth0", 7, 2), veth(SELF, "b-eth0", 8, 2)),
        a=inside("a", "eth0", 2, 7),
        b=inside("b", "eth0", 2, 8),
    )
    assert found["a:eth0"] == "self:a-eth0"
    assert found["b:eth0"] == "self:b-eth0"


def test_ends_that_do_not_carry_one_instances_mark_are_no_pair() -> None:
    a = NsKey("container", "a", "a")
    for group in (0, group_of("other")):
        foreign = state(veth(a, "eth0", 2, 7, group=group))
        assert not peers(plane=state(veth(SELF, "a-eth0", 7, 2)), a=foreign)
        assert not peers(plane=state(veth(SELF, "x", 7, 2, group=0)), a=foreign)


def test_an_end_whose_other_end_names_another_index_is_alone() -> None:
    assert not peers(plane=state(veth(SELF, "a-eth0", 7, 3)), a=inside("a", "eth0", 2, 7))
    assert not peers(plane=state(veth(SELF, "a-eth0", 8, 2)), a=inside("a", "eth0", 2, 7))


def test_a_pair_within_one_namespace_is_not_ours_to_join() -> None:
    near = state(veth(SELF, "x", 7, 8, away=False), veth(SELF, "y", 8, 7, away=False))
    assert not peers(plane=near)


def test_only_cables_are_joined() -> None:
    link = replace(veth(SELF, "x", 7, 2), kind="macvlan")
    assert not peers(plane=state(link), a=inside("a", "eth0", 2, 7))


def test_a_pair_between_two_containers_is_not_joined() -> None:
    assert not peers(plane=state(), a=inside("a", "eth0", 2, 3), b=inside("b", "eth0", 3, 2))


def test_a_snapshot_tells_indexes_and_what_it_could_not_read() -> None:
    link = veth(A, "eth0", 2, 7)
    address = Address(key=Key(A, "address", "eth0", "10.0.0.1/24"), ip="10.0.0.1/24")
    states = {
        SELF: state(highest=9),
        A: NamespaceState({link.key: link, address.key: address}, 2),
    }
    found = assemble(states, SELF, {B: "gone"}, {})
    assert found.index_of(link.key) == 2
    assert found.index_of(link_key(A, "eth1")) == 0
    assert found.index_of(address.key) == 0
    assert found.highest_index == {SELF: 9, A: 2}
    assert found.absent == {B: "gone"}
    assert found.resources.keys() == {link.key, address.key}


def child(
    ns: NsKey, kind: str, parent_index: int, *, away: bool, above: NsKey = SELF
) -> Key | None:
    """Return the parent that a child of this description is found to have, if it is `top`."""
    link = Link(
        key=link_key(ns, "eth0"), kind=kind, index=2, peer_index=parent_index, peer_away=away
    )
    top = Link(key=link_key(above, "top"), kind="", index=7)
    states: dict[NsKey, NamespaceState] = {SELF: state(), above: state(), A: state()}
    for each in (link, top):
        old = states[each.key.ns].resources
        states[each.key.ns] = NamespaceState({**old, each.key: each})
    found = assemble(states, SELF, {}, {link.key: top.key}).resources[link.key]
    assert isinstance(found, Link)
    return found.parent


def test_a_child_is_joined_to_the_parent_that_it_should_have() -> None:
    for above in (SELF, HOST):
        assert child(A, "vlan", 7, away=True, above=above) == link_key(above, "top")
    assert child(A, "macvlan", 7, away=False, above=A) == link_key(A, "top")


def test_a_child_of_another_interface_has_none_that_is_known() -> None:
    assert child(A, "vlan", 8, away=True) is None
    assert child(A, "vlan", 7, away=False) is None, "index 7 of its own namespace"
    assert child(A, "vlan", 7, away=True, above=A) is None, "index 7 of another namespace"


def test_an_ipvtap_does_not_say_where_its_parent_is() -> None:
    assert child(A, "ipvtap", 7, away=False) == link_key(SELF, "top")
    assert child(A, "ipvlan", 7, away=False) is None


def test_a_child_or_a_parent_that_was_not_seen_is_not_joined() -> None:
    link = Link(key=link_key(A, "eth0"), kind="vlan", peer_index=7, peer_away=True)
    parents = {link.key: link_key(SELF, "top"), link_key(A, "eth1"): link.key}
    found = assemble({SELF: state(), A: state(link)}, SELF, {}, parents)
    assert found.resources == {link.key: link}
