"""The language of `netem`: OPTIONS of tc-netem(8), as typed values in the kernel's units.

The rules are those of iproute2's tc/q_netem.c, with three differences: words are not abbreviated,
`distribution` takes the names of tc-netem(8) and no file, and a second `loss` replaces the first,
so that one configuration file can override another's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from model.options import (
    INT_MAX,
    INT_MIN,
    U64_MAX,
    OptionError,
    format_probability,
    format_rate,
    format_time,
    parse_integer,
    parse_percent,
    parse_probability,
    parse_rate,
    parse_size,
    parse_time,
    probability,
)

DISTRIBUTIONS = ("uniform", "normal", "pareto", "paretonormal")
LIMIT = 1000  # packets, what tc gives where none is named
_ALWAYS = 0xFFFFFFFF  # 100%
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RandomLoss:
    """Each packet is lost with `probability`; see Netem for the unit of both fields."""

    probability: int
    correlation: int = 0


@dataclass(frozen=True, slots=True)
class StateLoss:
    """Transition probabilities of the 4-state Markov model (tc_netem_gimodel)."""

    p13: int
    p31: int
    p32: int
    p23: int
    p14: int


@dataclass(frozen=True, slots=True)
class GilbertElliottLoss:
    """The Gilbert-Elliott model as tc_netem_gemodel has it.

    `h` is the probability of delivery in the bad state, where people write `1-h`; `k1` is the
    probability of loss in the good state, `1-k` as people write it.
    """

    p: int
    r: int
    h: int
    k1: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Packets are delivered in slots, `min_delay` to `max_delay` apart, or by a distribution.

    Times are nanoseconds. `distribution` is empty where the range is given, and `delay` and
    `jitter` are its parameters where it is not. `packets` and `bytes` per slot: 0 is no limit.
    """

    min_delay: int = 0
    max_delay: int = 0
    distribution: str = ""
    delay: int = 0
    jitter: int = 0
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Netem:
    """One netem qdisc (linux/pkt_sched.h, TCA_NETEM_*).

    Times are nanoseconds, `rate` is bytes per second, `packet_overhead` and the cells are bytes.
    Probabilities and correlations are 32-bit fixed point, 2^32-1 being 100%. Zero is "off", but
    for `limit`. Without a table the kernel's distribution is uniform, whatever tc-netem(8) says.

    Attributes:
        limit: packets that may be queued.
        gap: every gap-th packet may be reordered; at least 1 where `reorder` is set.
        seed: of the kernel's random numbers; None lets the kernel choose.
    """

    limit: int = LIMIT
    delay: int = 0
    jitter: int = 0
    delay_correlation: int = 0
    distribution: str = "uniform"
    loss: RandomLoss | StateLoss | GilbertElliottLoss | None = None
    ecn: bool = False
    corrupt: int = 0
    corrupt_correlation: int = 0
    duplicate: int = 0
    duplicate_correlation: int = 0
    reorder: int = 0
    reorder_correlation: int = 0
    gap: int = 0
    rate: int = 0
    packet_overhead: int = 0
    cell_size: int = 0
    cell_overhead: int = 0
    slot: Slot | None = None
    seed: int | None = None


def parse(text: str) -> Netem:
    """Parse the OPTIONS of tc-netem(8).

    A word given again wins over the earlier one. As in tc, what follows it and is not given again
    stays (`delay 40ms 5ms delay 10ms` keeps its jitter), but `loss` and `slot` are replaced whole.

    Raises:
        OptionError: a word is unknown, missing or out of range (the message says which, counting
            from 1, and what is allowed), or two options do not go together.
    """
    values = _read(text)
    netem = Netem(**values)
    if "distribution" in values and not (netem.delay and netem.jitter):
        raise OptionError("'distribution' needs a delay and a jitter, as `delay 40ms 5ms`")
    if netem.reorder and not netem.delay:
        raise OptionError("'reorder' needs a delay, as `delay 40ms`")
    if netem.gap and not netem.reorder:
        raise OptionError("'gap' needs a probability to reorder, as `reorder 25%`")
    if netem.ecn and canonical(netem).loss is None:
        raise OptionError("'ecn' needs a loss, as `loss 1%`")
    return canonical(netem)


def check(text: str) -> None:
    """Check one option by itself.

    Raises:
        OptionError: a word is unknown, missing or out of range, or there is more than one option.
    """
    words = _Words(text)
    first = words.choose("option", _OPTIONS)
    _OPTIONS[first](words, {})
    if words.left:
        raise OptionError(f"{words.left[0]!r} is no part of {first!r}; give it a key of its own")


def _read(text: str) -> dict[str, Any]:
    words = _Words(text)
    values: dict[str, Any] = {}
    while words.left:
        _OPTIONS[words.choose("option", _OPTIONS)](words, values)
    return values


