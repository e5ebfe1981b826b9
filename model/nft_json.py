"""A table of nftables as nft's own JSON, to and from canonical lines; nothing of what it is for.

A line is one chain or one rule (libnftables-json(5)), keys sorted, without what the kernel numbers
by itself.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from typing import Any

FAMILY = "inet"

# linux/netfilter_ipv4.h: mangle -150, dstnat -100, srcnat 100. The mark is set after the addresses
# are translated, so that `fib daddr type local` tells what is really for this container, and before
# the route is chosen and its source is validated.
CHAINS: tuple[tuple[str, str, str, int], ...] = (
    ("arrive", "nat", "prerouting", -100),
    ("mark", "filter", "prerouting", -90),
    ("reply", "route", "output", -150),
    ("leave", "nat", "postrouting", 100),
)


def script(name: str, rules: Sequence[str]) -> str:
    """Return what `nft -j -f -` is fed to replace a whole table in one transaction.

    Without rules the table goes. Adding it first makes deleting it never fail.
    """
    whole = {"table": {"family": FAMILY, "name": name}}
    commands: list[Mapping[str, Any]] = [{"add": whole}, {"delete": whole}]
    if rules:
        commands.append({"add": whole})
    for text in rules:
        ((kind, body),) = json.loads(text).items()
        commands.append({"add": {kind: {"family": FAMILY, "table": name, **body}}})
    return json.dumps({"nftables": commands})


def normalised(listing: str) -> tuple[str, ...]:
    """Return the lines of the one table in the output of `nft -j list table`.

    Whatever is in the table shows: also chains, sets and flags that are not of our making.

    Raises:
        ValueError: it is no such output.
    """
    try:
        return _lines(json.loads(listing)["nftables"])
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a listing of nft: {error}") from error


def _lines(items: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    tables: list[str] = []
    chains: dict[str, list[str]] = {}
    others: list[str] = []
    for item in items:
        ((kind, body),) = item.items()
        if kind == "metainfo":
            continue
        own = {k: v for k, v in body.items() if k not in ("family", "table", "handle")}
        match kind:
            case "table":  # its flags: a dormant table does nothing
                own.pop("name", None)
                tables += [line({kind: own})] if own else []
            case "chain":
                chains[own["name"]] = [line({kind: own}), *chains.get(own["name"], ())]
            case "rule":
                own["expr"] = [_plain(statement) for statement in own["expr"]]
                chains.setdefault(own["chain"], []).append(line({kind: own}))
            case _:
                others.append(line({kind: own}))
    known = [name for name, *_ in CHAINS]
    order = sorted(chains, key=lambda n: (known.index(n) if n in known else len(known), n))
    return (*tables, *(text for name in order for text in chains[name]), *sorted(others))


def _plain(statement: Any) -> Any:
    """Undo what is a matter of spelling: newer versions of nft list a single flag as a string."""
    match statement:
        case {"dnat": {"addr": str(address)}} | {"snat": {"addr": str(address)}}:
            ((verb, target),) = statement.items()
            return {verb: {**target, "addr": spelled(address)}}
        case {"match": {"left": {"fib": {"flags": str(flag)}}}}:
            left = {"fib": {**statement["match"]["left"]["fib"], "flags": [flag]}}
            return {"match": {**statement["match"], "left": left}}
    return statement


def spelled(address: str) -> str:
    """Spell an address as Python does: libc and Python differ in IPv4-mapped ones."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:  # somebody else's rule, with a name or an expression
        return address


def line(value: Mapping[str, Any]) -> str:
    """Return the canonical line of a chain or rule."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
