"""Status of each declared link, judged from a pass: data, rendered elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from actuators.requests import Verdict
from model.keys import Key, NsKey
from model.resources import Address, Link
from reconciler.passes import Pass
from reconciler.retries import Ledger

State = Literal[
    "Ready", "Pending", "Blocked", "Backoff", "Conflict", "Fighting", "Refused", "Unsupported",
    "Unknown",
]  # fmt: skip

_OF_OBSTACLE: dict[str, State] = {
    "blocked": "Blocked",
    "conflict": "Conflict",
    "refused": "Refused",
    "unsupported": "Unsupported",
}
_OF_VERDICT: dict[Verdict, State] = {
    Verdict.VANISHED: "Pending",
    Verdict.RETRY: "Backoff",
    Verdict.REFUSED: "Refused",
    Verdict.UNSUPPORTED: "Unsupported",
}
# The worst of a link's parts is the link's: from what a person must look at to what passes by.
_WORST: tuple[State, ...] = (
    "Conflict", "Refused", "Fighting", "Unsupported", "Blocked", "Backoff", "Pending", "Unknown",
    "Ready",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """How a declared link is.

    Attributes:
        key: its inner end, or for what is not a link the thing itself.
        state: Ready means that the kernel agrees with every part of the declaration.
        message: why it is not Ready.
        addresses, bridge: what is declared, for people.
        because: which entry of which file declares it.
    """

    key: Key
    state: State
    message: str = ""
    addresses: tuple[str, ...] = ()
    bridge: str = ""
    because: str = ""


def judge(done: Pass, ledger: Ledger | None = None) -> dict[Key, LinkStatus]:
    """Judge every declared link of a pass, and whatever else stands in the way of something."""
    findings: dict[Key, list[tuple[State, str]]] = {}

    def found(key: Key, state: State, message: str) -> None:
        findings.setdefault(key, []).append((state, message))

    for obstacle in done.plan.obstacles:
        found(obstacle.key, _OF_OBSTACLE[obstacle.state], obstacle.message)
    finished = {step.key for step in done.outcome.done} if done.outcome else set()
    failed = {f.key: f for f in done.outcome.failures} if done.outcome else {}
    for step in done.plan.steps:
        entry = ledger.entries.get(step.key) if ledger else None
        if entry and entry.fighting:
            found(step.key, "Fighting", entry.message)
        elif failure := failed.get(step.key):
            found(step.key, _OF_VERDICT[failure.verdict], f"{step.key}: {failure.message}")
        elif step.key not in finished:
            state: State = "Backoff" if entry and entry.failures else "Pending"
            message = entry.message if entry and entry.failures else f"to {step.action}"
            found(step.key, state, f"{step.key}: {message}")
    parts_of = done.desired.parts
    statuses = {
        link: _status(done, link, [f for part in parts for f in findings.get(part, ())])
        for link, parts in parts_of.items()
    }
    covered = {part for parts in parts_of.values() for part in parts}
    for key, states in findings.items():
        if key not in covered and key.type == "link":
            statuses[key] = _status(done, key, states)
    return statuses


def _status(done: Pass, link: Key, states: list[tuple[State, str]]) -> LinkStatus:
    state, message = min(states, key=lambda f: _WORST.index(f[0]), default=("Ready", ""))
    resources = done.desired.resources
    inner = resources.get(link)
    outer = resources.get(inner.peer) if isinstance(inner, Link) and inner.peer else None
    return LinkStatus(
        key=link,
        state=state,
        message=message,
        addresses=tuple(
            r.ip
            for part in done.desired.parts.get(link, ())
            if isinstance(r := resources.get(part), Address)
        ),
        bridge=(outer.master or "") if isinstance(outer, Link) else "",
        because=done.desired.because.get(link, ""),
    )


class Board:
    """The status of everything, kept as passes judge parts of it."""

    def __init__(self) -> None:
        self._of: dict[NsKey, dict[Key, LinkStatus]] = {}
        self._unready: set[Key] = set()

    def __iter__(self) -> Iterator[LinkStatus]:
        for statuses in self._of.values():
            yield from statuses.values()

    def get(self, key: Key) -> LinkStatus | None:
        """Return the status of one link, None if none is known."""
        return self._of.get(key.ns, {}).get(key)

    def put(
        self,
        judged: Mapping[Key, LinkStatus],
        scope: Iterable[NsKey] | None,
        looked_at: Iterable[Key] = (),
    ) -> list[LinkStatus]:
        """Take in what a pass judged of `scope` (None: of everything).

        `looked_at` names what it looked at beside its scope. Return what is not Ready now, for
        another reason than before.
        """
        news = [
            status
            for key, status in judged.items()
            if status.state != "Ready"
            and ((old := self.get(key)) is None or old.message != status.message)
        ]
        for ns in list(self._of) if scope is None else scope:
            self.drop(ns)
        for key in looked_at:
            self._of.get(key.ns, {}).pop(key, None)
            self._unready.discard(key)
        for key, status in judged.items():
            self._of.setdefault(key.ns, {})[key] = status
            if status.state != "Ready":
                self._unready.add(key)
            else:
                self._unready.discard(key)
        return news

    def expect(self, links: Iterable[Key]) -> None:
        """Note declared links that no pass has looked at yet."""
        for link in links:
            if self.get(link) is None:
                pending = LinkStatus(link, "Pending", "not looked at yet")
                self._of.setdefault(link.ns, {})[link] = pending
                self._unready.add(link)

    def drop(self, ns: NsKey) -> None:
        """Forget a container's links."""
        self._unready.difference_update(self._of.pop(ns, ()))

    def doubt(self, reason: str) -> None:
        """Nothing is known any more, for this reason."""
        for statuses in self._of.values():
            for key, status in statuses.items():
                statuses[key] = replace(status, state="Unknown", message=reason)
                self._unready.add(key)

    def clear(self) -> None:
        """Forget everything."""
        self._of.clear()
        self._unready.clear()

    @property
    def connected(self) -> bool:
        """There are declared links of running containers, and all of them are Ready."""
        return any(self._of.values()) and not self._unready


def all_connected(statuses: Mapping[Key, LinkStatus]) -> bool:
    """Tell whether there are declared links of running containers, and all are Ready."""
    return bool(statuses) and all(s.state == "Ready" for s in statuses.values())
