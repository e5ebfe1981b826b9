"""The sidecar: doorbells ring, scopes become due, passes run one after the other.

Everything here runs in one event loop, except what may block: engines (threads of their own) and
passes (one thread, the only writer). A doorbell says where to look, never what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shlex
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from actuators import planes
from model.keys import NsKey, link_key
from model.ownership import group_of
from model.problems import ConfigError
from model.resources import Command
from model.wanted import Desired
from observers.doorbells import Deaf, KernelDoorbell, Rang, RangLink
from observers.engine import Engine
from observers.namespaces import Opened, inode_of, path_of
from observers.runtimes import Runtime
from reconciler.apply import Hands, Outcome, Start
from reconciler.containers import Roster
from reconciler.control import Control
from reconciler.crashes import EXIT, Crash, Crashes
from reconciler.debounce import Debounce, Scope
from reconciler.engines import Engines
from reconciler.files import FileWatch
from reconciler.findings import Findings
from reconciler.keepers import AGAIN
from reconciler.metrics import Metrics
from reconciler.passes import Pass, World, reason_of, run
from reconciler.plan import Plan
from reconciler.render import command_data, status_data
from reconciler.runs import Runs
from reconciler.sources import Sources, States, load
from reconciler.switches import Switches
from reconciler.teardown import tear_down
from reconciler.ways import ways

log = structlog.get_logger()

_JITTER = 0.1  # of the interval, so that many sidecars do not tick together
_AGAIN = 1.0  # seconds until a namespace that could not be read is looked at again


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line decides about the sidecar, and how the files were that it read."""

    sources: Sources
    states: States
    interval: float = 30.0
    keep_on_exit: bool = False


