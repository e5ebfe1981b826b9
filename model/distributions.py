"""The tables by which netem draws from a distribution; knows no qdisc and no option.

The kernel takes an inverse distribution function as 16-bit numbers (NETEM_DIST_SCALE of them are
one jitter), and picks entries at random (tabledist() in net/sched/sch_netem.c). Where tc takes
its tables from files, these are computed at the same points, so that both give the same delays.
"""

from __future__ import annotations

import struct
from functools import cache
from statistics import NormalDist

SCALE = 8192  # NETEM_DIST_SCALE, linux/pkt_sched.h
ENTRIES = 4096  # of the tables that come with tc
_LEAST, _MOST = -32768, 32767


@cache
def table(distribution: str) -> bytes:
    """Return the table of one of `model.netem.DISTRIBUTIONS`, in host order.

    Raises:
        KeyError: there is no such distribution.
    """
    return struct.pack(f"={ENTRIES}h", *map(_VALUES[distribution], range(ENTRIES)))


def _uniform(entry: int) -> int:
    """Return the middles of equal parts of one jitter to either side."""
    step = 2 * SCALE // ENTRIES
    return entry * step + step // 2 - SCALE


def _normal(entry: int) -> int:
    """Return quantiles of the standard normal distribution, an eighth into each entry's part."""
    return _fit(_quantile(entry))


def _pareto(entry: int) -> int:
    """Return quantiles of the Pareto distribution with exponent 3, less its mean, times 4/3.

    The factor is NIST Net's, from which netem has its tables. All above four jitters is cut off.
    """
    share_above = (ENTRIES - entry) / ENTRIES
    return _fit((share_above ** (-1 / 3) - 1.5) * (4 / 3) * SCALE)


def _paretonormal(entry: int) -> int:
    """Return a quarter of the normal and three quarters of the Pareto distribution's value."""
    return int((round(_quantile(entry)) + 3 * _pareto(entry)) / 4)


def _quantile(entry: int) -> float:
    return NormalDist().inv_cdf((entry + 0.125) / ENTRIES) * SCALE


def _fit(value: float) -> int:
    return max(_LEAST, min(_MOST, round(value)))


_VALUES = {
    "uniform": _uniform,
    "normal": _normal,
    "pareto": _pareto,
    "paretonormal": _paretonormal,
}
