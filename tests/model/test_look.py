"""Where a pass looks follows from what should be."""

from __future__ import annotations

from model import netem
from model.facts import Facts
from model.keys import HOST, SELF, Key, NsKey, link_key
from model.look import Look, look
from model.resources import (
    Address,
    Link,
    NatTable,
    Neighbour,
    Offload,
    OvsBridge,
    OvsPort,
    Qdisc,
    Redirect,
    Resource,
    Setting,
    Sysctl,
)
from model.rule import rule

A = NsKey("container", "a", "1")
FACTS = Facts(instance="lab", plane=SELF)
INNER = link_key(A, "eth0")


def looked(*resources: Resource, names: tuple[str, ...] | None = ()) -> Look:
    return look(FACTS, resources, names=names)


def only(**differs: object) -> Look:
    """Return a look at nothing but this."""
    plain: dict[str, object] = {
        "plane": SELF, "instance": "lab", "group": FACTS.group, "names": (),
    }  # fmt: skip
    return Look(**{**plain, **differs})  # type: ignore[arg-type]


def test_nothing_wanted_is_nothing_to_look_for() -> None:
    assert looked() == only()
    assert not looked().everything
    assert looked(names=None) == only(names=None)
    assert looked(names=None).everything


def test_what_is_wanted_of_the_plane_is_looked_up_by_name() -> None:
    outer = Link(key=link_key(SELF, "a-eth0"), kind="veth", peer=INNER)
    inner = Link(key=INNER, kind="veth", peer=outer.key)
    address = Address(key=Key(A, "address", "eth0", "10.0.0.1/24"), ip="10.0.0.1/24")
    assert looked(inner, outer, address, names=("gone",)) == only(names=("a-eth0", "gone"))
    assert looked(inner, outer, names=None).names is None


def test_parents_are_looked_up_where_they_are() -> None:
    def child(parent: Key) -> Look:
        return looked(Link(key=INNER, kind="vlan", parent=parent))

    on_host, on_plane = link_key(HOST, "ens3"), link_key(SELF, "s1")
    assert child(on_host) == only(parents={INNER: on_host})
    assert child(on_host).host_names() == ("ens3",)
    assert child(on_plane) == only(parents={INNER: on_plane}, names=("s1",))
    assert child(on_plane).host_names() == ()
    beside = link_key(A, "d0")
    assert child(beside) == only(parents={INNER: beside})


def test_each_thing_is_read_where_it_is_wanted() -> None:
    offload = Offload(key=Key(A, "offload", "eth0"), features=(("gro", False), ("tx", False)))
    assert looked(offload) == only(features={INNER: ("gro", "tx")})
    ring, coalesce = (
        Setting(key=Key(A, "setting", "eth0", which), values=()) for which in ("ring", "coalesce")
    )
    assert looked(ring, coalesce) == only(settings={INNER: ("ring", "coalesce")})
    assert looked(NatTable(key=Key(A, "nat", "", "t"), rules=())) == only(nat=frozenset({A}))
    neighbour = Neighbour(key=Key(A, "neighbour", "eth0", "10.0.0.9"), mac="x")
    for each in (neighbour, rule(A, 4, table=1, priority=2)):
        assert looked(each) == only(policy=frozenset({A}))
    qdisc = Qdisc(key=Key(A, "qdisc", "eth0", "root"), netem=netem.parse("loss 1%"))
    assert looked(qdisc) == only(qdiscs=frozenset({A}))
    switches = [Sysctl(key=Key(SELF, "sysctl", "", name), value="1") for name in ("b", "a")]
    assert looked(*switches) == only(sysctls=("a", "b"))


def test_a_redirect_is_looked_for_with_the_end_that_it_leads_to() -> None:
    there = Redirect(key=Key(SELF, "redirect", "a"), target=link_key(SELF, "b"))
    assert looked(there) == only(redirects=True, names=("a", "b"))


def test_open_vswitch_is_asked_where_something_of_it_is_wanted() -> None:
    bridge = OvsBridge(key=Key(SELF, "ovs-bridge", "s1"), datapath="netdev")
    port = OvsPort(key=Key(SELF, "ovs-port", "a-eth0"), bridge="s1")
    assert looked(bridge) == only(ovs=True, names=("s1",))
    assert looked(port) == only(ovs=True, names=("a-eth0",))
