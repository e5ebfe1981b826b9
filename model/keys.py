"""Names of things: symbolic, frozen, ordered, the same before and after any restart.

A key never holds a pid, a descriptor or an interface index, because those change while the thing
that they point at stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NsKind = Literal["container", "host", "pinned", "self"]
ResourceType = Literal[
    "address", "command", "ethtool", "link", "nat", "neighbour", "offload", "ovs-bridge",
    "ovs-port", "qdisc", "redirect", "route", "rule", "setting", "sysctl",
]  # fmt: skip


@dataclass(frozen=True, order=True, slots=True)
class NsKey:
    """A network namespace.

    `name` is what people read (`node_5`, `self`); `id` tells two containers of one name apart
    (engine id; empty for the namespaces that are not containers).
    """

    kind: NsKind
    name: str
    id: str = ""

    def __str__(self) -> str:
        return self.name


SELF = NsKey("self", "self")
HOST = NsKey("host", "host")


@dataclass(frozen=True, order=True, slots=True)
class Key:
    """A resource: its namespace, its type, its interface, and what else tells it apart.

    `dev` is empty for what has no interface (blackhole routes, rules, nat, commands); `detail` is
    the prefix of an address (`10.0.1.5/24`), the identity of a route
    (`10.0.0.0/8 metric 0 table 254`), and what else tells two of one type and interface apart.
    """

    ns: NsKey
    type: ResourceType
    dev: str
    detail: str = ""

    def __hash__(self) -> int:
        # The generated one hashes the namespace as an object of its own, several times a pass.
        return hash((self.dev, self.detail, self.type, self.ns.name, self.ns.id))

    def __str__(self) -> str:
        match self.type:
            case "link":
                return f"{self.ns}:{self.dev}"
            case "address":
                return f"{self.ns}:{self.dev} {self.detail}"
            case "route" | "rule" | "nat" | "command" | "sysctl":
                return f"{self.ns} {self.type} {self.detail}".rstrip()
            case _:
                return f"{self.ns}:{self.dev} {self.type} {self.detail}".rstrip()


def link_key(ns: NsKey, dev: str) -> Key:
    """Return the key of the interface `dev` in `ns`."""
    return Key(ns, "link", dev)
