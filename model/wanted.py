"""Parts of what should be, and how they become one whole: pure, and the same in any order.

What a container should have depends on no other, but for three things that are settled here: what
only one may have (claims), what joins two ends of two containers (patches), and what all of them
share (the data plane's NAT table).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from model import nft
from model.keys import Key, NsKey
from model.resources import Command, Redirect, Resource

State = Literal["blocked", "conflict", "refused", "unsupported"]


@dataclass(frozen=True, order=True, slots=True)
class Obstacle:
    """Why something declared cannot be wanted, or done, now."""

    key: Key
    state: State
    message: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that only one link may have: an address on a bridge, a name in a namespace."""

    what: str
    where: str
    value: str

    def __str__(self) -> str:
        return f"{self.what} {self.value}"


@dataclass(frozen=True, order=True, slots=True)
class Join:
    """An end that is to be patched to the one other end of the same patch.

    `link` is the declared link, `end` the interface in the data plane.
    """

    link: Key
    patch: str
    end: Key


@dataclass(frozen=True, slots=True)
class Wiring:
    """What one container, or the data plane itself, should have.

    Attributes:
        resources: in no particular order.
        because: why, for each key of `resources`.
        parts: for each declared link (its inner end) the keys that make it whole.
        bridges: the switch that each declared link is plugged into, if any.
        claims: what each declared link must be alone to have.
        joins: the ends that patches join.
        entries: what each declared link has in the data plane's NAT table.
        obstacles: what is declared and cannot be.
        notes: what a person should know about a declared link that is as it should be.
    """

    resources: tuple[Resource, ...] = ()
    because: Mapping[Key, str] = field(default_factory=dict)
    parts: Mapping[Key, tuple[Key, ...]] = field(default_factory=dict)
    bridges: Mapping[Key, str] = field(default_factory=dict)
    claims: Mapping[Key, tuple[Claim, ...]] = field(default_factory=dict)
    joins: tuple[Join, ...] = ()
    entries: Mapping[Key, tuple[nft.Entry, ...]] = field(default_factory=dict)
    obstacles: tuple[Obstacle, ...] = ()
    notes: Mapping[Key, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Desired:
    """All that should be, in a scope.

    `forgets_commands`: the marks of commands that have run go too.
    """

    resources: Mapping[Key, Resource]
    because: Mapping[Key, str]
    parts: Mapping[Key, tuple[Key, ...]]
    obstacles: tuple[Obstacle, ...]
    notes: Mapping[Key, str] = field(default_factory=dict)
    bridges: Mapping[Key, str] = field(default_factory=dict)
    forgets_commands: bool = False


def combine(wirings: Iterable[Wiring], table: Key | None = None) -> Desired:
    """Put wirings together; of two links that claim one thing the one with the lower key has it.

    `table` is the key of the data plane's NAT table; without one its entries are left out.
    """
    everything = list(wirings)
    lost = dict(_losers({link: c for each in everything for link, c in each.claims.items()}))
    joins = sorted(join for each in everything for join in each.joins if join.link not in lost)
    lost.update(_third_ends(joins))
    resources: dict[Key, Resource] = {}
    because: dict[Key, str] = {}
    parts: dict[Key, tuple[Key, ...]] = {}
    notes: dict[Key, str] = {}
    bridges: dict[Key, str] = {}
    obstacles: list[Obstacle] = []
    for each in everything:
        withdrawn = _withdrawn(each.parts, lost.keys() & each.parts.keys())
        resources.update((r.key, r) for r in each.resources if r.key not in withdrawn)
        for key, why in each.because.items():
            # Of several that want one thing the lowest, whatever the order of containers.
            if (key in lost or key not in withdrawn) and because.setdefault(key, why) > why:
                because[key] = why
        parts.update(each.parts)
        notes.update(each.notes)
        bridges.update(each.bridges)
        obstacles += each.obstacles
    late: list[tuple[Key, Key]] = []
    obstacles += (Obstacle(link, "refused", message) for link, message in lost.items())
    for join, other in _pairs(j for j in joins if j.link not in lost):
        if other is None:
            notes.setdefault(join.link, f"the other end of patch {join.patch} does not run")
            continue
        redirect = Redirect(key=Key(join.end.ns, "redirect", join.end.dev), target=other.end)
        resources[redirect.key] = redirect
        because[redirect.key] = because.get(join.link, "")
        late.append((join.link, redirect.key))
    entries = {k: e for each in everything for k, e in each.entries.items() if k not in lost}
    if table is not None and entries:
        nat = nft.table(table, (entry for each in entries.values() for entry in each))
        resources[table] = nat
        because[table] = because.get(min(entries), "")
        late += ((link, table) for link in entries)
    _add(late, parts, resources)
    return Desired(resources, because, parts, tuple(sorted(set(obstacles))), notes, bridges)


def _add(
    late: Iterable[tuple[Key, Key]],
    parts: dict[Key, tuple[Key, ...]],
    resources: dict[Key, Resource],
) -> None:
    """Add the parts that several wirings give a link; the commands of its container need them."""
    needed: dict[NsKey, list[Key]] = {}
    for link, part in late:
        parts[link] = (*parts[link], part)
        needed.setdefault(link.ns, []).append(part)
    for key in [key for key in resources if key.type == "command" and key.ns in needed]:
        command = resources[key]
        if isinstance(command, Command):
            needs = dict.fromkeys((*command.needs, *needed[key.ns]))
            resources[key] = replace(command, needs=tuple(needs))


def _withdrawn(parts: Mapping[Key, tuple[Key, ...]], lost: set[Key]) -> set[Key]:
    """Return the parts of the lost links of a container that none of its other links has too."""
    if not lost:
        return set()
    kept = {key for link, keys in parts.items() if link not in lost for key in keys}
    return {key for link in lost for key in parts[link]} - kept


def _losers(claims: Mapping[Key, tuple[Claim, ...]]) -> Iterator[tuple[Key, str]]:
    """Yield the links that claim what another has, and what that is."""
    holders: dict[Claim, Key] = {}
    for link in sorted(claims):
        taken = next((c for c in claims[link] if holders.get(c, link) != link), None)
        if taken is None:
            holders.update(dict.fromkeys(claims[link], link))
        else:
            yield link, f"{taken} is already taken by {holders[taken]}"


def _third_ends(joins: Iterable[Join]) -> Iterator[tuple[Key, str]]:
    """Yield the links that a patch has no place for."""
    ends: dict[str, list[Key]] = {}
    for join in joins:
        have = ends.setdefault(join.patch, [])
        if len(have) == 2:
            yield join.link, f"patch {join.patch} joins two links, and has {have[0]} and {have[1]}"
        else:
            have.append(join.link)


def _pairs(joins: Iterable[Join]) -> Iterator[tuple[Join, Join | None]]:
    """Yield each end with its other end, None where that is not there."""
    by_patch: dict[str, list[Join]] = {}
    for join in joins:
        by_patch.setdefault(join.patch, []).append(join)
    for ends in by_patch.values():
        for n, join in enumerate(ends):
            yield join, ends[1 - n] if len(ends) == 2 else None
