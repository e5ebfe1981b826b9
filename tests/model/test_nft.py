"""The table computed from entries: order, words, and what cannot be."""

from __future__ import annotations

import json

import pytest

from model.keys import SELF
from model.nft import (
    Forward,
    Nat,
    Return,
    name_of,
    table,
    table_key,
    unnameable,
)
from model.nft_json import normalised, script

KEY = table_key(SELF, "lab")
ENTRIES = [
    Forward(7, "tcp", (80, 80), "10.0.1.1", (8080, 8080)),
    Forward(7, "udp", (90, 92), "fd00::1", (90, 92)),
    Nat("eth1", ("fd00::9/64", "10.0.0.9/24"), "192.0.2.1"),
    Return("eth0", "02:00:00:00:00:01", 0x9E),
]


def test_order_and_repetition_do_not_matter() -> None:
    once = table(KEY, ENTRIES)
    assert table(KEY, [*reversed(ENTRIES), *ENTRIES]) == once
    assert once.summary == (
        "eth0 from 02:00:00:00:00:01 returns by mark 0x9e",
        "eth1 -> 192.0.2.1, back as 10.0.0.9",
        "tcp 80 -> 10.0.1.1:8080",
        "udp 90-92 -> [fd00::1]:90-92",
    )


def test_what_is_listed_of_a_script_is_what_it_was_made_from() -> None:
    rules = table(KEY, ENTRIES).rules
    commands = json.loads(script(KEY.detail, rules))["nftables"]
    assert [next(iter(c)) for c in commands[:3]] == ["add", "delete", "add"]
    listed = [{"metainfo": {}}, *(c["add"] for c in commands[2:])]
    assert normalised(json.dumps({"nftables": listed})) == rules


def test_without_rules_the_table_goes() -> None:
    whole = {"table": {"family": "inet", "name": name_of("lab")}}
    assert table(KEY, []).rules == ()
    assert json.loads(script(KEY.detail, ())) == {"nftables": [{"add": whole}, {"delete": whole}]}


def test_instances_have_tables_of_their_own() -> None:
    assert name_of("lab") != name_of("lab2")
    assert name_of("lab").startswith("relink-5e1")


def test_one_address_is_spelled_in_one_way() -> None:
    short, long = (Nat("eth0", (), text) for text in ("fd00::1", "FD00:0:0::0001"))
    assert table(KEY, [short]).rules == table(KEY, [long]).rules


@pytest.mark.parametrize("dev", ["@eth", "eth\\*", "tcp", "redirect"])
def test_a_name_that_nft_would_take_for_something_else_is_refused(dev: str) -> None:
    assert repr(dev) in unnameable(dev)
    with pytest.raises(ValueError, match="cannot match"):
        table(KEY, [Nat(dev, (), "192.0.2.1")])


def test_a_name_is_never_a_pattern() -> None:
    assert '"right":"eth\\\\*"' in table(KEY, [Nat("eth*", (), "192.0.2.1")]).rules[1]


def test_ranges_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="80-81 and 90 differ in length"):
        Forward(7, "tcp", (80, 81), "10.0.1.1", (90, 90))
