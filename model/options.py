"""Numbers with units as tc writes them (tc(8), UNITS), read exactly; knows no option by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

U32_MAX = 0xFFFFFFFF
U64_MAX = 0xFFFFFFFFFFFFFFFF
INT_MAX = 0x7FFFFFFF
INT_MIN = -0x80000000
TIME_MAX = U32_MAX * 1000  # nanoseconds: tc(8) takes up to 4294967295 us

# The lengths keep a number of thousands of digits, or 1e999999, from costing anything.
_QUANTITY = re.compile(
    r"(?P<number>(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:e[+-]?[0-9]{1,2})?)"
    r"(?P<unit>[a-z]*|%)",
    re.ASCII | re.IGNORECASE,
)
_INTEGER = re.compile(
    r"(?P<sign>-?)(?:0x(?P<hex>[0-9a-f]{1,16})|0(?P<octal>[0-7]{1,22})|(?P<ten>0|[1-9][0-9]{0,19}))",
    re.ASCII | re.IGNORECASE,
)

_SI = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_IEC = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_RATES = {"": 1} | {
    f"{prefix}{unit}": scale * bits
    for unit, bits in (("bit", 1), ("bps", 8))
    for prefix, scale in [*_SI.items(), *((f"{p}i", s) for p, s in list(_IEC.items())[1:])]
}
# All sizes are binary, kbit too (tc's get_size).
_SIZES = {"": 1, "b": 1} | {
    f"{prefix}{unit}": Fraction(_IEC[prefix], parts)
    for unit, parts in (("", 1), ("b", 1), ("bit", 8))
    for prefix in ("k", "m", "g")
}
_SECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_TIMES = _SECONDS | {
    f"{prefix}sec{plural}": _SECONDS[f"{prefix}s"]
    for prefix in ("", "m", "u", "n")
    for plural in ("", "s")
}
_PERCENTS = {"": Fraction(1, 100), "%": Fraction(1, 100)}


class OptionError(ValueError):
    """An option that cannot be; the message says what is wrong and what is allowed."""


def parse_time(text: str, *, bare: str = "us", most: int = TIME_MAX) -> int:
    """Return a time as `40ms` in nanoseconds; a part of a nanosecond is cut off.

    Args:
        text: a number and s, ms, us, ns or their longer names; upper case is the same.
        bare: unit of a number without one. tc has two: us (get_time) and ns (get_time64).
        most: the longest time allowed, in nanoseconds.

    Raises:
        OptionError: it is no time, or too long.
    """
    time = int(_quantity(text, {"": _SECONDS[bare]} | _TIMES, "time", "40ms"))
    if time > most:
        raise OptionError(f"{text!r} is too long; at most {format_time(most)} is allowed")
    return time


def parse_rate(text: str) -> int:
    """Return a rate as `10mbit` in bytes per second; a bare number is bits per second.

    Raises:
        OptionError: it is no rate, does not fit 64 bits, or is above zero and below one byte per
            second, which the kernel would take for no limit at all.
    """
    exact = _quantity(text, _RATES, "rate", "10mbit") / 8
    if 0 < exact < 1 or exact >= U64_MAX + 1:
        raise OptionError(f"{text!r} is out of range; expected 0 or 8bit to {U64_MAX}bps")
    return int(exact)


def parse_size(text: str, *, most: int = U32_MAX) -> int:
    """Return a size as `64kb` in bytes; k, m and g are powers of 1024, as in tc.

    Raises:
        OptionError: it is no size, or more than `most`.
    """
    size = int(_quantity(text, _SIZES, "size", "64kb"))
    if size > most:
        raise OptionError(f"{text!r} is too large; at most {most} is allowed")
    return size


def parse_percent(text: str) -> Fraction:
    """Return `1%`, or `1`, as the exact share 1/100.

    Raises:
        OptionError: it is no percentage, or above 100%.
    """
    share = _quantity(text, _PERCENTS, "percentage", "1%")
    if share > 1:
        raise OptionError(f"{text!r} is out of range; expected 0% to 100%")
    return share


def parse_probability(text: str) -> int:
    """Return a percentage as the kernel's fixed point number, see `probability`.

    Raises:
        OptionError: it is no percentage, or above 100%.
    """
    return probability(parse_percent(text))


def probability(share: Fraction) -> int:
    """Return a share from 0 to 1 in 32-bit fixed point, where 2^32-1 is 1 (tc's set_percent)."""
    return round(share * U32_MAX)  # half to even, as rint(3)


def parse_integer(text: str, least: int = 0, most: int = U32_MAX) -> int:
    """Return a whole number; 0x is hexadecimal and a leading 0 octal, as in tc.

    Raises:
        OptionError: it is none, or not from `least` to `most`.
    """
    match = _INTEGER.fullmatch(text)
    if not match:
        raise OptionError(f"{text!r} is not a whole number from {least} to {most}")
    digits = match["hex"] or match["octal"] or match["ten"]
    value = int(match["sign"] + digits, 16 if match["hex"] else 8 if match["octal"] else 10)
    if not least <= value <= most:
        raise OptionError(f"{text!r} is out of range; expected {least} to {most}")
    return value


def format_time(nanoseconds: int) -> str:
    """Return an exact text in the largest unit that fits and that tc reads as exactly: `1.5s`."""
    for unit, scale in _SECONDS.items():
        text = _decimal(nanoseconds, scale)
        # tc multiplies as C's double does and cuts off, older ones in microseconds.
        told = (int(float(text) * scale), int(float(text) * scale / 1000))
        if nanoseconds >= scale and told == (nanoseconds, nanoseconds // 1000):
            return f"{text}{unit}"
    return f"{nanoseconds}ns" if nanoseconds else "0s"


def format_rate(bytes_per_second: int) -> str:
    """Return an exact text in the largest unit that fits and that tc reads as exactly: `56kbit`."""
    bits = bytes_per_second * 8
    fitting = [item for item in reversed(_SI.items()) if bits >= item[1]] or [("", 1)]
    texts = [(_decimal(bits, scale), prefix, scale) for prefix, scale in fitting]
    # tc multiplies as C's double does and cuts off; of what no double holds, any text will do.
    exact = (t for t in texts if int(float(t[0]) * t[2] / 8) == bytes_per_second)
    text, prefix, _scale = next(exact, texts[0])
    return f"{text}{prefix}bit"


def format_probability(value: int) -> str:
    """Return the shortest percentage that `parse_probability` reads as `value`."""
    share = Fraction(value, U32_MAX)
    # Steps of 2^-32 are 2.3e-8 percent apart, so that eight places always tell two apart.
    places = 0
    while probability(round(share * 100, places) / 100) != value:
        places += 1
    scale: int = 10**places
    return f"{_decimal(round(share * 100 * scale), scale)}%"


def _quantity(text: str, units: Mapping[str, Fraction | int], what: str, example: str) -> Fraction:
    match = _QUANTITY.fullmatch(text)
    if not match or match["unit"].lower() not in units:
        known = ", ".join(unit for unit in units if unit)
        raise OptionError(
            f"{text!r} is not a {what}, as {example}; expected a number with or without a unit"
            f" ({known})"
        )
    return Fraction(match["number"]) * units[match["unit"].lower()]


def _decimal(value: int, scale: int) -> str:
    """Write value / scale exactly; `scale` is a power of ten."""
    whole, rest = divmod(value, scale)
    places = len(str(scale)) - 1
    return f"{whole}.{rest:0{places}d}".rstrip("0").rstrip(".")
