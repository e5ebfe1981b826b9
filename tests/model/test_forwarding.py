"""What a forward takes beside the translation; what it becomes whole is in test_desired.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.addressing import AddressError
from model.declared import Forward
from model.forwarding import offset_ports, slots


@given(st.sets(st.text("abcdef0123456789", min_size=1, max_size=4), max_size=256))
def test_each_link_has_a_number_of_its_own_whatever_the_order(devs: set[str]) -> None:
    found = slots(devs)
    assert found.keys() == devs
    assert len(set(found.values())) == len(devs)
    assert all(0 <= slot < 256 for slot in found.values())
    assert slots(sorted(devs, reverse=True)) == found


def test_a_number_does_not_change_with_the_other_links() -> None:
    assert slots(["eth0"])["eth0"] == slots(["eth0", "eth1", "eth2"])["eth0"]


def test_two_names_with_one_hash_have_numbers_side_by_side() -> None:
    first: dict[int, str] = {}
    for name in (f"e{n}" for n in range(1000)):
        slot = slots([name])[name]
        if slot in first:
            pair = slots([first[slot], name])
            assert sorted(pair.values()) == sorted((slot, (slot + 1) % 256))
            return
        first[slot] = name
    pytest.fail("a hash of one byte without a collision among a thousand names")


@pytest.mark.parametrize(
    ("outside", "offset", "there"),
    [
        ((1080, 1080), 0, (1080, 1080)),
        ((1080, 1080), 2, (1082, 1082)),
        ((8000, 8009), 3, (8030, 8039)),
        ((65534, 65534), 1, (65535, 65535)),
    ],
)
def test_a_replica_has_the_ports_after_those_of_the_one_before(
    outside: tuple[int, int], offset: int, there: tuple[int, int]
) -> None:
    inside = (80, 80 + outside[1] - outside[0])
    assert offset_ports(Forward(outside, inside, "tcp"), offset) == Forward(there, inside, "tcp")


@pytest.mark.parametrize(("outside", "offset"), [((65535, 65535), 1), ((65000, 65499), 1)])
def test_ports_past_the_last_one_are_refused(outside: tuple[int, int], offset: int) -> None:
    with pytest.raises(AddressError, match="is past 65535"):
        offset_ports(Forward(outside, outside, "tcp"), offset)
