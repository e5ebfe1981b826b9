"""The sidecar: doorbells ring, scopes become due, passes run one after the other.

Everything here runs in one event loop, except what may block: engines (threads of their own) and
passes (one thread, the only writer). A doorbell says where to look, never what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from model.desired import Desired, Facts
from model.keys import Key, NsKey
from model.ownership import group_of
from model.problems import ConfigError
from model.replicas import Container
from observers.doorbells import Deaf, KernelDoorbell, Rang
from observers.inotify import IN_ATTRIB, IN_CLOSE_WRITE, IN_CREATE, IN_DELETE, IN_MOVED_TO, Inotify
from observers.namespaces import Opened, StrandedError, path_of
from observers.process import ProcessWatch
from observers.runtimes import Changed, Connected, Doorbell, EngineUnavailableError, Lost, Runtime
from reconciler.apply import Outcome
from reconciler.containers import Roster
from reconciler.control import Control
from reconciler.debounce import Debounce, Scope
from reconciler.passes import Pass, run
from reconciler.plan import Plan
from reconciler.render import status_data
from reconciler.retries import Ledger
from reconciler.sources import Sources, load
from reconciler.status import LinkStatus, all_connected, judge
from reconciler.teardown import tear_down

log = structlog.get_logger()

_JITTER = 0.1  # of the interval, so that many sidecars do not tick together
_RELIST = 1.0  # seconds until an engine that did not answer is asked again
_CONFIG_EVENTS = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ATTRIB


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line decides about the sidecar."""

    sources: Sources
    interval: float = 30.0
    keep_on_exit: bool = False


