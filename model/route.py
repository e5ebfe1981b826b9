"""The language of `route`: arguments of `ip route add`, as typed values (see ip-route(8)).

Multipath (`nexthop …`) is refused: a declared route has one way out, the interface it stands on.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import Literal

TYPES = ("unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw")
DEVICELESS = frozenset({"blackhole", "unreachable", "prohibit", "throw"})
# RT_SCOPE_*, linux/rtnetlink.h, by the names that ip-route takes
SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
# RT_TABLE_*, linux/rtnetlink.h
TABLES = {"default": 253, "main": 254, "local": 255}
_EVERYWHERE = ("default", "all")
_WORDS = ("dev", "via", "src", "metric", "table", "scope", "mtu", "advmss", "onlink")
_SYNONYMS = {"priority": "metric", "preference": "metric"}
_U32 = 0xFFFFFFFF


class RouteError(ValueError):
    """A route that cannot be; the message says which word is wrong and what is allowed."""


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One declared route; fields as in `resources.Route`, `dev` where it was named."""

    dst: str
    family: Literal[4, 6]
    via: str = ""
    src: str = ""
    metric: int = 0
    table: int = 254
    scope: int = 0
    mtu: int = 0
    advmss: int = 0
    onlink: bool = False
    type: str = "unicast"
    dev: str = ""

    @property
    def identity(self) -> str:
        """What makes it another route rather than another value of this one."""
        return f"{self.dst} metric {self.metric} table {self.table}"


def parse(text: str) -> RouteSpec:
    """Parse the arguments of `ip route add`, without the command itself.

    Raises:
        RouteError: a word is unknown, missing or out of range.
    """
    words = text.split()
    if not words:
        raise RouteError("an empty route; expected a destination, as `default via 10.0.1.254`")
    family = 0
    if words[0] in ("-4", "-6"):
        family = int(words.pop(0)[1])
    kind = words.pop(0) if words and words[0] in TYPES else "unicast"
    if not words:
        raise RouteError(f"{text!r} names no destination")
    destination = words.pop(0)
    if destination not in _EVERYWHERE:
        _network(destination)  # before the words: `multicast 224.0.0.1` is no unknown word
    values: dict[str, str] = {}
    while words:
        word = _SYNONYMS.get(words[0], words[0])
        if word == "nexthop":
            raise RouteError("multipath routes (`nexthop`) are not supported; declare one `via`")
        if word not in _WORDS:
            raise RouteError(f"unknown word {words[0]!r}; expected one of {', '.join(_WORDS)}")
        if word in values:
            raise RouteError(f"{words[0]!r} is given twice")
        words.pop(0)
        if word == "onlink":
            values[word] = "onlink"
            continue
        if word == "via" and words and words[0] in ("inet", "inet6"):
            words.pop(0)
        if word == "mtu" and words and words[0] == "lock":
            raise RouteError("`mtu lock` is not supported; give `mtu BYTES`")
        if not words:
            raise RouteError(f"{word!r} needs a value")
        values[word] = words.pop(0)
    return _typed(destination, kind, values, family)


def _typed(destination: str, kind: str, values: dict[str, str], family: int) -> RouteSpec:
    via = _address("via", values.get("via", ""))
    src = _address("src", values.get("src", ""))
    if destination in _EVERYWHERE:
        version = family or _family_of(via or src) or 4
        network: ipaddress.IPv4Network | ipaddress.IPv6Network = ipaddress.ip_network(
            "0.0.0.0/0" if version == 4 else "::/0"
        )
    else:
        network = _network(destination)
    version = network.version
    if family and family != version:
        raise RouteError(f"{destination} is not an IPv{family} destination")
    for word, address in (("via", via), ("src", src)):
        if address and _family_of(address) != version:
            raise RouteError(
                f"{word} {address} is not of the family of {destination} (IPv{version})"
            )
    if kind in DEVICELESS:
        for word in ("via", "dev", "onlink", "src"):
            if word in values:
                raise RouteError(f"{kind} routes take no {word!r}")
    if "onlink" in values and not via:
        raise RouteError("'onlink' needs 'via'")
    if "scope" in values and version == 6 and _number("scope", values["scope"], 255, SCOPES):
        raise RouteError("IPv6 routes have no scope")
    usual = "local" if kind in ("local", "broadcast") else "main"  # as ip-route chooses it
    spec = RouteSpec(
        dst=str(network),
        family=4 if version == 4 else 6,
        via=via,
        src=src,
        # fib6 gives IP6_RT_PRIO_USER (1024) where none is named; and 0 means "none" to it.
        metric=_number("metric", values.get("metric", "0"), _U32) or (0 if version == 4 else 1024),
        table=_number("table", values.get("table", usual), _U32, TABLES) or TABLES["main"],
        # More is cut by the kernel (ip_metrics_convert() in net/ipv4/metrics.c).
        mtu=min(_number("mtu", values.get("mtu", "0"), 0xFFFF), 0xFFFF - 15),
        advmss=min(_number("advmss", values.get("advmss", "0"), 0xFFFF), 0xFFFF - 40),
        onlink="onlink" in values,
        type=kind,
        dev=values.get("dev", ""),
    )
    return replace(spec, scope=_scope(spec, values.get("scope", "")))


def _scope(spec: RouteSpec, text: str) -> int:
    """Scope as iproute2's ip route chooses it when none is named."""
    if spec.family == 6:
        return 0
    if text:
        return _number("scope", text, 255, SCOPES)
    if spec.type == "local":
        return SCOPES["host"]
    if spec.type == "broadcast" or (spec.type == "unicast" and not spec.via):
        return SCOPES["link"]
    return 0


def _number(word: str, text: str, most: int, names: dict[str, int] | None = None) -> int:
    if names and text in names:
        return names[text]
    # The length guards int() against numbers of thousands of digits.
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= most:
        return int(text)
    allowed = f"a number from 0 to {most}" + (f" or one of {', '.join(names)}" if names else "")
    raise RouteError(f"{word} {text!r} is not {allowed}")


def _address(word: str, text: str) -> str:
    if not text:
        return ""
    try:
        if "%" in text:
            raise ValueError  # noqa: TRY301 - a zone is the host's business
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise RouteError(f"{word} {text!r} is not an IP address") from None


def _family_of(address: str) -> int:
    return 0 if not address else 6 if ":" in address else 4


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    address, slash, prefix = text.partition("/")
    try:
        if (slash and not (prefix.isascii() and prefix.isdigit())) or "%" in address:
            raise ValueError  # noqa: TRY301 - netmasks and zones are not taken by ip-route either
        return ipaddress.ip_network(text)
    except ValueError as error:
        if "host bits set" in str(error):
            base = ipaddress.ip_network(text, strict=False)
            raise RouteError(f"{text} has host bits set; did you mean {base}?") from None
        raise RouteError(
            f"{text!r} is not a destination; expected `default` or a prefix, as 10.0.0.0/8"
        ) from None
