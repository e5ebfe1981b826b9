"""Status of each declared link, judged from a pass: data, rendered elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from actuators.requests import Verdict
from model.keys import Key, NsKey
from model.resources import (
    Address,
    Command,
    EthtoolCall,
    Link,
    NatTable,
    Offload,
    Qdisc,
    Setting,
)
from reconciler.diff import Change
from reconciler.needs import requires
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
        message: why it is not Ready, or what else is to be known about it.
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
    of = {part: link for link, parts in done.desired.parts.items() for part in parts}
    pending = [step for step in done.plan.steps if step.key not in finished]
    waits = _waits(done, pending, ledger) if ledger else {}
    for step in done.plan.steps:
        entry = ledger.entries.get(step.key) if ledger else None
        if entry and entry.fighting:
            found(step.key, "Fighting", entry.message)
        elif failure := failed.get(step.key):
            found(step.key, *_failed(step, _OF_VERDICT[failure.verdict], failure.message))
        elif step.key not in finished and entry and entry.failures:
            state: State = _OF_VERDICT[entry.verdict]
            state = "Backoff" if state == "Pending" else state  # it waits
            found(step.key, *_failed(step, state, entry.message))
        elif step.key not in finished:
            first, why = waits.get(step.key, (step.key, ""))
            if of.get(first) != of.get(step.key):
                found(step.key, "Blocked", f"{_told_as(step)}: waits for {first}: {why}")
            else:
                found(step.key, "Pending", f"{_told_as(step)}: to {step.action}")
    parts_of = done.desired.parts
    statuses = {
        link: _status(done, link, [f for part in parts for f in findings.get(part, ())])
        for link, parts in parts_of.items()
    }
    for key, states in findings.items():
        if key not in of and key.type == "link":
            statuses[key] = _status(done, key, states)
    return statuses


def _waits(done: Pass, pending: Sequence[Change], ledger: Ledger) -> dict[Key, tuple[Key, str]]:
    """Return for each step that is not tried now what comes before it, and why that waits."""
    waits = {
        step.key: (step.key, entry.message)
        for step in pending
        if (entry := ledger.entries.get(step.key)) and entry.waits
    }
    for step in pending if waits else ():
        if step.after and step.key not in waits:
            needs = requires(step.after, done.desired.resources)
            if first := next((waits[key] for key in needs if key in waits), None):
                waits[step.key] = first
    return waits


def _failed(step: Change, state: State, message: str) -> tuple[State, str]:
    """Say what failed by the key of the language; and where, if nothing but a person mends it."""
    words = f"{_told_as(step)}: {message}"
    if state in ("Refused", "Unsupported") and step.because:
        words += f"; declared at {step.because}"
    return state, words


def _told_as(step: Change) -> str:
    """Name what a step is about as the configuration does, where that has a key for it."""
    match step.after or step.before:
        case Qdisc():
            return "netem"
        case Link(kind=kind) if kind not in ("veth", "bridge"):
            return f"type {kind}"
        case EthtoolCall(argv=argv):
            return f"ethtool {shlex.join(argv)}"
        case Setting():
            return f"ethtool {step.key.detail}"
        case Offload():
            return "ethtool offload"
        case NatTable():
            return f"nat and forward in {step.key.ns}"
        case Command(argv=argv):
            return f"command {shlex.join(argv)}"
    return str(step.key)


@dataclass(frozen=True, slots=True)
class CommandStatus:
    """What became of a declared command in this life of its container.

    Attributes:
        command: with its exit code, if it has ended.
        state: "started" says that it may run still, unseen if another Relink started it.
    """

    command: Command
    state: Literal["waiting", "started", "ended"]


def judge_commands(done: Pass) -> dict[Key, CommandStatus]:
    """Judge every declared command of a pass, as the kernel keeps it."""
    started = {step.key for step in done.outcome.done} if done.outcome else set()
    judged: dict[Key, CommandStatus] = {}
    for key, wanted in done.desired.resources.items():
        if not isinstance(wanted, Command):
            continue
        seen = done.snapshot.resources.get(key)
        kept = seen.code if isinstance(seen, Command) else None
        code = wanted.code if kept is None else kept
        begun = seen is not None or key in started
        state: Literal["waiting", "started"] = "started" if begun else "waiting"
        command = replace(wanted, code=code)
        judged[key] = CommandStatus(command, state if code is None else "ended")
    return judged


def _status(done: Pass, link: Key, states: list[tuple[State, str]]) -> LinkStatus:
    state, message = min(states, key=lambda f: _WORST.index(f[0]), default=("Ready", ""))
    resources = done.desired.resources
    if state == "Ready":
        message = done.plan.notes.get(link) or done.desired.notes.get(link, "")
    return LinkStatus(
        key=link,
        state=state,
        message=message,
        addresses=tuple(
            r.ip
            for part in done.desired.parts.get(link, ())
            if isinstance(r := resources.get(part), Address)
        ),
        bridge=done.desired.bridges.get(link, ""),
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

    def doubt(self, reason: str, scope: Iterable[NsKey] | None = None) -> None:
        """Nothing is known any more of `scope` (None: of anything), for this reason."""
        for ns in self._of if scope is None else scope:
            statuses = self._of.get(ns, {})
            for key, status in statuses.items():
                statuses[key] = replace(status, state="Unknown", message=reason)
                self._unready.add(key)

    def clear(self) -> None:
        """Forget everything."""
        self._of.clear()
        self._unready.clear()

    def ready(self, ns: NsKey) -> bool:
        """Tell whether a container has declared links, and all of them are Ready."""
        statuses = self._of.get(ns, {}).values()
        return bool(statuses) and all(status.state == "Ready" for status in statuses)

    @property
    def connected(self) -> bool:
        """There are declared links of running containers, and all of them are Ready."""
        return any(self._of.values()) and not self._unready


def all_connected(statuses: Mapping[Key, LinkStatus]) -> bool:
    """Tell whether there are declared links of running containers, and all are Ready."""
    return bool(statuses) and all(s.state == "Ready" for s in statuses.values())
