"""Which modes, in which order: the shortest set that satisfies every entry. Pure.

The shortest set is looked for by A* over sets of modes: from what must be there, one open either-or
after the other. Adding a mode never makes a cycle go away, so that a set with one is given up at
once.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from model.problems import ConfigError, Problem
from tools.mdc.deps import Need

Graph = Mapping[str, Sequence[Need]]  # mode → the entries of its deps file
Cycle = list[str]  # each needs the next, the last needs the first


def resolve(wanted: Sequence[Need], graph: Graph) -> list[str]:
    """Return the modes that satisfy `wanted` and all that they need, each after what it needs.

    Of all sets that can be put in an order the one with the fewest modes is taken, and of several
    the one whose sorted names come first. Modes that nothing orders are sorted by name.

    Args:
        wanted: what has to be satisfied.
        graph: every mode that an entry of any of them names, other than for order only.

    Raises:
        ConfigError: no set can be put in an order; names a cycle and the entries that make it.
    """
    costs = _costs(graph)
    first_cycle: Cycle = []
    heap: list[tuple[int, int, frozenset[str]]] = []
    seen: set[frozenset[str]] = set()
    count = itertools.count()

    def consider(chosen: frozenset[str]) -> None:
        if chosen in seen:
            return
        seen.add(chosen)
        try:
            _order(chosen, graph)
        except CycleError as error:
            first_cycle[:] = first_cycle or _cycle(error)
        else:
            bound = _bound(chosen, _open(chosen, wanted, graph), costs)
            heapq.heappush(heap, (bound, next(count), chosen))

    consider(_closed(wanted, frozenset(), graph))
    while heap:
        _, _, chosen = heapq.heappop(heap)
        choices = _open(chosen, wanted, graph)
        if not choices:
            return _order(chosen, graph)
        for name in min(choices, key=lambda need: len(need.names)).names:
            consider(_closed(graph[name], chosen | {name}, graph))
    raise ConfigError([_told(first_cycle, graph)])


def _costs(graph: Graph) -> dict[str, int]:
    """Return what each mode costs, so that the cheapest set is the one that is asked for.

    Of N modes the n-th by name costs 2^N - 2^(N-n). The second parts of a set sum up to less than
    2^N: one mode more is always dearer, and of equally many those are cheaper whose names come
    first.
    """
    whole = 1 << len(graph)
    return {name: whole - (whole >> n) for n, name in enumerate(sorted(graph), 1)}


def _closed(needs: Iterable[Need], chosen: frozenset[str], graph: Graph) -> frozenset[str]:
    """Return `chosen` with everything that `needs` leave no choice about."""
    closed = set(chosen)
    waiting = list(needs)
    while waiting:
        need = waiting.pop()
        if not need.order_only and len(need.names) == 1 and need.names[0] not in closed:
            closed.add(need.names[0])
            waiting += graph[need.names[0]]
    return frozenset(closed)


def _open(chosen: frozenset[str], wanted: Sequence[Need], graph: Graph) -> list[Need]:
    """Return every either-or of which nothing is chosen yet, in a fixed order."""
    needs = itertools.chain(wanted, *(graph[name] for name in sorted(chosen)))
    return [need for need in needs if not need.order_only and chosen.isdisjoint(need.names)]


def _bound(chosen: frozenset[str], choices: Iterable[Need], costs: Mapping[str, int]) -> int:
    """Return what the cheapest set above `chosen` costs at least.

    Choices that have no mode in common take one mode each.
    """
    total = sum(costs[name] for name in chosen)
    met: set[str] = set()
    for need in sorted(choices, key=lambda need: len(need.names)):
        if met.isdisjoint(need.names):
            met.update(need.names)
            total += min(costs[name] for name in need.names)
    return total


def _order(chosen: Iterable[str], graph: Graph) -> list[str]:
    """Return the modes, each after those that its entries name, else by name.

    Raises:
        CycleError: there is no such order.
    """
    there = sorted(chosen)
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for name in there:
        before = (each for need in graph[name] for each in need.names)
        sorter.add(name, *(each for each in before if each in there))
    sorter.prepare()
    ordered: list[str] = []
    ready = list(sorter.get_ready())
    heapq.heapify(ready)
    while ready:
        ordered.append(heapq.heappop(ready))
        sorter.done(ordered[-1])
        for name in sorter.get_ready():
            heapq.heappush(ready, name)
    return ordered


def _cycle(error: CycleError) -> Cycle:
    """Return the cycle that was found, from its first name by the alphabet."""
    backwards = error.args[1]  # each comes before the next, and the first is also the last
    cycle = backwards[:0:-1]
    start = cycle.index(min(cycle))
    return [*cycle[start:], *cycle[:start]]


def _told(cycle: Cycle, graph: Graph) -> Problem:
    links = list(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    entries = [next(need for need in graph[name] if other in need.names) for name, other in links]
    told = ", ".join(
        f"{name} {'comes after' if need.order_only else 'needs'} {other} ({need.place})"
        for (name, other), need in zip(links, entries, strict=True)
    )
    return Problem(entries[0].place, f"a cycle: {told}; take one of these entries away")
