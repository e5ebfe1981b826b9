"""What tells one routing policy rule from another; nothing of how it is written or read."""

from __future__ import annotations

from typing import Literal

from model.keys import Key, NsKey
from model.resources import Rule

# By their numbers in netinet/in.h.
PROTOCOLS = {6: "tcp", 17: "udp"}


def rule(
    ns: NsKey,
    family: Literal[4, 6],
    *,
    table: int,
    priority: int,
    mark: int = 0,
    protocol: str = "",
    sports: tuple[int, int] = (0, 0),
    specific: bool = False,
    owned: bool = True,
) -> Rule:
    """Return a rule with its key; fields as in `resources.Rule`, the words as in ip-rule(8)."""
    words = [f"ipv{family}"]
    if mark:
        words.append(f"fwmark {mark:#x}")
    if protocol:
        words.append(f"ipproto {protocol}")
    if sports != (0, 0):
        first, last = sports
        words.append(f"sport {first}" if first == last else f"sport {first}-{last}")
    words.append(f"table {table} priority {priority}")
    if specific:
        words.append("suppress_prefixlength 0")
    return Rule(
        key=Key(ns, "rule", "", " ".join(words)), family=family, mark=mark, table=table,
        priority=priority, protocol=protocol, sports=sports, specific=specific,
        owned=owned,
    )  # fmt: skip