class Sidecar:
    """Keeps what is as it should be until it is told to stop."""

    def __init__(self, settings: Settings, roster: Roster, runtimes: Iterable[Runtime]) -> None:
        self.settings = settings
        self.roster = roster
        self.crashes = Crashes(self._give_up)
        self.engines = Engines(runtimes, roster, self._roster_changed, self._new_life, self.crashes)
        self.debounce = Debounce()
        self.metrics = Metrics()
        self.switches = Switches(
            self._switches_rang, started=self._daemon_started, ended=self._daemon_ended
        )
        sockets = {r.name: r.path for r in self.engines.runtimes() if isinstance(r, Engine)}
        self.runs = Runs(sockets, self._command_said, self._command_ended)
        self.findings = Findings(roster, self.engines, self.runs)
        self.config_errors: tuple[str, ...] = ()
        self._kept_elsewhere: set[NsKey] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Run until a signal says otherwise; return the exit code.

        Raises:
            OSError: the data plane cannot be listened to.
            control.AlreadyRunningError: another sidecar does this job.
        """
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            self._loop.set_exception_handler(self._callback_crashed)
            threading.excepthook = self._thread_crashed
            control = Control(self.roster.facts.instance, self.status, self.measured, self.crashes)
            stack.push_async_callback(control.stop)
            await control.start()
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="pass")
            stack.callback(self._executor.shutdown)
            stack.callback(self.switches.close)
            stack.callback(self.runs.close)
            stack.callback(self.findings.keepers.close)
            stack.callback(self.findings.readiness.close)
            self._listen(stack)
            stack.push_async_callback(self._end_tasks)
            stack.callback(self._told_enough)
            return await self._serve()

    def _listen(self, stack: contextlib.AsyncExitStack) -> None:
        """Connect every doorbell."""
        for number in _STOPS:
            self._on_signal(number, partial(self._told_to_stop, number))
        self._on_signal(signal.SIGHUP, self._reload)
        self._start_listening(KernelDoorbell(self.roster.facts.plane))
        stack.callback(self._stop_listening)
        if not self._bell.hears_containers:
            reason = "drift inside containers waits for the next tick"
            log.warning("deaf_to_containers", reason=reason, cure="cap_add NET_BROADCAST")
        settings = self.settings
        self._files = FileWatch(settings.sources.paths(), self._reload, settings.states)
        stack.callback(self._files.close)
        stack.callback(self.engines.close)
        for work in (*self.engines.start(), self._tick()):
            self._spawn(work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -------------------------------------------------------------------- crashes

    def _give_up(self) -> None:
        """End the process, so that somebody starts it afresh; its links stay."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: it ends already
            self._loop.call_soon_threadsafe(self._end)

    def _callback_crashed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A bell was lost, of whatever it was."""
        error = context.get("exception") or RuntimeError(context["message"])
        _, delay = self.crashes.note(_CALLBACK, error)
        self._loop.call_later(delay, self.ring, None)

    def _thread_crashed(self, args: threading.ExceptHookArgs) -> None:
        """A thread that waited for something is gone: wait anew, and look at everything."""
        if args.exc_value is None:
            return
        name = args.thread.name if args.thread else "?"
        mends = name in _WAITING
        _, delay = self.crashes.note(f"thread {name}", args.exc_value, counts=mends)
        if mends:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._loop.call_later, delay, self._listen_anew)

    def _listen_anew(self) -> None:
        self.engines.listen_anew()
        for name in _WAITING:
            self.crashes.ends_if_quiet(f"thread {name}", self._loop)
        self._loop.run_in_executor(self._executor, self.switches.close)
        self.ring(None)

    # ------------------------------------------------------------------ doorbells

    def ring(self, scope: Scope) -> None:
        """Note that somebody should look at `scope`."""
        self.debounce.ring(scope, self._loop.time())
        self._wake.set()

    def _kernel_rang(self) -> None:
        with self.crashes.confined("kernel events") as crash:
            self._take_in()
        if crash:  # what it could not make sense of may have been about anything
            self._stop_reading()
            self._loop.call_later(crash.delay, self._read_on)

    def _read_on(self) -> None:
        if self._stop.is_set():
            return
        self._loop.add_reader(self._bell.fileno(), self._kernel_rang)
        self.ring(None)

    def _take_in(self) -> None:
        for rang in self._bell.heard():
            match rang:
                case Rang(ns):
                    if ns in self.roster.containers or ns == self.roster.facts.plane:
                        self.findings.ledger.hurry(ns)
                        self.ring(ns)
                case Deaf():
                    log.warning("kernel_events_lost", doing="looking at everything")
                    self.ring(None)
                case RangLink(ns, name, group):
                    for child in sorted(self.roster.children.get(name, ())):
                        self.findings.ledger.hurry(child)
                        self.ring(child)
                    if ns == self.roster.facts.plane:
                        self._plane_rang(name, group)

    def _plane_rang(self, name: str, group: int) -> None:
        facts = self.roster.facts
        if owner := self.roster.owners.get(name):
            self.findings.ledger.hurry(facts.plane)  # whoever held it may have let go of it
            self.ring(owner)
        elif name in self.roster.bridges():
            # What a bridge stood in the way of, or was missing for, is anywhere.
            stuck = self.findings.board.get(link_key(facts.plane, name)) is not None
            self.ring(None if stuck else facts.plane)
        elif group == group_of(facts.instance) and name not in self.roster.departed:
            self.ring(None)  # ours, under a name that nobody declared

    def _roster_changed(self, ns: NsKey | None) -> None:
        """A container started, stopped or restarted; None: an engine listed all of its own."""
        self.findings.expect(ns)
        if ns is None or self.roster.is_about_all(frozenset({ns})):
            self.ring(None)
        else:
            self.ring(ns if ns in self.roster.containers else self.roster.facts.plane)

    def _new_life(self, ns: NsKey) -> None:
        """Forget what was learned of a container that stopped, started or restarted."""
        self._bell.forget(ns)
        self.runs.forget(ns)
        self.metrics.forget(ns)
        self.findings.forget(ns)

    def _switches_rang(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self.ring, None)

    def _daemon_started(self, daemon: str) -> None:
        log.info("daemon_started", daemon=daemon)

    def _daemon_ended(self, daemon: str, how: str) -> None:
        log.warning("daemon_ended", daemon=daemon, reason=how)

    def _command_said(self, command: Command, line: str) -> None:
        log.info("command_output", container=str(command.key.ns), line=line)

    def _command_ended(self, command: Command, code: int) -> None:
        words = {"container": str(command.key.ns), "command": shlex.join(command.argv)}
        (log.warning if code else log.info)("command_ended", code=code, **words)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.ring, command.key.ns)

    async def _ways_changed(self) -> None:
        """Look again how wide the way to each tunnel's remote is."""
        facts = self.roster.facts
        if not self.roster.config.tunnels:
            return
        # In the thread of passes, which is there also where no other can be started.
        found = await self._loop.run_in_executor(
            self._executor, ways, facts.plane, self.roster.config
        )
        if found != facts.underlay:
            log.info("ways_changed", **{remote: f"mtu {mtu}" for remote, mtu in found.items()})
            self.roster.reconfigure(self.roster.config, replace(facts, underlay=found))

    async def _tick(self) -> None:
        while True:
            spread = 1 + _JITTER * (2 * random.random() - 1)  # noqa: S311 - not a secret
            await asyncio.sleep(self.settings.interval * spread)
            with self.crashes.confined("tick"):
                self._files.check()
                if self.config_errors and self._files.is_quiet:
                    self._reload(changed=False)  # for want of descriptors, say, it was not read
                with contextlib.suppress(OSError):  # the pass that follows says what is wrong
                    await self._ways_changed()
            self.ring(None)

    # -------------------------------------------------------------- configuration

    def _reload(self, *, changed: bool = True) -> None:
        """Read the configuration again; a broken one leaves the old one in force."""
        with self.crashes.confined("configuration", counts=False) as crash:
            self._read_again(() if changed else self.config_errors)
        if crash:
            self.config_errors = (f"Relink failed to read it: {crash.reason}",)

    def _read_again(self, told: Sequence[str]) -> None:
        try:
            loaded = load(self.settings.sources, again=True)
        except ConfigError as error:
            self.config_errors = tuple(str(problem) for problem in error.problems)
            for problem in self.config_errors:
                if problem not in told:
                    log.error("configuration_refused", problem=problem)  # noqa: TRY400 - said whole
            return
        self.config_errors = ()
        if loaded.config == self.roster.config:
            return
        self.roster.reconfigure(loaded.config, self.roster.facts)
        self.findings.start_afresh()
        log.info("configuration_loaded", links=len(loaded.config.links))
        self._roster_changed(None)

    # --------------------------------------------------------------------- passes

    async def _serve(self) -> int:
        while not self._stop.is_set():
            await self._until_due()
            scope = self.debounce.take(self._loop.time(), self.roster.is_about_all)
            if self._stop.is_set() or isinstance(scope, bool):
                continue
            await self._round(scope)
        self.findings.readiness.close()  # nobody looks any more
        if self.crashes.hopeless or self.settings.keep_on_exit:
            log.info("stopped", links="kept")
            return EXIT if self.crashes.hopeless else 0
        world = self.roster.world()
        done = await self._loop.run_in_executor(self._executor, self._tear_down, world)
        outcome = done.outcome or Outcome()
        for failure in outcome.failures:
            log.error("not_removed", key=str(failure.key), reason=failure.message)
        log.info("stopped", links="removed", removed=len(outcome.done))
        return 1 if outcome.failures else 0

    def _tear_down(self, world: World) -> Pass:
        done = tear_down(world, switches=self.switches, visit=self._visitor(world))
        self.switches.stop_daemons(world.facts)
        return done

    async def _until_due(self) -> None:
        """Wait for a scope to become due, a retry, or the word to stop."""
        while not self._stop.is_set():
            now = self._loop.time()
            for ns in self.findings.ledger.due(now):
                scope = ns if ns and ns.kind == "container" else None
                if scope not in self.debounce.rung:
                    self.debounce.ring(scope, now)
            due, retry = self.debounce.due_at(), self.findings.ledger.next_due()
            if due is not None and due <= now:
                return
            # A retry that is due has rung by now, so that only a later one is a time to wait for.
            times = [at for at in (due, retry) if at is not None and at > now]
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                timeout = min(times) - now if times else None
                await asyncio.wait_for(self._wake.wait(), timeout)

    async def _round(self, scope: frozenset[NsKey] | None) -> None:
        """Look at a scope; where that crashes, at each part alone, so that the others converge."""
        crash = await self._tried(scope)
        if not crash:
            return
        if scope is not None and len(scope) == 1:
            self._doubt(scope, crash)
            return
        for ns in sorted(self.roster.wirings if scope is None else scope):
            part = frozenset({ns})
            of_it = crash if self.roster.is_about_all(part) else await self._tried(part)
            if of_it:
                self._doubt(part, of_it)

    async def _tried(self, scope: frozenset[NsKey] | None) -> Crash:
        """Make one pass, and say how it crashed if it did; it is made again later then."""
        begun = self._loop.time()
        words = "everything" if scope is None else ", ".join(map(str, sorted(scope)))
        with self.crashes.confined(f"{_LOOK}{words}") as crash:
            await self._one_pass(scope)
        if not crash:
            if scope is None:
                self.crashes.all_went_well(_LOOK, _CALLBACK)
            return crash
        now = self._loop.time()
        self.metrics.failed(self.roster.world(), scope, now - begun)
        self.debounce.done(scope, now, wrote=False)
        if scope is not None and len(scope) > 1:
            self.crashes.went_well(f"{_LOOK}{words}")  # each part is looked at now, and counted
            return crash
        (again,) = (None,) if scope is None else scope
        self.debounce.hold(again, now + crash.delay)
        self.debounce.ring(again, now)
        return crash

    def _doubt(self, scope: frozenset[NsKey], crash: Crash) -> None:
        self.findings.doubt(f"Relink failed: {crash.reason}; its log says where", scope)

    async def _one_pass(self, scope: frozenset[NsKey] | None) -> None:
        self.findings.begin()
        world = replace(self.roster.world(), ended=dict(self.runs.ended))
        begun: list[tuple[Command, int]] = []
        try:
            await self._look(world, scope, lambda *command: begun.append(command))
        finally:
            # They are marked as started, so that nobody else would; and only now, so that the log
            # tells of their links before it tells what they say.
            start = self.runs.starter(world.containers)
            for command, inode in begun:
                start(command, inode)

    async def _look(self, world: World, scope: frozenset[NsKey] | None, start: Start) -> None:
        departed = sorted(self.roster.departed)
        owners = dict(self.roster.owners)  # as they are now: a container may stop meanwhile
        hands = Hands(switches=self.switches, start=start)
        in_sync = self.engines.in_sync
        now = self._loop.time()

        def decide(plan: Plan, desired: Desired) -> Plan:
            allowed = self.findings.ledger.allow(plan, desired.resources, now)
            if in_sync:
                return allowed
            # Whoever has not heard every engine does not know what nobody wants.
            return replace(allowed, steps=tuple(s for s in allowed.steps if s.action != "delete"))

        others: set[NsKey] = set()

        def learn(opened: Opened) -> None:
            wirings = world.wirings
            plane = world.facts.plane
            wired = {
                ns for ns in opened.sockets if ns != plane and ns in wirings and wirings[ns].parts
            }
            self._bell.learn(opened, wired)
            self.findings.readiness.prepare({ns: opened.sockets[ns].fileno() for ns in wired})
            others.update(opened.others)

        visit = self._visitor(world)

        def work() -> Pass:
            return run(
                world, scope, also=departed, decide=decide, watch=learn, visit=visit,
                hands=hands,
            )  # fmt: skip

        try:
            if await self._plane_is_another():
                scope = None
            done = await self._loop.run_in_executor(self._executor, work)
        except OSError as error:
            self.metrics.failed(world, scope, self._loop.time() - now)
            self._plane_failed(error)
            self.debounce.done(scope, self._loop.time(), wrote=False)
            return
        changed, seconds = self.findings.changed, self._loop.time() - now
        self.metrics.passed(world, scope, done, owners, changed=changed, seconds=seconds)
        if scope is None and not changed:  # what came or went meanwhile is looked at once more
            self.roster.recount()
        self.roster.departed.difference_update(departed)
        self.findings.learned(done, scope, self._loop.time())
        for ns in done.snapshot.unread:  # nothing need ring there
            self._loop.call_later(_AGAIN, self.ring, ns)
        # However often one is looked at meanwhile, a single look waits.
        for ns in others - self._kept_elsewhere:
            self._kept_elsewhere.add(ns)
            self._loop.call_later(AGAIN, self._ask_again, ns)
        wrote = done.outcome is not None and bool(done.outcome.done)
        self.debounce.done(scope, self._loop.time(), wrote=wrote)

    def _ask_again(self, ns: NsKey) -> None:
        self._kept_elsewhere.discard(ns)
        self.ring(ns)

    def _visitor(self, world: World) -> Callable[[NsKey], str]:
        """Return what is asked in each container: is it ours to wire?"""
        keepers, wirings = self.findings.keepers, world.wirings
        return lambda ns: keepers.claim(ns) if ns in wirings and wirings[ns].parts else ""

    async def _plane_is_another(self) -> bool:
        """Make a pinned data plane that somebody removed, and listen to the one that is there."""
        plane = self.roster.facts.plane
        if plane.kind != "pinned" or inode_of(plane) == self._bell.inode:
            return False
        await self._loop.run_in_executor(self._executor, planes.create, path_of(plane))
        log.warning("data_plane_replaced", path=path_of(plane))
        new = KernelDoorbell(plane)  # before the old one goes: this may fail, and be tried again
        self._stop_listening()
        self._start_listening(new)
        return True

    def _start_listening(self, bell: KernelDoorbell) -> None:
        self._bell = bell
        self._loop.add_reader(self._bell.fileno(), self._kernel_rang)

    def _stop_reading(self) -> None:
        self._loop.remove_reader(self._bell.fileno())

    def _stop_listening(self) -> None:
        self._stop_reading()
        self._bell.close()

    def _plane_failed(self, error: OSError) -> None:
        reason = f"the data plane {path_of(self.roster.facts.plane)}: {reason_of(error)}"
        self.findings.plane_failed(reason)
        self._loop.call_later(_AGAIN, self.ring, None)

    def status(self) -> dict[str, Any]:
        """Return status as plain data, for the control socket."""
        found = self.findings
        return status_data(
            found.board,
            connected=found.connected,
            in_sync=self.engines.in_sync,
            instance=self.roster.facts.instance,
            engines=self.engines.states(),
            commands=command_data(found.commands.values(), self.runs.running()),
            unmatched=self.roster.unmatched(),
            configuration_errors=list(self.config_errors),
            data_plane_error=found.plane_error,
            crashes=self.crashes.data(),
        )

    def measured(self) -> bytes:
        """Return the metrics as text, for the control socket."""
        return self.metrics.text(self.findings.board, self.engines.states())

    def _told_to_stop(self, number: int) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        self._end()

    def _end(self) -> None:
        self._stop.set()
        self._wake.set()

    def _on_signal(self, number: signal.Signals, told: Callable[[], None]) -> None:
        """Have the loop hear of a signal.

        Not by its own means: to let go of them gives the signal its default way for a moment
        (asyncio of Python 3.11), and one that comes then ends the process by it.
        """
        signal.signal(number, lambda *_: self._loop.call_soon_threadsafe(told))

    def _told_enough(self) -> None:
        """All is done: a signal that comes now must not end the process in its own way."""
        for number in (*_STOPS, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


_STOPS = (signal.SIGTERM, signal.SIGINT)
_LOOK, _CALLBACK = "look at ", "callback"  # how scopes of crashes begin
_WAITING = ("process-watch", "ovs")  # threads that wait for the world, and what _listen_anew mends
