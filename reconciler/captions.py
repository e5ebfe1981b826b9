"""What a picture says about a node and a link: words by kind; refuses to know any format."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from model.graph import NOT_RUNNING, Edge, Node, Sight
from model.problems import printable

Kind = Literal["name", "plain", "muted", "impaired", "ready", "waiting", "bad"]
_WIDTH = 44  # characters of a line that is folded
_WAITING = ("Pending", "Backoff", "Blocked", "Unknown")


@dataclass(frozen=True, slots=True)
class Words:
    """Printable words of one kind; no kind is told by its colour alone."""

    text: str
    kind: Kind = "plain"


def kind_of(sight: Sight) -> Kind:
    """Return how a state is to be shown."""
    if sight.state == "Ready":
        return "ready"
    if sight.state == NOT_RUNNING:
        return "muted"
    return "waiting" if sight.state in _WAITING else "bad"


def impairment(edge: Edge) -> str:
    """Return what impairs a link: as the kernel has it where somebody looked, else as declared."""
    if edge.sight is None or edge.sight.state == NOT_RUNNING:
        return edge.netem
    return edge.sight.netem


def title(node: Node) -> str:
    """Return what a node is called, with the number of its replicas."""
    return printable(node.name if node.count is None else f"{node.name} (×{node.count})")


def subtitles(node: Node) -> list[Words]:
    """Return what else is to be said about a node as a whole."""
    found = [Words(printable(node.detail))] if node.detail else []
    if node.sight and node.sight.state != "Ready":
        found += [Words(each) for each in _folded(_stands(node.sight))]
    return found


def lines(edge: Edge) -> list[list[Words]]:
    """Return what is to be said about a link, line by line; the first has its name."""
    found = [[Words(edge.dev, "name"), *_kind(edge)]]
    first, *others = _addresses(edge) or [""]
    found[0] += [Words(first)] if first else []
    found += [[Words(each)] for each in others]
    numbers = [
        *([f"from {edge.local}"] if edge.local else []),
        *([f"mac {edge.mac}"] if edge.mac else []),
        *([f"mtu {edge.mtu}"] if edge.mtu else []),
    ]
    told = [" ".join(numbers)] if numbers else []
    told += [f"nat {edge.nat}"] if edge.nat else []
    told += [f"forward {each}" for each in edge.forwards]
    found += [[Words(each, "muted")] for each in told]
    if netem := impairment(edge):
        found += [[Words(each, "impaired")] for each in _folded(f"~ {netem}")]
    if edge.sight and edge.sight.state != NOT_RUNNING:
        kind = kind_of(edge.sight)
        found += [[Words(each, kind)] for each in _folded(_stands(edge.sight))]
    return [[Words(printable(each.text), each.kind) for each in line] for line in found]


def _kind(edge: Edge) -> Iterator[Words]:
    if edge.replica is not None:
        yield Words(f"replica {edge.replica}", "muted")
    words = [
        "" if edge.type == "veth" or edge.dev.startswith(f"{edge.type}-") else edge.type,
        edge.mode,
        "" if edge.vlanid is None else str(edge.vlanid),
        "" if edge.vni is None else f"vni {edge.vni}",
        "" if edge.port is None else f"port {edge.port}",
        f"on {edge.parent}" if edge.parent else "",
    ]
    if any(words):
        yield Words(" ".join(filter(None, words)), "muted")


def _addresses(edge: Edge) -> list[str]:
    if not edge.last:
        return list(edge.addresses)
    pairs = zip(edge.addresses, edge.last, strict=True)
    return [a if a == b else f"{a.partition('/')[0]} … {b}" for a, b in pairs]


def _stands(sight: Sight) -> str:
    """Return how something is: its state and, of what is not as declared, why."""
    differs = "; ".join(sight.drift) if sight.state == "Pending" else ""
    why = differs or sight.message
    return f"{sight.state}: {why}" if why and sight.state != "Ready" else sight.state


def _folded(text: str) -> list[str]:
    return textwrap.wrap(printable(text), _WIDTH)
