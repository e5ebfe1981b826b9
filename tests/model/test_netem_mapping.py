"""netem as a mapping becomes the words of tc-netem(8), in tc's order."""

from __future__ import annotations

import pytest

from model import netem
from model.netem_mapping import KEYS, texts, whole


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ""),
        ({"delay": "40ms"}, "delay 40ms"),
        ({"jitter": "5ms"}, "delay 0 5ms"),
        ({"delay": "40ms", "delay-correlation": "25%"}, "delay 40ms 0 25%"),
        ({"rate": "10mbit", "cell-overhead": "4"}, "rate 10mbit 0 0 4"),
        ({"packet-overhead": "14"}, "rate 0 14"),
        ({"loss-correlation": "25%"}, "loss 0% 25%"),
        ({"loss": "gemodel 1% 10%"}, "loss gemodel 1% 10%"),
        ({"loss": "1%", "ecn": "True"}, "loss 1% ecn"),
        ({"ecn": "False"}, ""),
        ({"seed": "7", "limit": "10"}, "limit 10 seed 7"),
        ({"slot": "1ms 2ms", "gap": "5"}, "gap 5 slot 1ms 2ms"),
    ],
)
def test_a_mapping_in_tcs_words(values: dict[str, str], words: str) -> None:
    assert whole(values) == words
    assert whole(dict(reversed(values.items()))) == words, "in any order"


def test_each_key_has_what_leads_up_to_it() -> None:
    values = {"delay": "40ms", "delay-correlation": "25%", "loss": "1%", "ecn": "True"}
    assert texts(values) == {
        "delay": "delay 40ms",
        "delay-correlation": "delay 40ms 0 25%",
        "loss": "loss 1%",
        "ecn": "ecn",
    }


def test_every_key_is_one_that_netem_knows() -> None:
    values = dict.fromkeys(KEYS, "1") | {
        "delay": "40ms", "jitter": "5ms", "distribution": "normal", "slot": "1ms 2ms",
        "ecn": "True", "rate": "10mbit",
    }  # fmt: skip
    assert texts(values).keys() == set(KEYS)
    found = netem.parse(whole(values))
    assert netem.parse(netem.format(found)) == found
