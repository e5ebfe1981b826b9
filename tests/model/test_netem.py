"""The netem language: tc-netem(8) as typed values, one value for every spelling."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import netem
from model.netem import GilbertElliottLoss, Netem, RandomLoss, Slot, StateLoss
from model.options import INT_MAX, INT_MIN, TIME_MAX, U32_MAX, U64_MAX, OptionError

MS = 1_000_000
PERCENT_1 = 42_949_673
PERCENT_10 = 429_496_730  # 429496729.5, half to even
PERCENT_25 = 1_073_741_824
PERCENT_50 = 2_147_483_648
PERCENT_99 = 4_252_017_622
ALWAYS = U32_MAX


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Netem()),
        ("limit 5", Netem(limit=5)),
        ("limit 1k", Netem(limit=1024)),
        ("delay 40ms", Netem(delay=40 * MS)),
        ("latency 40ms", Netem(delay=40 * MS)),
        ("delay 100", Netem(delay=100_000)),
        ("delay 40ms 5ms", Netem(delay=40 * MS, jitter=5 * MS)),
        (
            "delay 40ms 5ms 25%",
            Netem(delay=40 * MS, jitter=5 * MS, delay_correlation=PERCENT_25),
        ),
        (
            "delay 40ms 5ms distribution paretonormal",
            Netem(delay=40 * MS, jitter=5 * MS, distribution="paretonormal"),
        ),
        ("loss 1%", Netem(loss=RandomLoss(PERCENT_1))),
        ("drop 1 25", Netem(loss=RandomLoss(PERCENT_1, PERCENT_25))),
        ("loss random 1% 25%", Netem(loss=RandomLoss(PERCENT_1, PERCENT_25))),
        ("loss state 1%", Netem(loss=StateLoss(PERCENT_1, PERCENT_99, 0, ALWAYS, 0))),
        ("loss state 1% 10%", Netem(loss=StateLoss(PERCENT_1, PERCENT_10, 0, ALWAYS, 0))),
        (
            "loss state 1% 10% 25% 50% 1%",
            Netem(loss=StateLoss(PERCENT_1, PERCENT_10, PERCENT_25, PERCENT_50, PERCENT_1)),
        ),
        ("loss gemodel 1%", Netem(loss=GilbertElliottLoss(PERCENT_1, PERCENT_99, 0, 0))),
        (
            "loss gemodel 1% 10% 25% 1%",
            Netem(loss=GilbertElliottLoss(PERCENT_1, PERCENT_10, ALWAYS - PERCENT_25, PERCENT_1)),
        ),
        ("loss 1% ecn", Netem(loss=RandomLoss(PERCENT_1), ecn=True)),
        (
            "ecn loss gemodel 1%",
            Netem(loss=GilbertElliottLoss(PERCENT_1, PERCENT_99, 0, 0), ecn=True),
        ),
        ("corrupt 1%", Netem(corrupt=PERCENT_1)),
        ("corrupt 1% 25%", Netem(corrupt=PERCENT_1, corrupt_correlation=PERCENT_25)),
        ("duplicate 1%", Netem(duplicate=PERCENT_1)),
        ("duplicate 1% 25%", Netem(duplicate=PERCENT_1, duplicate_correlation=PERCENT_25)),
        ("delay 10ms reorder 25%", Netem(delay=10 * MS, reorder=PERCENT_25, gap=1)),
        (
            "reorder 25% 50% gap 5 delay 10ms",
            Netem(
                delay=10 * MS,
                reorder=PERCENT_25,
                reorder_correlation=PERCENT_50,
                gap=5,
            ),
        ),
        ("rate 10mbit", Netem(rate=1_250_000)),
        (
            "rate 5kbit 20 100 5",
            Netem(rate=625, packet_overhead=20, cell_size=100, cell_overhead=5),
        ),
        (
            "rate 5kbit -14 0x30 -5",
            Netem(rate=625, packet_overhead=-14, cell_size=48, cell_overhead=-5),
        ),
        ("slot 800us", Netem(slot=Slot(min_delay=800_000, max_delay=800_000))),
        ("slot 800", Netem(slot=Slot(min_delay=800, max_delay=800))),
        (
            "slot 800us 1ms packets 32 bytes 64k",
            Netem(slot=Slot(min_delay=800_000, max_delay=MS, packets=32, bytes=65_536)),
        ),
        (
            "slot distribution pareto 1ms 100us bytes 9",
            Netem(slot=Slot(distribution="pareto", delay=MS, jitter=100_000, bytes=9)),
        ),
        ("seed 18446744073709551615", Netem(seed=U64_MAX)),
        ("seed 0", Netem(seed=0)),
        (
            "delay 40ms 5ms 25% loss 1% rate 10mbit limit 20",
            Netem(
                limit=20,
                delay=40 * MS,
                jitter=5 * MS,
                delay_correlation=PERCENT_25,
                loss=RandomLoss(PERCENT_1),
                rate=1_250_000,
            ),
        ),
    ],
)
def test_text_means_value(text: str, expected: Netem) -> None:
    assert netem.parse(text) == expected
    assert netem.parse(netem.format(expected)) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("delay 40ms", "latency 40000"),
        ("delay 40ms", "  delay\t0.04s\n"),
        ("delay 40ms loss 1%", "loss 1% delay 40ms"),
        ("delay 40ms 5ms", "delay 40ms 5ms distribution uniform"),
        ("delay 40ms", "delay 40ms 0ms 25%"),
        ("loss 1%", "drop random 1.0"),
        ("loss 0%", ""),
        ("loss 0% 25%", ""),
        ("loss state 1%", "loss state 1% 99% 0 100 0"),
        ("loss gemodel 1%", "loss gemodel 1% 99% 100% 0%"),
        ("corrupt 0 25", "duplicate 0 25"),
        ("delay 10ms reorder 25%", "delay 10ms reorder 25% gap 1"),
        ("delay 10ms reorder 25%", "delay 10ms reorder 25% gap 0"),
        ("delay 10ms reorder 0% 50%", "delay 10ms"),
        ("rate 10mbit", "rate 1.25mbps 0 0 0"),
        ("rate 0 20 100 5", ""),
        ("slot 1ms", "slot 1000us 1000us packets 0"),
        ("slot 1ms packets 3 bytes 4", "slot 1ms bytes 4 packets 3"),
        ("slot 1ms", "slot 1ms packets 2147483647 bytes 2147483647"),
        ("slot 0 packets 3", ""),
        ("limit 1000", ""),
        ("seed 0x10", "seed 16"),
    ],
)
def test_two_spellings_of_one_setting_are_equal(one: str, other: str) -> None:
    assert netem.parse(one) == netem.parse(other)


@pytest.mark.parametrize(
    ("earlier", "later", "together"),
    [
        ("delay 40ms", "delay 10ms", "delay 10ms"),
        ("delay 40ms 5ms", "delay 10ms", "delay 10ms 5ms"),  # as tc does
        ("loss 1% 25%", "loss 2%", "loss 2%"),
        ("loss 1%", "loss gemodel 2%", "loss gemodel 2%"),
        ("loss state 1%", "loss 0%", ""),
        ("slot 1ms packets 3", "slot 2ms", "slot 2ms"),
        ("rate 1mbit", "latency 1ms", "delay 1ms rate 1mbit"),
    ],
)
def test_what_is_said_later_wins(earlier: str, later: str, together: str) -> None:
    assert netem.parse(f"{earlier} {later}") == netem.parse(together)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", "limit 1000"),
        (
            "rate 10Mbit ecn drop 1 25 distribution normal latency 40000 5000 10 limit 1k",
            "limit 1024 delay 40ms 5ms 10% distribution normal loss random 1% 25% ecn rate 10mbit",
        ),
        (
            "seed 7 reorder 25 50 gap 5 duplicate .1 corrupt 2 5 delay 1",
            "limit 1000 delay 1us corrupt 2% 5% duplicate 0.1% reorder 25% 50% gap 5 seed 7",
        ),
        ("delay 0 5ms", "limit 1000 delay 0s 5ms"),
        ("delay 1ms reorder 5", "limit 1000 delay 1ms reorder 5%"),
        ("rate 1mbit 0 0 5", "limit 1000 rate 1mbit 0 0 5"),
        ("loss state 1", "limit 1000 loss state 1% 99% 0% 100% 0%"),
        ("loss gemodel 1 10 70 .1", "limit 1000 loss gemodel 1% 10% 70% 0.1%"),
        (
            "slot distribution normal 1ms 5us packets 1 bytes 2k",
            "limit 1000 slot distribution normal 1ms 5us packets 1 bytes 2048",
        ),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    assert netem.format(netem.parse(text)) == canonical


OPTIONS = (
    "limit, delay, latency, distribution, loss, drop, ecn, corrupt, duplicate, reorder, gap, rate,"
    " slot, seed"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dely 40ms", f"word 1, option: unknown word 'dely'; expected one of {OPTIONS}"),
        ("delay 40ms 5ms 25% 7", "word 5, option: unknown word '7'; expected one of limit"),
        ("delay 40ms jitter 5ms", "word 3, option: unknown word 'jitter'"),
        ("limit 5 delay", "delay is missing after word 3, at the end"),
        ("delay 40ms 5x", "word 3, jitter: '5x' is not a time"),
        ("delay 40ms 3s", "word 3, jitter: '3s' is too long; at most 2.147483647s is allowed"),
        ("delay -40ms", "word 2, delay: '-40ms' is not a time"),
        ("delay 1ms 1ms distribution gauss", "'gauss'; expected one of uniform, normal, pareto"),
        ("delay 1ms distribution normal", "'distribution' needs a delay and a jitter"),
        ("delay 0 1ms distribution uniform", "'distribution' needs a delay and a jitter"),
        ("loss", "loss is missing after word 1, at the end"),
        (
            "loss foo",
            "word 2, loss: unknown word 'foo'; expected one of random, state, gemodel, a ",
        ),
        ("loss PERCENT", "word 2, loss: unknown word 'PERCENT'"),
        ("loss random", "loss is missing after word 2"),
        ("loss state", "p13 is missing after word 2"),
        ("loss gemodel x", "word 3, p: 'x' is not a percentage"),
        ("loss gemodel 1 1 101%", "word 5, 1-h: '101%' is out of range"),
        ("ecn", "'ecn' needs a loss"),
        ("loss 0% ecn", "'ecn' needs a loss"),
        ("corrupt 1% -1%", "word 3, correlation: '-1%' is not a percentage"),
        ("duplicate 101%", "word 2, duplicate: '101%' is out of range"),
        ("reorder 25%", "'reorder' needs a delay"),
        ("delay 10ms gap 5", "'gap' needs a probability to reorder"),
        ("delay 10ms reorder 0% gap 5", "'gap' needs a probability to reorder"),
        ("rate 10%", "word 2, rate: '10%' is not a rate"),
        ("rate 1mbit 0 -1", "word 4, cell size: '-1' is out of range; expected 0 to 4294967295"),
        ("slot", "slot is missing after word 1"),
        (
            "slot packets 5",
            "word 2, slot: unknown word 'packets'; expected one of distribution, a ",
        ),
        ("slot MIN_DELAY", "word 2, slot: unknown word 'MIN_DELAY'"),
        ("slot 2ms 1ms", "slot: the longest delay 1ms is below the shortest, 2ms"),
        ("slot distribution normal 1ms", "jitter is missing after word 4"),
        ("slot distribution normal 1ms 0", "slot: the jitter of a distribution must be above 0"),
        ("slot 1ms packets 2147483648", "word 4, packets: '2147483648' is out of range"),
        ("slot 1ms bytes 2g", "word 4, bytes: '2g' is too large; at most 2147483647"),
        ("packets 5", "word 1, option: unknown word 'packets'"),
        ("seed -1", "word 2, seed: '-1' is out of range"),
    ],
)
def test_an_error_names_the_word_its_position_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        netem.parse(text)
    assert message in str(caught.value)


def test_canonical_forgets_what_the_kernel_would_not_look_at() -> None:
    noise = Netem(
        delay_correlation=1,
        distribution="normal",
        loss=RandomLoss(0, 1),
        ecn=True,
        corrupt_correlation=1,
        duplicate_correlation=1,
        reorder_correlation=1,
        gap=3,
        packet_overhead=1,
        cell_size=1,
        cell_overhead=1,
        slot=Slot(packets=1, bytes=1),
    )
    assert netem.canonical(noise) == Netem()


def test_a_value_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Netem().limit = 5  # type: ignore[misc]


shares = st.integers(0, U32_MAX)
chances = st.just(0) | st.integers(1, U32_MAX)
times = st.integers(0, TIME_MAX)
jitters = st.integers(0, INT_MAX)
distributions = st.sampled_from(netem.DISTRIBUTIONS)
signed = st.integers(INT_MIN, INT_MAX)
losses = st.one_of(
    st.none(),
    st.builds(RandomLoss, shares, shares),
    st.builds(StateLoss, shares, shares, shares, shares, shares),
    st.builds(GilbertElliottLoss, shares, shares, shares, shares),
)
limits = {"packets": st.integers(0, INT_MAX), "bytes": st.integers(0, INT_MAX)}
ranges = st.tuples(times, times).map(sorted)
slots = st.one_of(
    st.none(),
    st.builds(
        lambda delays, packets, bytes: Slot(  # noqa: A006 - as the field is called
            min_delay=delays[0], max_delay=delays[1], packets=packets, bytes=bytes
        ),
        ranges,
        **limits,
    ),
    st.builds(
        Slot, distribution=distributions, delay=times, jitter=st.integers(1, INT_MAX), **limits
    ),
)


@st.composite
def netems(draw: st.DrawFn) -> Netem:
    """Any canonical value whose parts go together."""
    value = draw(
        st.builds(
            Netem,
            limit=st.integers(0, U32_MAX),
            delay=times,
            jitter=jitters,
            delay_correlation=shares,
            distribution=distributions,
            loss=losses,
            ecn=st.booleans(),
            corrupt=chances,
            corrupt_correlation=shares,
            duplicate=chances,
            duplicate_correlation=shares,
            reorder=chances,
            reorder_correlation=shares,
            gap=st.integers(0, U32_MAX),
            rate=st.just(0) | st.integers(1, U64_MAX),
            packet_overhead=signed,
            cell_size=st.integers(0, U32_MAX),
            cell_overhead=signed,
            slot=slots,
            seed=st.none() | st.integers(0, U64_MAX),
        )
    )
    if not value.delay:
        value = replace(value, reorder=0, distribution="uniform")
    return netem.canonical(value)


@given(netems())
def test_a_value_survives_writing(value: Netem) -> None:
    text = netem.format(value)
    assert netem.parse(text) == value
    assert netem.format(netem.parse(text)) == text


@given(netems())
def test_canonical_is_stable(value: Netem) -> None:
    assert netem.canonical(value) == value


@given(netems())
def test_the_order_of_options_does_not_matter(value: Netem) -> None:
    words = netem.format(value).split()
    starts = [n for n, word in enumerate(words) if word in OPTIONS.split(", ")]
    if "slot" in words and "distribution" in words[words.index("slot") :]:
        starts.remove(words.index("slot") + 1)
    ends = [*starts[1:], len(words)]
    options = [words[start:end] for start, end in zip(starts, ends, strict=True)]
    turned = " ".join(word for option in reversed(options) for word in option)
    assert netem.parse(turned) == value


WORDS = [
    *OPTIONS.split(", "),
    *("random", "state", "gemodel", "packets", "bytes", "uniform", "normal"),
    *("0", "1%", "5ms", "-3", "1e9", "0x", ".", "+1", "%", "\N{ARABIC-INDIC DIGIT THREE}"),
]


@given(
    st.text() | st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=12).map(" ".join)
)
def test_any_text_is_a_value_or_an_option_error(text: str) -> None:
    try:
        value = netem.parse(text)
    except OptionError as error:
        assert str(error)  # noqa: PT017 - nothing has to be wrong with an arbitrary text
        return
    assert netem.parse(netem.format(value)) == value


@given(netems(), st.from_regex(r"\A[a-z]{1,8}\Z"), st.integers(0))
def test_a_wrong_word_anywhere_is_refused(value: Netem, wrong: str, where: int) -> None:
    words = netem.format(value).split()
    words.insert(where % (len(words) + 1), f"x{wrong}")
    with pytest.raises(OptionError, match=f"x{wrong}"):
        netem.parse(" ".join(words))
