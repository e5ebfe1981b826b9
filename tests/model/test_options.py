"""Numbers with units: what tc(8) says they mean, exactly, and nothing but OptionError otherwise."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model import options
from model.options import OptionError


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("7", 7_000),
        ("40ms", 40_000_000),
        ("40MS", 40_000_000),
        ("0.04s", 40_000_000),
        (".5us", 500),
        ("5.us", 5_000),
        ("1e3us", 1_000_000),
        ("1.5e-3s", 1_500_000),
        ("3sec", 3_000_000_000),
        ("3secs", 3_000_000_000),
        ("3msec", 3_000_000),
        ("3msecs", 3_000_000),
        ("3usec", 3_000),
        ("3usecs", 3_000),
        ("3ns", 3),
        ("3nsec", 3),
        ("3nsecs", 3),
        ("1.9ns", 1),
        ("4294967295us", options.TIME_MAX),
    ],
)
def test_time(text: str, nanoseconds: int) -> None:
    assert options.parse_time(text) == nanoseconds


def test_a_bare_time_has_the_unit_that_the_caller_names() -> None:
    assert options.parse_time("7", bare="ns") == 7
    assert options.parse_time("7us", bare="ns") == 7_000


@pytest.mark.parametrize(
    ("text", "bytes_per_second"),
    [
        ("0", 0),
        ("8000", 1_000),
        ("8bit", 1),
        ("15bit", 1),
        ("10mbit", 1_250_000),
        ("10Mbit", 1_250_000),
        ("0.01gbit", 1_250_000),
        ("1tbit", 125_000_000_000),
        ("1kibit", 128),
        ("1mibit", 131_072),
        ("1gibit", 2**27),
        ("1tibit", 2**37),
        ("1bps", 1),
        ("1kbps", 1_000),
        ("1mbps", 1_000_000),
        ("1gbps", 10**9),
        ("1tbps", 10**12),
        ("1kibps", 1_024),
        ("1mibps", 2**20),
        ("1gibps", 2**30),
        ("1tibps", 2**40),
        ("18446744073709551615bps", options.U64_MAX),
    ],
)
def test_rate(text: str, bytes_per_second: int) -> None:
    assert options.parse_rate(text) == bytes_per_second


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("5b", 5),
        ("1k", 1024),
        ("1kb", 1024),
        ("1KB", 1024),
        ("1.5m", 1_572_864),
        ("1mb", 2**20),
        ("1g", 2**30),
        ("1gb", 2**30),
        ("1kbit", 128),
        ("1mbit", 131_072),
        ("1gbit", 2**27),
    ],
)
def test_size(text: str, size: int) -> None:
    assert options.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "fixed_point"),
    [
        ("0%", 0),
        ("0", 0),
        ("1", 42_949_673),
        ("1%", 42_949_673),
        ("1.0%", 42_949_673),
        ("50%", 2_147_483_648),
        ("100%", options.U32_MAX),
        ("0.00000001%", 0),
        ("0.00000002%", 1),
    ],
)
def test_probability(text: str, fixed_point: int) -> None:
    assert options.parse_probability(text) == fixed_point


def test_a_percentage_is_exact() -> None:
    assert options.parse_percent("0.1%") == Fraction(1, 1000)


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("10", 10), ("010", 8), ("0x1F", 31), ("-0x10", -16), ("-7", -7)]
)
def test_integer(text: str, number: int) -> None:
    assert options.parse_integer(text, -100) == number


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (options.parse_time, "", "'' is not a time, as 40ms"),
        (options.parse_time, "ms", "'ms' is not a time"),
        (options.parse_time, "1m", "'1m' is not a time, as 40ms; expected a number with or"),
        (options.parse_time, "1%", "'1%' is not a time"),
        (options.parse_time, "-1ms", "'-1ms' is not a time"),
        (options.parse_time, "inf", "'inf' is not a time"),
        (options.parse_time, "nan", "'nan' is not a time"),
        (options.parse_time, "1e999s", "'1e999s' is not a time"),
        (options.parse_time, "1e99s", "'1e99s' is too long; at most 4294.967295s is allowed"),
        (options.parse_time, "4294967296", "is too long"),
        (options.parse_time, "٤ms", "is not a time"),
        (options.parse_time, "1\u017f", "is not a time"),  # a long s, whose upper case is S
        (options.parse_rate, "10%", "'10%' is not a rate, as 10mbit; expected a number with or"),
        (options.parse_rate, "10kb", "kbit, mbit, gbit, tbit, kibit"),
        (options.parse_rate, "1bit", "'1bit' is out of range; expected 0 or 8bit to"),
        (options.parse_rate, "18446744073709551616bps", "is out of range"),
        (options.parse_rate, "1\u212abit", "is not a rate"),  # a Kelvin sign, whose lower is k
        (options.parse_size, "1kibit", "'1kibit' is not a size, as 64kb"),
        (options.parse_size, "4g", "'4g' is too large; at most 4294967295 is allowed"),
        (options.parse_percent, "100.1%", "'100.1%' is out of range; expected 0% to 100%"),
        (options.parse_percent, "1ms", "'1ms' is not a percentage, as 1%"),
        (options.parse_integer, "", "'' is not a whole number from 0 to 4294967295"),
        (options.parse_integer, "09", "'09' is not a whole number"),
        (options.parse_integer, "1.5", "'1.5' is not a whole number"),
        (options.parse_integer, "1_0", "'1_0' is not a whole number"),
        (options.parse_integer, "-1", "'-1' is out of range; expected 0 to 4294967295"),
        (options.parse_integer, "0x100000000", "is out of range"),
    ],
)
def test_an_error_says_what_is_wrong_and_what_is_allowed(
    parse: Callable[[str], object], text: str, message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "parse",
    [
        options.parse_time,
        options.parse_rate,
        options.parse_size,
        options.parse_probability,
        options.parse_integer,
    ],
)
@given(
    text=st.text(max_size=30)
    | st.from_regex(r"\A[-+]?[0-9.x]{1,40}(e[-+]?[0-9]{1,4})?[a-zA-Z%]{0,5}\Z")
)
@example(text="9" * 100_000)
@example(text="1e" + "9" * 100_000)
def test_any_text_is_a_number_in_range_or_an_option_error(
    parse: Callable[[str], int], text: str
) -> None:
    try:
        value = parse(text)
    except OptionError:
        return
    assert 0 <= value <= options.U64_MAX


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (999, "999ns"),
        (1_500, "1.5us"),
        (40_000_000, "40ms"),
        (100_000_000, "100ms"),
        (1_000_000_001, "1.000000001s"),
    ],
)
def test_a_time_is_written_in_the_largest_unit_that_fits(nanoseconds: int, text: str) -> None:
    assert options.format_time(nanoseconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0bit"), (1, "8bit"), (7_000, "56kbit"), (1_250_000, "10mbit")]
)
def test_a_rate_is_written_in_the_largest_unit_that_fits(rate: int, text: str) -> None:
    assert options.format_rate(rate) == text


@pytest.mark.parametrize("text", ["0%", "0.00000002%", "0.1%", "1%", "33.3%", "50%", "100%"])
def test_a_probability_is_written_as_a_person_would(text: str) -> None:
    assert options.format_probability(options.parse_probability(text)) == text


@given(st.integers(0, options.TIME_MAX))
def test_a_time_survives_writing(nanoseconds: int) -> None:
    assert options.parse_time(options.format_time(nanoseconds)) == nanoseconds


@given(st.integers(0, options.U64_MAX))
def test_a_rate_survives_writing(rate: int) -> None:
    assert options.parse_rate(options.format_rate(rate)) == rate


@given(st.integers(0, options.U32_MAX))
@example(1)
@example(options.U32_MAX - 1)
def test_a_probability_survives_writing_to_the_last_bit(value: int) -> None:
    assert options.parse_probability(options.format_probability(value)) == value