@dataclass(slots=True)
class _Engine:
    """What is known of one runtime: whether its list is complete, and which ids to ask again."""

    runtime: Runtime
    listed: bool = False
    lost: str = "not connected yet"
    relist: bool = False
    changed: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Sidecar:
    """Keeps what is as it should be until it is told to stop."""

    def __init__(self, settings: Settings, roster: Roster, runtimes: Iterable[Runtime]) -> None:
        self.settings = settings
        self.roster = roster
        self.engines = {runtime.name: _Engine(runtime) for runtime in runtimes}
        self.ledger = Ledger()
        self.debounce = Debounce()
        self.statuses: dict[Key, LinkStatus] = {}
        self.config_errors: tuple[str, ...] = ()
        self.connected = False
        self.plane_error = ""
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
        self._halt = threading.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="pass")
        control = Control(self.roster.facts.instance, self.status)
        await control.start()
        self._bell = KernelDoorbell(self.roster.facts.plane)
        if not self._bell.hears_containers:
            log.warning(
                "deaf_to_containers", reason="drift inside containers waits for the next tick",
                cure="cap_add NET_BROADCAST", interval=self.settings.interval,
            )  # fmt: skip
        self._processes: ProcessWatch[tuple[str, str]] = ProcessWatch(
            lambda token: self._from_thread(self._rang, token[0], Changed(token[1]))
        )
        with contextlib.ExitStack() as stack:
            stack.callback(self._executor.shutdown)
            stack.callback(self._processes.close)
            stack.callback(self._bell.close)
            stack.callback(self._hang_up)
            self._listen(stack)
            try:
                return await self._serve()
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await control.stop()

    def _listen(self, stack: contextlib.ExitStack) -> None:
        """Connect every doorbell."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._told_to_stop, number)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._loop.add_reader(self._bell.fileno(), self._kernel_rang)
        stack.callback(self._loop.remove_reader, self._bell.fileno())
        self._watch_files(stack)
        for engine in self.engines.values():
            name = engine.runtime.name
            threading.Thread(
                target=engine.runtime.watch,
                args=(
                    lambda bell, name=name: self._from_thread(self._rang, name, bell),
                    self._halt,
                ),
                name=f"watch-{name}",
                daemon=True,
            ).start()
            self._spawn(self._follow(engine))
        self._spawn(self._tick())

    def _hang_up(self) -> None:
        self._halt.set()
        for engine in self.engines.values():
            engine.runtime.close()

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            raise task.exception() or RuntimeError

    def _from_thread(self, call: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(call, *arguments)

    # ------------------------------------------------------------------ doorbells

    def ring(self, scope: Scope) -> None:
        """Note that somebody should look at `scope`."""
        self.debounce.ring(scope, self._loop.time())
        self._wake.set()

    def _kernel_rang(self) -> None:
        for rang in self._bell.heard():
            match rang:
                case Rang(ns):
                    if ns in self.roster.containers:
                        self.ring(ns)
                case Deaf():
                    log.warning("kernel_events_lost", doing="looking at everything")
                    self.ring(None)
                case _:
                    self._plane_rang(rang.name, rang.group)

    def _plane_rang(self, name: str, group: int) -> None:
        facts = self.roster.facts
        if owner := self.roster.owners.get(name):
            self.ring(owner)
        elif any(r.key.dev == name for r in self.roster.wirings[facts.plane].resources):
            self.ring(facts.plane)
        elif group == group_of(facts.instance) and name not in self.roster.departed:
            self.ring(None)  # ours, under a name that nobody declared

    def _rang(self, name: str, bell: Doorbell) -> None:
        """An engine rang."""
        engine = self.engines[name]
        match bell:
            case Connected():
                engine.relist, engine.lost = True, ""
                log.info("engine_connected", engine=name)
            case Changed(container):
                engine.changed.add(container)
            case Lost(reason):
                engine.lost = reason
                log.warning("engine_lost", engine=name, reason=reason)
        engine.wake.set()

    async def _follow(self, engine: _Engine) -> None:
        """Turn an engine's bells into containers: list when it connects, find what changed."""
        while True:
            await engine.wake.wait()
            engine.wake.clear()
            try:
                if engine.relist:
                    engine.relist = False
                    engine.changed.clear()
                    self._listed(engine, await asyncio.to_thread(engine.runtime.list))
                ids, engine.changed = sorted(engine.changed), set()
                found = await asyncio.gather(
                    *(asyncio.to_thread(engine.runtime.find, each) for each in ids)
                )
                for each, container in zip(ids, found, strict=True):
                    self._found(engine, each, container)
            except EngineUnavailableError as error:
                # What is known stays known: an engine that cannot be reached runs what it ran.
                engine.lost = str(error)
                engine.relist = True
                log.warning("engine_unavailable", engine=engine.runtime.name, reason=str(error))
                self._loop.call_later(_RELIST, engine.wake.set)

    def _listed(self, engine: _Engine, containers: list[Container]) -> None:
        name = engine.runtime.name
        for ns in self.roster.replace(name, containers):
            self._new_life(ns)
        engine.listed, engine.lost = True, ""
        for ns, container in self.roster.containers.items():
            if container.runtime == name and container.pid and self.roster.wirings[ns].parts:
                self._watch_process(engine, container)
        log.info("containers_listed", engine=name, running=len(containers))
        self.ring(None)

    def _found(self, engine: _Engine, container_id: str, container: Container | None) -> None:
        name = engine.runtime.name
        self._processes.remove((name, container_id))
        if container is None:
            ns = self.roster.remove(name, container_id)
            if ns is not None:
                self._new_life(ns)
                self._gone(ns)
                self.ring(self.roster.facts.plane)
            return
        ns = self.roster.put(container)
        if ns is None:
            return
        self._new_life(ns)
        self._watch_process(engine, container)
        self.ring(None if self.roster.contested else ns)

    def _new_life(self, ns: NsKey) -> None:
        """Forget what was learned of a container that stopped, started or restarted."""
        self._bell.forget(ns)
        if wanted := self.roster.wirings.get(ns):
            self.ledger.forget(resource.key for resource in wanted.resources)

    def _watch_process(self, engine: _Engine, container: Container) -> None:
        token = (engine.runtime.name, container.id)
        if container.pid and not self._processes.add(container.pid, token):
            engine.changed.add(container.id)  # dead already: ask once more, a moment later
            self._loop.call_later(_RELIST / 10, engine.wake.set)

    def _gone(self, ns: NsKey) -> None:
        self.statuses = {k: s for k, s in self.statuses.items() if k.ns != ns}
        self._announce()

    async def _tick(self) -> None:
        while True:
            spread = 1 + _JITTER * (2 * random.random() - 1)  # noqa: S311 - not a secret
            await asyncio.sleep(self.settings.interval * spread)
            self.ring(None)

    # -------------------------------------------------------------- configuration

    def _watch_files(self, stack: contextlib.ExitStack) -> None:
        """Watch the directories of the files: an editor replaces a file rather than writing it."""
        inotify = stack.enter_context(Inotify())
        names: dict[int, set[str]] = {}
        for name in self.settings.sources.paths():
            path = Path(name).absolute()
            # Also the file itself: one that is bind-mounted changes without its directory.
            for target, heard in ((path.parent, path.name), (path, "")):
                with contextlib.suppress(OSError):
                    names.setdefault(inotify.add(target, _CONFIG_EVENTS), set()).add(heard)
        pending: list[asyncio.TimerHandle] = []

        def changed() -> None:
            if any(notice.name in names.get(notice.wd, ()) for notice in inotify.read()):
                for handle in pending:
                    handle.cancel()
                # A moment, so that several files saved together are read together.
                pending[:] = [self._loop.call_later(0.05, self._reload)]

        self._loop.add_reader(inotify.fd, changed)
        stack.callback(self._loop.remove_reader, inotify.fd)

    def _reload(self) -> None:
        """Read the configuration again; a broken one leaves the old one in force."""
        try:
            loaded = load(self.settings.sources)
        except ConfigError as error:
            self.config_errors = tuple(str(problem) for problem in error.problems)
            for problem in self.config_errors:
                log.error("configuration_refused", problem=problem)  # noqa: TRY400 - said whole
            return
        self.config_errors = ()
        if loaded.config == self.roster.config:
            return
        self.roster.reconfigure(loaded.config, self.roster.facts)
        self.statuses = {}
        log.info("configuration_loaded", links=len(loaded.config.links))
        self.ring(None)

    # --------------------------------------------------------------------- passes

    async def _serve(self) -> int:
        while not self._stop.is_set():
            await self._until_due()
            scope = self.debounce.take(self._loop.time())
            if self._stop.is_set() or isinstance(scope, bool):
                continue
            if self.roster.contested:
                scope = None
            await self._one_pass(scope)
        if self.settings.keep_on_exit:
            log.info("stopped", links="kept")
            return 0
        world = self.roster.world()
        done = await self._loop.run_in_executor(self._executor, tear_down, world)
        outcome = done.outcome or Outcome()
        for failure in outcome.failures:
            log.error("not_removed", key=str(failure.key), reason=failure.message)
        log.info("stopped", links="removed", removed=len(outcome.done))
        return 1 if outcome.failures else 0

    async def _until_due(self) -> None:
        """Wait for a scope to become due, a retry, or the word to stop."""
        while not self._stop.is_set():
            now = self._loop.time()
            for ns in self.ledger.due(now):
                self.debounce.ring(ns if ns.kind == "container" else None, now)
            times = [
                at for at in (self.debounce.due_at(), self.ledger.next_due()) if at is not None
            ]
            if times and min(times) <= now:
                return
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                timeout = min(times) - now if times else None
                await asyncio.wait_for(self._wake.wait(), timeout)

    async def _one_pass(self, scope: frozenset[NsKey] | None) -> None:
        world, departed = self.roster.world(), sorted(self.roster.departed)
        # The thread reads what the loop changes: give it its own view.
        world = replace(world, wirings=dict(world.wirings), containers=dict(world.containers))
        in_sync = all(engine.listed for engine in self.engines.values())
        now = self._loop.time()

        def decide(plan: Plan, desired: Desired) -> Plan:
            allowed = self.ledger.allow(plan, desired.resources, now)
            if in_sync:
                return allowed
            # Whoever has not heard every engine does not know what nobody wants.
            return replace(allowed, steps=tuple(s for s in allowed.steps if s.action != "delete"))

        try:
            done = await self._loop.run_in_executor(
                self._executor, lambda: run(
                    world, scope, also=departed, decide=decide, watch=self._learn
                )
            )  # fmt: skip
        except StrandedError:
            raise
        except OSError as error:
            self._plane_failed(error)
            self.debounce.done(scope, self._loop.time(), wrote=False)
            return
        self.plane_error = ""
        if scope is None:
            self.roster.contested = any(o.state == "refused" for o in done.desired.obstacles)
        self.roster.departed.difference_update(departed)
        self._learned(done, scope)
        wrote = done.outcome is not None and bool(done.outcome.done)
        self.debounce.done(scope, self._loop.time(), wrote=wrote)

    def _learn(self, opened: Opened) -> None:
        wirings = self.roster.wirings
        self._bell.learn(
            opened, {ns for ns in opened.sockets if ns in wirings and wirings[ns].parts}
        )

    def _plane_failed(self, error: OSError) -> None:
        facts = self.roster.facts
        self.plane_error = f"the data plane {path_of(facts.plane)}: {error.strerror or error}"
        self.statuses = {
            key: replace(status, state="Unknown", message=self.plane_error)
            for key, status in self.statuses.items()
        }
        log.error("pass_failed", reason=self.plane_error)
        self._loop.call_later(_RELIST, self.ring, None)

    def _learned(self, done: Pass, scope: frozenset[NsKey] | None) -> None:
        """Take in what a pass did: log, ledger, status."""
        outcome = done.outcome
        if outcome is None:
            return

        def looked_at(key: Key) -> bool:
            return scope is None or key in done.desired.resources or key in done.snapshot.resources

        fights = self.ledger.note(done.plan, outcome, looked_at, self._loop.time())
        for step in outcome.done:
            fields = {f.name: f"{f.before} -> {f.after}" for f in step.fields}
            log.info(_PAST[step.action], key=str(step.key), because=step.because, **fields)
        for failure in outcome.failures:
            log.warning("step_failed", key=str(failure.key), reason=failure.message)
        for key in fights:
            log.error("fighting", key=str(key), reason=self.ledger.entries[key].message)
        # What a pass says of a container that stopped meanwhile is no news.
        before = self.statuses
        known = {*self.roster.containers, self.roster.facts.plane}
        judged = {k: s for k, s in judge(done, self.ledger).items() if k.ns in known}
        if scope is None:
            self.statuses = judged
        else:
            kept = {k: s for k, s in self.statuses.items() if k.ns not in scope}
            self.statuses = kept | judged
        for key, status in judged.items():
            old = before.get(key)
            if status.state != "Ready" and (old is None or old.message != status.message):
                log.warning("not_ready", key=str(key), state=status.state, reason=status.message)
        self._announce()

    def _announce(self) -> None:
        now = all_connected(self.statuses)
        if now and not self.connected:
            # Users grep for these three words.
            log.info("All links connected", links=len(self.statuses))
        self.connected = now

    def status(self) -> dict[str, Any]:
        """Return status as plain data, for the control socket."""
        engines = {name: e.lost or "connected" for name, e in self.engines.items()}
        return status_data(
            self.statuses.values(),
            instance=self.roster.facts.instance,
            engines=engines,
            configuration_errors=list(self.config_errors),
            data_plane_error=self.plane_error,
        )

    def _told_to_stop(self, number: int) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        self._stop.set()
        self._wake.set()


_PAST = {"create": "created", "modify": "changed", "replace": "replaced", "delete": "deleted"}

__all__ = ["Facts", "Settings", "Sidecar"]
