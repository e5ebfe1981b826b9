"""What somebody else has in each namespace: it has to stay as it is, to the letter.

Where a network namespace is, is told by its path, "" for our own.
"""

from __future__ import annotations

import re

from tests.faults import kernel
from tests.lab import features

LINKS = ("mine0", "mine1", "mine2")
SWITCH = "mine-ovs"  # a bridge of Open vSwitch, where that runs
# Debian's User Mode Linux (6.1) has no tables of family inet.
TABLES = features.guest() != "uml"
_RULE = "77"
_LINES = (
    "link set lo up",
    "link add mine0 type bridge",
    "link add mine1 type veth peer name mine2",
    *(f"link set {name} addrgenmode none" for name in LINKS),  # no DAD
    "link set mine1 master mine0 up",
    "link set mine2 up mtu 1300 alias somebody",
    "link set mine0 up",
    "addr add 10.200.0.1/16 dev mine0",
    "addr add fd00:9::1/64 dev mine0 nodad",
    "route add 198.51.100.0/24 via 10.200.0.9",
    "route add blackhole 203.0.113.0/24 proto static",
    "route add 2001:db8:9::/48 via fd00:9::9 dev mine0",
    f"rule add fwmark 0x77 lookup 77 priority {_RULE}",
)
_TABLE = (
    "table inet somebody {",
    "chain theirs { type filter hook input priority 5; ip saddr 198.51.100.9 drop; }",
    "}",
)
_FILTER = (
    "qdisc add dev mine1 ingress",
    "filter add dev mine1 ingress pref 3 protocol ip u32 match u32 0 0 flowid 1:1",
)
_WORDS = (  # of what is told of all this
    "10.200.0.1/16", "fd00:9::1/64", "198.51.100.0/24 via", "blackhole 203.0.113.0/24",
    "2001:db8:9::/48 via", "fwmark 0x77", "mtu 1300", "master mine0", "pref 3 u32",
)  # fmt: skip
# What a timer runs in, and what the kernel does about a link or an address a moment later.
_VOLATILE = ("_timer", "promiscuity", "fe80:", "local fd00:9::1", "multicast ff00::/8")
_STATE = re.compile(r" state [A-Z]+|NO-CARRIER,|,LOWER_UP| linkdown")


def put(place: str) -> None:
    """Put things that are not ours into a namespace that is new.

    Raises:
        RuntimeError: some of it is not there.
    """
    if refused := kernel.ip(_LINES, place):
        raise RuntimeError(f"{place}: {refused}")
    kernel.told(place, "tc", "-force", "-batch", "-", lines=_FILTER)
    if TABLES:
        put_table(place)
    has = told(place)
    lacking = [word for word in _WORDS if word not in has]
    if lacking or ("table inet somebody" in has) != TABLES:
        raise RuntimeError(f"{place} lacks {lacking} of what is not ours: {has}")


def put_table(place: str) -> None:
    """Put a table of nftables that is not ours into a namespace that has none."""
    kernel.told(place, "nft", "-f", "-", lines=_TABLE)


def told(place: str) -> str:
    """Return all that is not ours, as programs tell it; without what runs on."""
    text = _told(place, LINKS)
    text += kernel.told(place, "tc", "filter", "show", "dev", "mine1", "ingress")
    return text + kernel.table(kernel.translated(place), "table inet somebody ")


def told_of(place: str, device: str) -> str:
    """Return what is told of an interface that an engine has made."""
    return _told(place, (device,))


def _told(place: str, devices: tuple[str, ...]) -> str:
    lines = [f"addr show dev {name}" for name in devices]
    lines += [f"route show table all dev {name}" for name in devices]  # of both families
    lines += ["route show type blackhole proto static", f"rule show priority {_RULE}"]
    text = kernel.told(place, "ip", "-force", "-batch", "-", lines=lines)
    lines = [line for line in text.splitlines() if not any(word in line for word in _VOLATILE)]
    return _STATE.sub("", "\n".join(lines))
