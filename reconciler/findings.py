"""What passes came to: for status, for the word in containers, for the log and for the next pass.

Only the loop's thread may tell or ask. It neither looks nor changes anything itself.
"""

from __future__ import annotations

import structlog

from model.keys import Key, NsKey
from model.resources import Command, OvsBridge
from reconciler.containers import Roster
from reconciler.engines import Engines
from reconciler.keepers import Keepers
from reconciler.passes import Pass
from reconciler.readiness import Readiness
from reconciler.retries import Ledger
from reconciler.runs import Runs
from reconciler.status import Board, CommandStatus, judge, judge_commands

log = structlog.get_logger()

_PAST = {"create": "created", "modify": "changed", "replace": "replaced", "delete": "deleted"}
_LEFT = ("nat", "neighbour", "rule")  # what nobody wants of these shows in a look at everything


class Findings:
    """Everything that is known of the links that should be, while the sidecar lives.

    Attributes:
        board: how each link is.
        ledger: what failed, or is fought over, and when it may be tried again.
        readiness: which containers have been told that their links are as declared.
        keepers: which containers no other sidecar of this name may wire meanwhile.
        commands: which have run, and how they ended.
        connected: every link is as declared, and no engine has kept one back.
        plane_error: why the data plane cannot be looked at, "" when it can.
        changed: containers whose life began or ended since the last pass did.
    """

    def __init__(self, roster: Roster, engines: Engines, runs: Runs) -> None:
        self._roster = roster
        self._engines = engines
        self._runs = runs
        self.board = Board()
        self.ledger = Ledger()
        self.readiness = Readiness(roster.facts.instance)
        self.keepers = Keepers(roster.facts.instance)
        self.commands: dict[Key, CommandStatus] = {}
        self.connected = False
        self.plane_error = ""
        self._userspace_told = False
        self.changed: set[NsKey] = set()
        self._all_changed = False

    # ------------------------------------------------------------- what may have changed

    def begin(self) -> None:
        """Before a pass: what it will find counts from now on."""
        self.readiness.begin()
        self.keepers.begin()
        self.changed.clear()
        self._all_changed = False

    def expect(self, ns: NsKey | None) -> None:
        """Take in what a container should have now; None: every one."""
        for each in self._roster.containers if ns is None else (ns,):
            if wanted := self._roster.wirings.get(each):
                self.board.expect(wanted.parts)
            else:
                self.board.drop(each)
            if not self.board.ready(each):
                self.readiness.withdraw(each)
        self._announce()

    def forget(self, ns: NsKey) -> None:
        """Forget what was learned of a container that stopped, started or restarted."""
        self.changed.add(ns)
        self.readiness.forget(ns)
        self.keepers.forget(ns)
        self.commands = {key: each for key, each in self.commands.items() if key.ns != ns}
        plane, owners = self._roster.facts.plane, self._roster.owners
        wanted = self._roster.wirings.get(ns)
        its = {resource.key for resource in wanted.resources} if wanted else set()

        def is_of_it(key: Key) -> bool:
            if key.ns != plane:
                return key.ns == ns
            return key in its or owners.get(key.dev) == ns or self._roster.is_unknown(key)

        self.ledger.forget(is_of_it)

    def start_afresh(self) -> None:
        """Other links are declared: nothing is known of any, nor of who may have fought one."""
        self._all_changed = True
        self.ledger = Ledger()
        self.board.clear()
        self.readiness.close()

    def doubt(self, reason: str, scope: frozenset[NsKey]) -> None:
        """Nobody knows, for this reason, how the links of some containers are."""
        self.board.doubt(reason, scope)
        self.readiness.settle(dict.fromkeys(scope, False))
        self._announce()

    def plane_failed(self, reason: str) -> None:
        """Nobody knows, for this reason, how any link is."""
        if reason != self.plane_error:
            log.error("pass_failed", reason=reason)
        self.plane_error = reason
        self.board.doubt(reason)
        self.readiness.close()
        self.readiness.settle({})
        self.connected = False

    # ------------------------------------------------------------------- what a pass says

    def learned(self, done: Pass, scope: frozenset[NsKey] | None, now: float) -> None:
        """Take in what a pass did, at a time of the loop's clock."""
        self.plane_error = ""
        self._tell_userspace(done)
        outcome = done.outcome
        if outcome is None:
            return

        def looked_at(key: Key) -> bool:
            if scope is None or key in done.desired.resources or key in done.snapshot.resources:
                return True
            return key.ns in scope and key.type not in _LEFT

        self._note_commands(done, scope)
        fights = self.ledger.note(done.plan, outcome, looked_at, now)
        self.ledger.forget(self._roster.is_unknown)  # what stopped while the pass ran
        for step in outcome.done:
            fields = {f.name: f"{f.before} -> {f.after}" for f in step.fields}
            log.info(_PAST[step.action], key=str(step.key), because=step.because, **fields)
        for failure in outcome.failures:
            entry = self.ledger.entries.get(failure.key)
            if failure.needed or (entry and entry.failures > 1):
                continue  # told where it began; status tells that it goes on
            log.warning("step_failed", key=str(failure.key), reason=failure.message)
        for key in fights:
            if entry := self.ledger.entries.get(key):
                log.error("fighting", key=str(key), reason=entry.message)
        self._judge(done, scope)

    def _judge(self, done: Pass, scope: frozenset[NsKey] | None) -> None:
        # What a pass says of a container that stopped or started meanwhile is no news.
        plane = self._roster.facts.plane
        containers, wirings = self._roster.containers, self._roster.wirings
        judged = {} if self._all_changed else judge(done, self.ledger)
        judged = {
            key: status
            for key, status in judged.items()
            if key.ns == plane or (key.ns in containers and key.ns not in self.changed)
        }
        looked = [key for key in done.desired.resources if key.ns == plane]
        for status in self.board.put(judged, scope, looked):
            words = {"key": str(status.key), "state": status.state, "reason": status.message}
            log.warning("not_ready", **words)
        for ns in wirings if scope is None else {plane, *scope} & wirings.keys():
            self.board.expect(wirings[ns].parts)  # what nobody looked at yet is not as declared
        about = {key.ns for key in judged}.union(self.readiness.told() if scope is None else scope)
        in_sync = self._engines.in_sync
        self.readiness.settle({ns: in_sync and self.board.ready(ns) for ns in about})
        self.keepers.settle({ns for ns, wanted in wirings.items() if wanted.parts})
        self._announce()

    def _note_commands(self, done: Pass, scope: frozenset[NsKey] | None) -> None:
        """Take in which commands have run, as the kernel keeps it."""
        for key in [k for k in self.commands if scope is None or k.ns in scope]:
            del self.commands[key]
        for key, status in judge_commands(done).items():
            seen = done.snapshot.resources.get(key)
            if isinstance(seen, Command) and seen.code is not None:
                self._runs.written(key)
            if key.ns in self._roster.containers:  # it may have stopped while the pass ran
                self.commands[key] = status

    def _tell_userspace(self, done: Pass) -> None:
        """Say once that Open vSwitch does without the kernel: slower, and with tx offload off."""
        wanted = done.desired.resources.values()
        if not self._userspace_told and any(
            isinstance(r, OvsBridge) and r.datapath == "netdev" for r in wanted
        ):
            self._userspace_told = True
            reason = "the kernel has no datapath of Open vSwitch"
            log.warning("userspace_datapath", reason=reason, cure="load its module openvswitch")

    def _announce(self) -> None:
        now = self._engines.in_sync and self.board.connected
        if now and not self.connected:
            # Users grep for these three words.
            log.info("All links connected", links=sum(1 for _ in self.board))
        self.connected = now