def canonical(netem: Netem) -> Netem:
    """Return `netem` with everything at its default that the kernel would not look at.

    Two values that behave the same are then equal.
    """
    loss, slot = netem.loss, netem.slot
    if isinstance(loss, RandomLoss) and not loss.probability:
        loss = None
    if slot and not (slot.min_delay or slot.max_delay or slot.jitter):
        slot = None
    if slot:  # where nothing is given, the kernel's limit is INT_MAX
        slot = replace(slot, packets=slot.packets % INT_MAX, bytes=slot.bytes % INT_MAX)
    return replace(
        netem,
        delay_correlation=netem.delay_correlation if netem.jitter else 0,
        distribution=netem.distribution if netem.jitter else "uniform",
        loss=loss,
        ecn=netem.ecn and loss is not None,
        corrupt_correlation=netem.corrupt_correlation if netem.corrupt else 0,
        duplicate_correlation=netem.duplicate_correlation if netem.duplicate else 0,
        reorder_correlation=netem.reorder_correlation if netem.reorder else 0,
        gap=(netem.gap or 1) if netem.reorder else 0,
        packet_overhead=netem.packet_overhead if netem.rate else 0,
        cell_size=netem.cell_size if netem.rate else 0,
        cell_overhead=netem.cell_overhead if netem.rate else 0,
        slot=slot,
    )


def format(netem: Netem) -> str:  # noqa: A001 - netem.format is what it is called
    """Return the options in the order of tc-netem(8), so that `parse` gives the same to the bit.

    `netem` is canonical, as `parse` and `canonical` return it.
    """
    return " ".join(_written(netem))


def impairments(netem: Netem | None) -> str:
    """Return impairments in the words of tc-netem(8), without a queue of the usual length."""
    if netem is None:
        return ""
    text = format(netem)
    return text.removeprefix(f"limit {LIMIT} ")


def _written(netem: Netem) -> Iterable[str]:
    yield f"limit {netem.limit}"
    if netem.delay or netem.jitter:
        yield f"delay {format_time(netem.delay)}"
    if netem.jitter:
        yield format_time(netem.jitter)
        yield from _unless_zero(netem.delay_correlation)
    if netem.distribution != "uniform":
        yield f"distribution {netem.distribution}"
    if netem.loss:
        yield _written_loss(netem.loss)
    if netem.ecn:
        yield "ecn"
    for word, chance, correlation in (
        ("corrupt", netem.corrupt, netem.corrupt_correlation),
        ("duplicate", netem.duplicate, netem.duplicate_correlation),
        ("reorder", netem.reorder, netem.reorder_correlation),
    ):
        if chance:
            yield f"{word} {format_probability(chance)}"
            yield from _unless_zero(correlation)
    if netem.gap > 1:
        yield f"gap {netem.gap}"
    if netem.rate:
        cells = (netem.packet_overhead, netem.cell_size, netem.cell_overhead)
        yield f"rate {format_rate(netem.rate)}"
        if any(cells):
            yield " ".join(map(str, cells))
    if netem.slot:
        yield _written_slot(netem.slot)
    if netem.seed is not None:
        yield f"seed {netem.seed}"


def _percents(*values: int) -> tuple[str, ...]:
    return tuple(map(format_probability, values))


def _unless_zero(correlation: int) -> tuple[str, ...]:
    return _percents(correlation) if correlation else ()


def _written_loss(loss: RandomLoss | StateLoss | GilbertElliottLoss) -> str:
    match loss:
        case RandomLoss():
            words = ("random", *_percents(loss.probability), *_unless_zero(loss.correlation))
        case StateLoss():
            words = ("state", *_percents(loss.p13, loss.p31, loss.p32, loss.p23, loss.p14))
        case _:
            words = ("gemodel", *_percents(loss.p, loss.r, _ALWAYS - loss.h, loss.k1))
    return " ".join(("loss", *words))


def _written_slot(slot: Slot) -> str:
    times = (slot.delay, slot.jitter) if slot.distribution else (slot.min_delay, slot.max_delay)
    return " ".join(
        (
            f"slot distribution {slot.distribution}" if slot.distribution else "slot",
            *map(format_time, times),
            *((f"packets {slot.packets}",) if slot.packets else ()),
            *((f"bytes {slot.bytes}",) if slot.bytes else ()),
        )
    )


class _Words:
    """The words of one text, read from the left; its errors say which word is wrong."""

    def __init__(self, text: str) -> None:
        self._words = text.split()
        self._next = 0

    @property
    def number_follows(self) -> bool:
        """Tell whether the next word begins like a number, if only a wrong one."""
        return any(word[0] in "0123456789.+-" for word in self.left)

    @property
    def left(self) -> tuple[str, ...]:
        """The next word, or nothing at the end."""
        return tuple(self._words[self._next : self._next + 1])

    def take(self, what: str, read: Callable[[str], T]) -> T:
        """Read the next word, which must be there."""
        if not self.left:
            raise OptionError(f"{what} is missing after word {self._next}, at the end")
        self._next += 1
        word = self._words[self._next - 1]
        try:
            return read(word)
        except OptionError as error:
            raise OptionError(f"word {self._next}, {what}: {error}") from None

    def take_numbers(self, *readers: tuple[str, Callable[[str], T]]) -> list[T]:
        """Read optional numbers up to the first word that does not begin like one."""
        taken: list[T] = []
        while len(taken) < len(readers) and self.number_follows:
            taken.append(self.take(*readers[len(taken)]))
        return taken

    def choose(self, what: str, allowed: Iterable[str], *also: str) -> str:
        """Read the next word, which must be one of those allowed; `also` is only named."""

        def read(word: str) -> str:
            if word not in allowed:
                expected = ", ".join((*allowed, *also))
                raise OptionError(f"unknown word {word!r}; expected one of {expected}")
            return word

        return self.take(what, read)


