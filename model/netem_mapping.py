"""`netem` as a mapping, `{delay: 40ms, loss: 1%}`: each entry becomes words of tc-netem(8).

An entry's value is what follows the word in tc's language, so that `delay: 40ms 5ms` is one too;
what follows at a fixed place there has a name of its own here.
"""

from __future__ import annotations

from collections.abc import Mapping

# tc's word, then the names of what follows it, in tc's order. The first has the word's own name.
_FOLLOW = {
    "limit": (),
    "delay": ("jitter", "delay-correlation"),
    "distribution": (),
    "loss": ("loss-correlation",),
    "corrupt": ("corrupt-correlation",),
    "duplicate": ("duplicate-correlation",),
    "reorder": ("reorder-correlation",),
    "gap": (),
    "rate": ("packet-overhead", "cell-size", "cell-overhead"),
    "slot": (),
    "seed": (),
}
# What stands for one that is not given, where a later one of the same word is.
_ABSENT = {
    "jitter": "0", "packet-overhead": "0", "cell-size": "0", "cell-overhead": "0",
    "delay": "0", "rate": "0",
}  # fmt: skip
KEYS = (*(key for word, rest in _FOLLOW.items() for key in (word, *rest)), "ecn")


def texts(values: Mapping[str, str]) -> dict[str, str]:
    """Return for each key what of its word there is up to it, in tc's order.

    The text of a word's last key is the whole of it (`whole`). `values` has keys of `KEYS` only;
    `ecn` is "True" or "False".
    """
    found: dict[str, str] = {}
    for word, rest in _FOLLOW.items():
        names = (word, *rest)
        words = [word]
        for name in names[: _last(names, values)]:
            words.append(values.get(name, _ABSENT.get(name, "0%")))
            if name in values:
                found[name] = " ".join(words)
    if values.get("ecn") == "True":
        found["ecn"] = "ecn"
    return found


def whole(values: Mapping[str, str]) -> str:
    """Return a mapping in tc's language; `values` as for `texts`."""
    found = texts(values)
    keys = [(word, *rest) for word, rest in _FOLLOW.items()]
    parts = [found[names[_last(names, values) - 1]] for names in keys if _last(names, values)]
    return " ".join([*parts, *(("ecn",) if "ecn" in found else ())])


def _last(names: tuple[str, ...], values: Mapping[str, str]) -> int:
    """Return how many of a word's names there are up to the last that is given."""
    return max((n for n, name in enumerate(names, 1) if name in values), default=0)
