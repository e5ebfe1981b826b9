"""Comparing what is with what should be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.keys import SELF, Key, NsKey, link_key
from model.resources import Address, FieldChange, Link, Offload, Route, differences, link_of

NS = NsKey("container", "node_1", "1")
LINK = Link(key=link_key(NS, "eth0"), kind="veth", mtu=1500, master="s1", index=7)
ADDRESS = Address(key=Key(NS, "address", "eth0", "10.0.0.1/24"), ip="10.0.0.1/24")
ROUTE = Route(
    key=Key(NS, "route", "eth0", "0.0.0.0/0 metric 0 table 254"), family=4, dst="0.0.0.0/0"
)
OFFLOAD = Offload(key=Key(NS, "offload", "eth0"), features=(("rx", True), ("tx", False)))


def test_none_is_whatever_it_is() -> None:
    assert differences(LINK, replace(LINK, mtu=None, master=None)) == ()
    assert differences(replace(LINK, mtu=None), LINK) == (FieldChange("mtu", None, 1500),)


def test_what_is_only_observed_is_not_compared() -> None:
    assert differences(LINK, replace(LINK, index=0, peer_index=9, peer_away=True)) == ()
    assert differences(ADDRESS, replace(ADDRESS, owned=False)) == ()


def test_every_difference_is_named() -> None:
    changed = replace(ROUTE, via="10.0.0.1", mtu=1400)
    assert differences(ROUTE, changed) == (
        FieldChange("via", "", "10.0.0.1"),
        FieldChange("mtu", 0, 1400),
    )


def test_only_declared_features_are_compared() -> None:
    wanted = replace(OFFLOAD, features=(("gro", True), ("tx", True)))
    assert differences(OFFLOAD, wanted) == (
        FieldChange("gro", None, after=True),
        FieldChange("tx", before=False, after=True),
    )
    assert differences(OFFLOAD, replace(OFFLOAD, features=(("rx", True),))) == ()


def test_two_of_different_types_are_not_compared() -> None:
    with pytest.raises(TypeError, match="is a Link, not Address"):
        differences(LINK, ADDRESS)


def test_the_interface_that_a_resource_is_on() -> None:
    for resource in (LINK, ADDRESS, ROUTE, OFFLOAD):
        assert link_of(resource.key) == LINK.key
    assert link_of(Key(NS, "route", "", "10.0.0.0/8 metric 0 table 254")) is None
    assert LINK.master_key() == link_key(NS, "s1")
    assert replace(LINK, master=None).master_key() == link_key(NS, "")


def test_keys_as_people_read_them() -> None:
    assert [str(r.key) for r in (LINK, ADDRESS, ROUTE, OFFLOAD)] == [
        "node_1:eth0",
        "node_1:eth0 10.0.0.1/24",
        "node_1 route 0.0.0.0/0 metric 0 table 254",
        "node_1:eth0 offload",
    ]
    assert str(link_key(SELF, "s1")) == "self:s1"
