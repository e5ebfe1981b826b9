"""Option strings over the whole grammar of tc-netem(8), from a seed: what people could write.

What is left out is what the tc of Debian 12 (6.1) cannot say, or says otherwise than its manual:
`seed` (6.7); `distribution uniform`, for which it has no file; nanoseconds of a delay, which it
sends in ticks of 64 ns, so that only multiples of 8 us come to the kernel as they are written,
and up to 274 s; a correlation of duplicates, which it forgets where
nothing else has one; `bytes` before `packets`; and a fraction that its floating point cuts to one
nanosecond or microsecond less than it says.
"""

from __future__ import annotations

from decimal import Decimal
from random import Random

TIMES = ("", "s", "sec", "secs", "ms", "msec", "msecs", "us", "usec", "usecs", "ns", "nsec")
RATES = (
    "", "bit", "kbit", "mbit", "gbit", "tbit", "bps", "kbps", "mbps", "gbps", "kibit", "Mibit",
    "gibit", "kibps", "MiBps",
)  # fmt: skip
SIZES = ("", "b", "k", "kb", "m", "mbit")
TABLES = ("normal", "pareto", "paretonormal")


def options(chance: Random) -> str:
    """Return one string that tc and Relink both take."""

    def one(*choices: str) -> str:
        return chance.choice(choices)

    def often(share: float) -> bool:
        return chance.random() < share

    def number(most: float) -> str:
        value = chance.uniform(0, most if often(0.5) else min(most, 100))
        return f"{value:.{chance.choice((0, 0, 1, 2, 4))}f}"

    def percent() -> str:
        return number(100) + one("%", "%", "")

    def written(value: int, unit: str, places: int) -> str:
        """Write a whole number in a unit of 10^places, or as it is if tc would cut it."""
        text = f"{Decimal(value).scaleb(-places).normalize():f}"
        return f"{text}{unit}" if int(float(text) * 10**places) == value else ""

    def time(most: float) -> str:
        """Return a multiple of 8 us, above zero and below `most` seconds."""
        ticks = 1 + chance.randrange(int(most * 125_000 - 1) if often(0.5) else 5000)
        unit = chance.choice(TIMES[:-2])
        return written(ticks * 8, unit, {"s": 6, "m": 3}.get(unit[:1], 0)) or f"{ticks * 8}us"

    def fine_time(most: int = 10**9) -> str:
        """Return nanoseconds above zero in any unit; a bare number, of slots, counts them too."""
        unit, value = chance.choice(TIMES), 1 + chance.randrange(most)
        return written(value, unit, {"s": 9, "m": 6, "u": 3}.get(unit[:1], 0)) or str(value)

    def up_to(*more: str) -> list[str]:
        return list(more[: chance.randint(0, len(more))])

    parts: list[list[str]] = []
    if often(0.3):
        parts.append(["limit", f"{chance.randint(1, 4000)}{one('', '', *SIZES)}"])
    if delayed := often(0.7):
        at_delay = len(parts)
        parts.append([one("delay", "latency"), time(270)])
        if jittered := often(0.6):
            parts[-1] += [time(2), *up_to(percent())]
        if jittered and often(0.5):
            parts.append(["distribution", one(*TABLES)])
    if delayed and often(0.4):
        parts.append(["reorder", f"{chance.randint(1, 100)}%", *up_to(percent())])
        if often(0.5):
            parts.append(["gap", str(chance.randint(0, 50))])
    model = one("", "", "plain", "random", "state", "gemodel")
    rest = [percent() for _ in range(4)]
    if model:
        loss = [f"{chance.randint(1, 100)}%", *up_to(*rest[: 3 if model == "gemodel" else 4])]
        if model in ("plain", "random"):
            loss = loss[:2]
        parts.append([one("loss", "drop"), *([] if model == "plain" else [model]), *loss])
        if often(0.3):
            parts.append(["ecn"])
    for word in ("corrupt", "duplicate"):
        if often(0.3):
            correlated = word == "corrupt" or (delayed and jittered and len(parts[at_delay]) > 3)
            parts.append([word, percent(), *(up_to(percent()) if correlated else [])])
    if often(0.4):
        rate = f"{chance.randint(8, 100_000)}{one(*RATES)}"
        cells = up_to(str(chance.randint(-200, 200)), one("0", "48", "0x30", "053"),
                      str(chance.randint(-40, 40)))  # fmt: skip
        parts.append(["rate", rate, *cells])
    if often(0.3):
        if often(0.5):
            times = ["distribution", one(*TABLES), fine_time(), fine_time()]
        else:
            shortest = chance.randint(1, 10**6)
            times = [f"{shortest}us", *up_to(f"{shortest + chance.randint(0, 10**6)}us")]
        limits = [
            f"packets {chance.randint(0, 2**31 - 1)}",
            f"bytes {chance.randint(0, 2000)}{one(*SIZES)}",
        ]
        parts.append(["slot", *times, *up_to(*limits)])
    chance.shuffle(parts)
    return " ".join(word for part in parts for word in part)
