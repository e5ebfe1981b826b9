"""What Relink wants of nftables in one namespace, as rules; nothing that runs nft or reads it.

The rules are written so that `nft -j list` gives them back as they were, which
tests/kernel/test_nft.py holds nft to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from model.keys import Key, NsKey
from model.nft_json import CHAINS, line, spelled
from model.ownership import group_of
from model.resources import NatTable

Ports = tuple[int, int]  # the first and the last
Match = dict[str, Any]  # a statement of libnftables-json(5)


@dataclass(frozen=True, slots=True, order=True)
class Nat:
    """What arrives on `dev` goes to `outside`; what leaves by it comes from the link's address.

    Attributes:
        dev: the interface in the container.
        inside: the addresses of the link, with or without a prefix; the first of the family of
            `outside` is what leaves. Without one, only what arrives is translated.
        outside: an IPv4 or IPv6 address.
    """

    dev: str
    inside: tuple[str, ...]
    outside: str


@dataclass(frozen=True, slots=True, order=True)
class Forward:
    """Ports of the data plane's own addresses that lead to a container; the client stays itself.

    What arrives on an interface of ours is left alone. Of two that claim one port the lower has it.

    Attributes:
        group: the interface group of the instance.
        protocol: of the ports.
        outside: the ports that clients use.
        address: of the container, IPv4 or IPv6: only packets of that family are forwarded.
        inside: as many ports as `outside`, one for one.
    """

    group: int
    protocol: Literal["tcp", "udp"]
    outside: Ports
    address: str
    inside: Ports

    def __post_init__(self) -> None:
        if self.outside[1] - self.outside[0] != self.inside[1] - self.inside[0]:
            raise ValueError(f"{_ports(self.outside)} and {_ports(self.inside)} differ in length")


@dataclass(frozen=True, slots=True, order=True)
class Return:
    """Answers leave by `mark`'s routing table where the question came from `mac` on `dev`.

    Attributes:
        dev: the interface in the container.
        mac: of the data plane's bridge, which is the sender of what it forwards; neighbours on the
            bridge have their own, so that answers to them go the usual way.
        mark: of connections and packets, not 0. A connection that somebody else has marked keeps
            that mark.
    """

    dev: str
    mac: str
    mark: int


Entry = Nat | Forward | Return


def name_of(instance: str) -> str:
    """Return the name of an instance's table."""
    return f"relink-{group_of(instance):08x}"


def table_key(ns: NsKey, instance: str) -> Key:
    """Return the key of an instance's table in a namespace; its detail is the table's name."""
    return Key(ns, "nat", "", name_of(instance))


def table(key: Key, entries: Iterable[Entry]) -> NatTable:
    """Compute the table for `entries`, in whatever order they come.

    Raises:
        ValueError: nft cannot match the name of an interface; see `unnameable`.
    """
    found = set(entries)
    rules: dict[str, list[list[Match]]] = {name: [] for name, *_ in CHAINS}
    for back in sorted(e for e in found if isinstance(e, Return)):
        _return(rules, back)
    # Ports first: in a namespace that has both, they say more than "everything that arrives".
    for forward in sorted(e for e in found if isinstance(e, Forward)):
        rules["arrive"].append(_forward(forward))
    for nat in sorted(e for e in found if isinstance(e, Nat)):
        _nat(rules, nat)
    lines: list[str] = []
    for name, kind, hook, priority in CHAINS:
        if rules[name]:
            chain = {"name": name, "type": kind, "hook": hook, "prio": priority}
            lines.append(line({"chain": {**chain, "policy": "accept"}}))
            lines += (line({"rule": {"chain": name, "expr": expr}}) for expr in rules[name])
    return NatTable(key=key, rules=tuple(lines), summary=tuple(sorted(map(describe, found))))


def describe(entry: Entry) -> str:
    """Return an entry in words, as `tcp 80 -> 10.0.1.1:80`."""
    match entry:
        case Forward():
            address = f"[{entry.address}]" if ":" in entry.address else entry.address
            target = f"{address}:{_ports(entry.inside)}"
            return f"{entry.protocol} {_ports(entry.outside)} -> {target}"
        case Nat():
            source = _source(entry)
            return f"{entry.dev} -> {entry.outside}" + (f", back as {source}" if source else "")
        case Return():
            return f"{entry.dev} from {entry.mac} returns by mark {entry.mark:#x}"


