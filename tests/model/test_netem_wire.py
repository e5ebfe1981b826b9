"""The message of a netem, there and back: pure, so that no kernel need have it."""

from __future__ import annotations

from dataclasses import replace

from model import netem
from model.netem_wire import decode, encode, handle_of
from tests.kernel.test_netem_round_trip import strings


def test_the_codec_is_its_own_inverse() -> None:
    for text in strings(160):
        for seed in (None, 0, 2**64 - 1):
            value = replace(netem.parse(text), seed=seed)
            assert decode(encode(value), handle_of(value)) == value