_Values = dict[str, Any]
_jitter = partial(parse_time, most=INT_MAX)  # tabledist() in net/sched/sch_netem.c takes no more


def _limit(words: _Words, values: _Values) -> None:
    values["limit"] = words.take("limit", parse_size)  # a size to tc too: `limit 1k` is 1024


def _delay(words: _Words, values: _Values) -> None:
    values["delay"] = words.take("delay", parse_time)
    more = words.take_numbers(("jitter", _jitter), ("correlation", parse_probability))
    values.update(zip(("jitter", "delay_correlation"), more, strict=False))


def _distribution(words: _Words, values: _Values) -> None:
    values["distribution"] = words.choose("distribution", DISTRIBUTIONS)


def _chance(name: str, words: _Words, values: _Values) -> None:
    values[name] = words.take(name, parse_probability)
    more = words.take_numbers(("correlation", parse_probability))
    values.update(zip((f"{name}_correlation",), more, strict=False))


def _loss(words: _Words, values: _Values) -> None:
    model = "random"
    if words.left and not words.number_follows:
        model = words.choose("loss", ("random", "state", "gemodel"), "a percentage")
    if model == "random":
        chance = words.take("loss", parse_probability)
        values["loss"] = RandomLoss(chance, *words.take_numbers(("correlation", parse_probability)))
        return
    share = words.take("p13" if model == "state" else "p", parse_percent)
    # tc subtracts before it rounds, as C's double does: the rest of 70% is a bit above 30%.
    first, rest = probability(share), round((1 - float(share)) * _ALWAYS)
    names = ("p31", "p32", "p23", "p14") if model == "state" else ("r", "1-h", "1-k")
    given = words.take_numbers(*((name, parse_probability) for name in names))
    # What is not given makes the model the next simpler one.
    if model == "state":
        defaults = (rest, 0, _ALWAYS, 0)
        values["loss"] = StateLoss(first, *given, *defaults[len(given) :])
    else:
        r, bad, good = (*given, *(rest, _ALWAYS, 0)[len(given) :])
        values["loss"] = GilbertElliottLoss(p=first, r=r, h=_ALWAYS - bad, k1=good)


def _ecn(_words: _Words, values: _Values) -> None:
    values["ecn"] = True


def _gap(words: _Words, values: _Values) -> None:
    values["gap"] = words.take("gap", parse_integer)


def _rate(words: _Words, values: _Values) -> None:
    values["rate"] = words.take("rate", parse_rate)
    signed = partial(parse_integer, least=INT_MIN, most=INT_MAX)
    more = words.take_numbers(
        ("packet overhead", signed), ("cell size", parse_integer), ("cell overhead", signed)
    )
    values.update(zip(("packet_overhead", "cell_size", "cell_overhead"), more, strict=False))


def _slot(words: _Words, values: _Values) -> None:
    time = partial(parse_time, bare="ns")  # of slots only, a bare number is nanoseconds to tc
    delays = words.take_numbers(("shortest delay", time), ("longest delay", time))
    if delays:
        slot = Slot(min_delay=delays[0], max_delay=delays[-1])
        if slot.max_delay < slot.min_delay:
            raise OptionError(
                f"slot: the longest delay {format_time(slot.max_delay)} is below the shortest,"
                f" {format_time(slot.min_delay)}"
            )
    else:
        words.choose("slot", ("distribution",), "a time")
        slot = Slot(
            distribution=words.choose("distribution", DISTRIBUTIONS),
            delay=words.take("delay", time),
            jitter=words.take("jitter", partial(_jitter, bare="ns")),
        )
        if not slot.jitter:
            raise OptionError("slot: the jitter of a distribution must be above 0")
    while words.left in (("packets",), ("bytes",)):
        if words.choose("slot", ("packets", "bytes")) == "packets":
            count = words.take("packets", partial(parse_integer, most=INT_MAX))
            slot = replace(slot, packets=count)
        else:
            slot = replace(slot, bytes=words.take("bytes", partial(parse_size, most=INT_MAX)))
    values["slot"] = slot


def _seed(words: _Words, values: _Values) -> None:
    values["seed"] = words.take("seed", partial(parse_integer, most=U64_MAX))


_OPTIONS: dict[str, Callable[[_Words, _Values], None]] = {
    "limit": _limit,
    "delay": _delay,
    "latency": _delay,
    "distribution": _distribution,
    "loss": _loss,
    "drop": _loss,
    "ecn": _ecn,
    "corrupt": partial(_chance, "corrupt"),
    "duplicate": partial(_chance, "duplicate"),
    "reorder": partial(_chance, "reorder"),
    "gap": _gap,
    "rate": _rate,
    "slot": _slot,
    "seed": _seed,
}
