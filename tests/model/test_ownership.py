"""The marks by which a Relink that remembers nothing knows what it made."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.ownership import GROUP_PREFIX, PROTOCOL, group_of, is_relink_group


def test_the_marks_are_part_of_the_product() -> None:
    # A release that changed one of these would not know the links of the release before.
    assert GROUP_PREFIX == 0x5E100000
    assert PROTOCOL == 158
    assert group_of("lab") == group_of("lab")
    assert hex(group_of("lab")).startswith("0x5e1")


@given(instance=st.text())
def test_a_group_is_ours_and_fits_the_kernel(instance: str) -> None:
    group = group_of(instance)
    assert is_relink_group(group)
    assert 0 < group < 1 << 31


@given(one=st.text(), two=st.text())
def test_two_instances_have_two_groups(one: str, two: str) -> None:
    assert (group_of(one) == group_of(two)) == (one == two)


def test_other_groups_are_not_ours() -> None:
    for group in (0, 1, 0x5E0FFFFF, 0x5E200000, 0xFFFFFFFF):
        assert not is_relink_group(group)
