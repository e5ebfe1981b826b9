"""Where things stand in a picture: columns, and each switch with those that are on it alone.

Refuses to know any format; the lines are the layout engine's.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from model.graph import Graph, NodeKind

_HUBS: tuple[NodeKind, ...] = ("bridge", "parent")
_COLUMN = 5  # this many below each other need no second column


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the nodes of a graph stand.

    Attributes:
        depths: columns of the hubs and of what joins them, counted from the left.
        homes: for each node the hub that it is drawn with, empty for what joins several, or none.
        cells: column and row, from 0, of those that are on one hub alone, beside that hub.
    """

    depths: Mapping[str, int]
    homes: Mapping[str, str]
    cells: Mapping[str, tuple[int, int]]


def layout(graph: Graph) -> Layout:
    """Place the nodes of a graph; the same graph is placed the same each time."""
    near: dict[str, list[str]] = {node.id: [] for node in graph.nodes}
    for edge in graph.edges:
        if edge.target is not None:
            near[edge.source].append(edge.target)
            near[edge.target].append(edge.source)
    hubs = {node.id for node in graph.nodes if node.kind in _HUBS}
    homes = {name: _home(name, set(others), hubs) for name, others in near.items()}
    return Layout(_depths(near, hubs), homes, _cells(homes, hubs))


def _home(name: str, near: set[str], hubs: set[str]) -> str:
    if name in hubs:
        return name
    return next(iter(near)) if len(near) == 1 else ""


def _depths(near: Mapping[str, Iterable[str]], hubs: set[str]) -> dict[str, int]:
    """Return each node's distance from what joins the most in its part of the network."""

    def weight(name: str) -> tuple[bool, int, bool]:
        several = len(set(near[name]))
        return (name not in hubs and several > 1, several, name in hubs)

    depths: dict[str, int] = {}
    for start in sorted(near, key=weight, reverse=True):
        if start in depths:
            continue
        depths[start] = 0
        queue = [start]
        for name in queue:
            for other in near[name]:
                if other not in depths:
                    depths[other] = depths[name] + 1
                    queue.append(other)
    return depths


def _cells(homes: Mapping[str, str], hubs: set[str]) -> dict[str, tuple[int, int]]:
    """Fold those of one hub into several columns where the whole would get too high."""
    members: dict[str, list[str]] = defaultdict(list)
    for name, home in homes.items():
        if home and name not in hubs:
            members[home].append(name)
    most = max(1, round(math.sqrt(sum(map(len, members.values()))) / 2))
    cells: dict[str, tuple[int, int]] = {}
    for names in members.values():
        columns = min(most, math.ceil(len(names) / _COLUMN))
        rows = math.ceil(len(names) / columns)
        cells.update((name, divmod(n, rows)) for n, name in enumerate(names))
    return cells
