"""Arithmetic of addresses and the names of outer ends."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from model.addressing import (
    DEVICE_NAME_MAX,
    AddressError,
    offset_interface,
    offset_mac,
    outer_names,
    parse_interface,
    parse_mac,
    stable_mac,
)

ID = "0123456789ab" + "c" * 52


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.1.5/24", "10.0.1.5/24"),
        (" 10.0.1.5/24\n", "10.0.1.5/24"),
        ("10.0.1.5", "10.0.1.5/32"),
        ("fd00::5/64", "fd00::5/64"),
        ("FD00:0:0::5/64", "fd00::5/64"),
        ("fd00::5", "fd00::5/128"),
        ("::ffff:10.0.0.1/128", "::ffff:a00:1/128"),
    ],
)
def test_addresses_are_canonical(text: str, expected: str) -> None:
    assert str(parse_interface(text)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "/", "x", "10.0.0.1/", "10.0.0.1/33", "10.0.0.1/-1", "10.0.0.1/255.255.255.0",
     "10.0.0.1/24/24", "10.0.0.256/24", "10.0.0.01/24", "10.0.0/24", "fd00::/129", "fd00::%eth0/64",
     "fd00:::/64", "10.0.0.1/\u0662\u0664", "10.0.0.1/" + "9" * 5000, "1" * 5000],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(AddressError, match="is not an address with a prefix length"):
        parse_interface(text)


@pytest.mark.parametrize("text", ["02:AB:cd:00:00:01", "02-ab-CD-00-00-01", " 02:ab:cd:00:00:01 "])
def test_macs_are_canonical(text: str) -> None:
    assert parse_mac(text) == "02:ab:cd:00:00:01"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("02:00:00:00:00", "is not a MAC"),
        ("02:00:00:00:00:01:02", "is not a MAC"),
        ("0200.0000.0001", "is not a MAC"),
        ("02:00:00:00:00:0g", "is not a MAC"),
        ("02:00:00:00:00:\u0660\u0661", "is not a MAC"),
        ("", "is not a MAC"),
        ("01:00:00:00:00:01", "multicast"),
        ("ff:ff:ff:ff:ff:ff", "multicast"),
        ("00:00:00:00:00:00", "zero"),
    ],
)
def test_what_is_no_mac(text: str, said: str) -> None:
    with pytest.raises(AddressError, match=said):
        parse_mac(text)


@pytest.mark.parametrize(
    ("base", "offset", "expected"),
    [
        ("10.0.1.1/24", 0, "10.0.1.1/24"),
        ("10.0.1.1/24", 4, "10.0.1.5/24"),
        ("10.0.1.1/24", 253, "10.0.1.254/24"),
        ("10.0.1.255/16", 1, "10.0.2.0/16"),
        ("10.0.0.0/31", 1, "10.0.0.1/31"),
        ("10.0.0.1/32", 0, "10.0.0.1/32"),
        ("fd00::1/64", 0xFFFF, "fd00::1:0/64"),
        ("fd00::1/120", 254, "fd00::ff/120"),
        ("fd00::/127", 1, "fd00::1/127"),
        ("0.0.0.1/0", 1, "0.0.0.2/0"),
        ("::1/0", 5, "::6/0"),
        (
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/64",
            1,
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/64",
        ),
    ],
)
def test_a_replica_is_its_offset_away(base: str, offset: int, expected: str) -> None:
    assert str(offset_interface(parse_interface(base), offset)) == expected


@pytest.mark.parametrize(
    ("base", "offset", "said"),
    [
        ("10.0.1.1/24", 254, "is the broadcast address of 10.0.1.0/24"),
        ("10.0.1.1/24", 255, "is past the end of 10.0.1.0/24"),
        ("10.0.0.0/31", 2, "is past the end of 10.0.0.0/31"),
        ("10.0.0.1/32", 1, "is past the end of 10.0.0.1/32"),
        ("255.255.255.254/0", 1, "is the broadcast address"),
        ("255.255.255.254/0", 2, "is past the end"),
        ("fd00::1/128", 1, "is past the end of fd00::1/128"),
        ("fd00::ff/120", 1, "is past the end of fd00::/120"),
        ("10.0.0.1/24", 10**30, "is past the end"),
    ],
)
def test_a_replica_stays_in_its_prefix(base: str, offset: int, said: str) -> None:
    with pytest.raises(AddressError, match=said):
        offset_interface(parse_interface(base), offset)


@given(value=st.ip_addresses(), prefix=st.integers(0, 32), offset=st.integers(0, 5000))
def test_an_offset_address_is_in_the_same_network_or_refused(
    value: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int, offset: int
) -> None:
    base = parse_interface(f"{value}/{prefix + (96 if value.version == 6 else 0)}")
    try:
        found = offset_interface(base, offset)
    except AddressError:
        last = int(base.network.broadcast_address)
        assert int(base.ip) + offset >= last
        return
    assert found.network == base.network
    assert int(found.ip) - int(base.ip) == offset


def test_a_mac_counts_within_its_last_half() -> None:
    assert offset_mac("02:00:00:00:00:01", 4) == "02:00:00:00:00:05"
    assert offset_mac("02:00:00:00:00:ff", 1) == "02:00:00:00:01:00"
    assert offset_mac("02:00:00:ff:ff:fe", 1) == "02:00:00:ff:ff:ff"
    with pytest.raises(AddressError, match="runs over into the first three octets"):
        offset_mac("02:00:00:ff:ff:fe", 2)


def test_a_derived_mac_is_the_same_each_time() -> None:
    assert stable_mac("lab", "service node", "eth0", 0) == stable_mac(
        "lab", "service node", "eth0", 0
    )


@given(
    one=st.tuples(st.text(), st.text(), st.text()),
    two=st.tuples(st.text(), st.text(), st.text()),
    offset=st.integers(0, 65535),
)
def test_derived_macs(one: tuple[str, str, str], two: tuple[str, str, str], offset: int) -> None:
    first = stable_mac(*one, 0)
    assert parse_mac(first) == first
    assert first.startswith("c2:")
    assert stable_mac(*one, offset) == offset_mac(first, offset)
    assume(one != two)
    assume("\0" not in "".join(one + two))
    # 24 bits tell them apart: two that are equal would be a find worth reporting.
    assert stable_mac(*two, 0) != first


def test_a_derived_mac_counts_to_65535() -> None:
    base = stable_mac("lab", "service node", "eth0", 0)
    assert base.endswith(":00:00")
    assert stable_mac("lab", "service node", "eth0", 65535) == base[:-5] + "ff:ff"


def test_a_short_name_stays() -> None:
    assert outer_names({"eth0": "node_1-eth0"}, ID) == {"eth0": "node_1-eth0"}
    assert outer_names({"eth0": "fifteen_1-eth00"}, ID) == {"eth0": "fifteen_1-eth00"}


def test_a_long_name_is_shortened_as_conlink_did() -> None:
    assert outer_names({"eth0": "a_long_service_1-eth0"}, ID) == {"eth0": "c01234567-eth0"}
    assert outer_names({"uplink": "a_long_service_1-uplink"}, ID) == {"uplink": "c01234567-uplin"}


def test_two_long_names_that_would_be_shortened_to_one_do_not_clash() -> None:
    full = {dev: f"a_long_service_1-{dev}" for dev in ("uplink0", "uplink1", "eth0")}
    names = outer_names(full, ID)
    assert len(set(names.values())) == 3
    assert names["eth0"] == "c01234567-eth0"
    assert all(len(name) <= DEVICE_NAME_MAX for name in names.values())


def test_a_shortened_name_does_not_clash_with_a_whole_one() -> None:
    names = outer_names({"eth0": "a_long_service_1-eth0", "x": "c01234567-eth0"}, ID)
    assert len(set(names.values())) == 2


@pytest.mark.parametrize("container", ["short", "a/b/c/d/e/f/g/h", "node.with.dots", ""])
def test_an_id_that_is_no_engine_id_is_hashed(container: str) -> None:
    (name,) = outer_names({"eth0": "a_long_namespace-eth0"}, container).values()
    assert len(name) == DEVICE_NAME_MAX
    assert name.isalnum()


def test_a_name_is_counted_in_bytes() -> None:
    (name,) = outer_names({"ä": "ääääääää-ä"}, ID).values()
    assert name.isascii()


@given(
    devs=st.sets(st.text("abcdefghij0123", min_size=1, max_size=15), max_size=8),
    owner=st.text("abcdefgh_-", min_size=1, max_size=40),
)
def test_outer_names_are_names_and_differ(devs: set[str], owner: str) -> None:
    names = outer_names({dev: f"{owner}-{dev}" for dev in devs}, ID)
    assert names.keys() == devs
    assert len(set(names.values())) == len(devs)
    assert all(0 < len(name.encode()) <= DEVICE_NAME_MAX for name in names.values())