# is_constant() in src/parser_json.c of nftables 1.0.6.
_NUMBERS = frozenset(
    ["ah", "comp", "dccp", "esp", "icmp", "icmpv6", "redirect", "sctp", "tcp", "udp", "udplite"]
)


def unnameable(dev: str) -> str:
    r"""Say why no rule can name this interface, "" if one can.

    libnftables takes a string that begins with `@` for the name of a set, one that ends with `*`
    for a pattern, and knows an escape only for the latter: `\*`, which itself has none. Some words
    are numbers of protocols to it, whatever they are compared with.
    """
    wrong = dev.startswith("@") or dev.endswith("\\*") or dev in _NUMBERS
    return f"nft cannot match an interface called {dev!r}" if wrong else ""


def _return(rules: Mapping[str, list[list[Match]]], back: Return) -> None:
    by_connection = _match({"ct": {"key": "mark"}}, back.mark)
    mark_packet = {"mangle": {"key": {"meta": {"key": "mark"}}, "value": back.mark}}
    # Not only new connections: one whose first answer went astray, because this table was not
    # there yet, counts as established and finds its way from the next packet on.
    rules["mark"] += [
        [
            _match({"meta": {"key": "iifname"}}, _device(back.dev)),
            _match({"payload": {"protocol": "ether", "field": "saddr"}}, back.mac),
            _match({"ct": {"key": "direction"}}, "original"),
            _match({"ct": {"key": "mark"}}, 0),
            {"mangle": {"key": {"ct": {"key": "mark"}}, "value": back.mark}},
        ],
        # Of what arrives from the bridge only what ends here: its source is looked up with the
        # mark (src_valid_mark), but what is passed on must not be sent back by it.
        [by_connection, _LOCAL, mark_packet],
        [by_connection, _match({"ct": {"key": "direction"}}, "reply"), mark_packet],
    ]
    rules["reply"].append([by_connection, mark_packet])


def _forward(forward: Forward) -> list[Match]:
    first, last = forward.outside
    port = {"payload": {"protocol": forward.protocol, "field": "dport"}}
    target: dict[str, Any] = {"family": _ip(forward.address), "addr": spelled(forward.address)}
    if forward.outside != forward.inside:
        # A range as a target means "any of these" to the kernel; only a map is one for one.
        pairs = [[n, n - first + forward.inside[0]] for n in range(first, last + 1)]
        target["port"] = (
            pairs[0][1] if first == last else {"map": {"key": port, "data": {"set": pairs}}}
        )
    return [
        _family(forward.address),
        _match({"meta": {"key": "iifgroup"}}, forward.group, op="!="),
        _LOCAL,
        _match(port, first if first == last else {"range": [first, last]}),
        {"dnat": target},
    ]


def _nat(rules: Mapping[str, list[list[Match]]], nat: Nat) -> None:
    family, device = _ip(nat.outside), _device(nat.dev)
    rules["arrive"].append(
        [
            _family(nat.outside),
            _match({"meta": {"key": "iifname"}}, device),
            {"dnat": {"family": family, "addr": spelled(nat.outside)}},
        ]
    )
    if source := _source(nat):
        rules["leave"].append(
            [
                _family(nat.outside),
                _match({"meta": {"key": "oifname"}}, device),
                {"snat": {"family": family, "addr": source}},
            ]
        )


def _source(nat: Nat) -> str:
    version = ipaddress.ip_address(nat.outside).version
    addresses = (ipaddress.ip_interface(text).ip for text in nat.inside)
    return next((str(a) for a in addresses if a.version == version), "")


def _match(left: Mapping[str, Any], right: Any, op: str = "==") -> Match:
    return {"match": {"op": op, "left": left, "right": right}}


_LOCAL = _match({"fib": {"result": "type", "flags": ["daddr"]}}, "local")


def _family(address: str) -> Match:
    return _match({"meta": {"key": "nfproto"}}, "ipv6" if ":" in address else "ipv4")


def _ip(address: str) -> str:
    return "ip6" if ":" in address else "ip"


def _device(dev: str) -> str:
    """Return a name as nft matches it and nothing else: a `*` at its end would be a pattern."""
    if reason := unnameable(dev):
        raise ValueError(reason)
    return f"{dev[:-1]}\\*" if dev.endswith("*") else dev


def _ports(ports: Ports) -> str:
    return str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"
