"""Following engines: their bells and their containers' exits become a roster that is true."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog

from model.keys import NsKey
from model.replicas import Container
from observers.process import ProcessWatch
from observers.runtimes import Changed, Connected, Doorbell, EngineUnavailableError, Lost, Runtime
from reconciler.containers import Roster
from reconciler.crashes import Crashes

log = structlog.get_logger()
Answer = TypeVar("Answer")

_AGAIN = 1.0  # seconds until an engine that did not answer is asked again
_QUIET = 10.0  # seconds without a bell until an engine is asked whether it still answers
_SOON = 0.1  # seconds until a container that died as we looked is asked for again
_AT_ONCE = 8  # questions


@dataclass(slots=True)
class _Engine:
    """What is known of one runtime: whether its list is complete, and which ids to ask again.

    Attributes:
        deaf: why changes do not ring now, "" when they do.
        unanswered: why the last question has no answer, "" when it has one.
    """

    runtime: Runtime
    listed: bool = False
    deaf: str = "not connected yet"
    unanswered: str = ""
    relist: bool = False
    changed: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    again: asyncio.TimerHandle | None = None  # one, however often it was asked in vain
    few: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))


class Engines:
    """Keeps a roster as the engines tell it, while it lives.

    `changed(ns)` is called, in the event loop, after the roster changed for a container's
    namespace; `changed(None)` after a complete list.
    """

    def __init__(
        self,
        runtimes: Iterable[Runtime],
        roster: Roster,
        changed: Callable[[NsKey | None], None],
        new_life: Callable[[NsKey], None],
        crashes: Crashes | None = None,
    ) -> None:
        self._crashes = Crashes() if crashes is None else crashes
        self._engines = {runtime.name: _Engine(runtime) for runtime in runtimes}
        self._roster = roster
        self._changed = changed
        self._new_life = new_life
        self._halt = threading.Event()

    def runtimes(self) -> list[Runtime]:
        """Return what is listened to."""
        return [engine.runtime for engine in self._engines.values()]

    @property
    def in_sync(self) -> bool:
        """Every engine has given a complete list, so that what none of them runs does not run."""
        return all(engine.listed for engine in self._engines.values())

    def states(self) -> dict[str, str]:
        """Return each engine's state in words: connected is one that answers and that rings."""
        return {
            name: engine.deaf or engine.unanswered or "connected"
            for name, engine in self._engines.items()
        }

    def start(self) -> list[Coroutine[Any, Any, None]]:
        """Begin to listen; return the work that the event loop has to do for it."""
        self._loop = asyncio.get_running_loop()
        self._processes: ProcessWatch[tuple[str, str]] = ProcessWatch(self._exited)
        for name, engine in self._engines.items():
            threading.Thread(
                target=self._watch, args=(engine,), name=f"watch-{name}", daemon=True
            ).start()
        return [self._follow(engine) for engine in self._engines.values()]

    def listen_anew(self) -> None:
        """The thread that waits for exits is gone: begin again, and ask for what it missed."""
        self._processes.close()
        self._processes = ProcessWatch(self._exited)
        for engine in self._engines.values():
            engine.relist = True
            engine.wake.set()

    def close(self) -> None:
        """Stop listening."""
        self._halt.set()
        self._processes.close()
        for engine in self._engines.values():
            engine.runtime.close()

    def _watch(self, engine: _Engine) -> None:
        """Listen to one engine, in a thread of its own, however often listening crashes."""
        name = engine.runtime.name

        def ring(bell: Doorbell) -> None:
            self._from_thread(name, bell)

        while not self._halt.is_set():
            with self._crashes.confined(_events_of(name)) as crash:
                engine.runtime.watch(ring, self._halt)
            if crash:
                self._from_thread(name, Lost(f"Relink failed: {crash.reason}"))
                self._halt.wait(crash.delay)

    def _from_thread(self, name: str, bell: Doorbell) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._rang, self._engines[name], bell)

    def _exited(self, token: tuple[str, str], _descriptor: int) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._life_ended, token)

    def _life_ended(self, token: tuple[str, str]) -> None:
        """Take it from the kernel at once: an engine may be slow to say so, or be gone itself."""
        name, container_id = token
        ns = self._roster.find(name, container_id)
        if ns is not None:
            self._new_life(ns)
        self._rang(self._engines[name], Changed(container_id))

    def _rang(self, engine: _Engine, bell: Doorbell) -> None:
        match bell:
            case Connected():
                engine.relist, engine.deaf = True, ""
                log.info("engine_connected", engine=engine.runtime.name)
                self._crashes.ends_if_quiet(_events_of(engine.runtime.name), self._loop)
            case Changed(container):
                engine.changed.add(container)
            case Lost(reason):
                engine.deaf = reason
                log.warning("engine_lost", engine=engine.runtime.name, reason=reason)
        engine.wake.set()

    async def _follow(self, engine: _Engine) -> None:
        """Turn an engine's bells into containers, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):  # one that hangs looks like one that is quiet
                # Python 3.11's wait_for() may lose the word to end, if both come at once.
                async with asyncio.timeout(_QUIET):
                    await engine.wake.wait()
            engine.wake.clear()
            with self._crashes.confined(f"engine {engine.runtime.name}") as crash:
                await self._turn(engine)
            if crash:
                engine.relist = True  # what it was about to learn is not known
                await asyncio.sleep(crash.delay)
                engine.wake.set()

    async def _turn(self, engine: _Engine) -> None:
        """List when an engine has connected, else find what has changed, or see if it answers."""
        relist, engine.relist = engine.relist, False
        ids, engine.changed = sorted(engine.changed), set()
        try:
            if relist:  # answers every bell before it too
                self._listed(engine, await self._asked(engine, engine.runtime.list))
                return
            if not ids and not engine.deaf:
                await self._asked(engine, engine.runtime.ping)
            found = await self._found_all(engine, ids)
            for each, container in zip(ids, found, strict=True):
                self._found(engine, each, container)
        except EngineUnavailableError as error:
            # What is known stays known: an engine that cannot be reached runs what it ran.
            engine.relist = True
            if str(error) != engine.unanswered:
                log.warning("engine_unavailable", engine=engine.runtime.name, reason=str(error))
            engine.unanswered = str(error)
            if engine.again:
                engine.again.cancel()
            engine.again = self._loop.call_later(_AGAIN, engine.wake.set)

    async def _found_all(self, engine: _Engine, ids: Iterable[str]) -> list[Container | None]:
        """Ask about some containers, about no more of them once there is no answer about one."""
        find = engine.runtime.find
        asked = [self._loop.create_task(self._asked(engine, find, each)) for each in ids]
        try:
            return await asyncio.gather(*asked)
        finally:
            for each in asked:
                each.cancel()

    async def _asked(self, engine: _Engine, question: Callable[..., Answer], *about: str) -> Answer:
        """Return an engine's answer, or raise what it raises.

        A thread of asyncio's own would be waited for at the end of the process: as long as an
        engine hangs, after everything is done.
        """
        answer: asyncio.Future[Answer] = self._loop.create_future()

        def settle(settled: Callable[[], None]) -> None:
            if not answer.done():  # nobody waits for it any more
                settled()

        def ask() -> None:
            try:
                found = question(*about)
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                settled = partial(answer.set_exception, error)
            else:
                settled = partial(answer.set_result, found)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(settle, settled)
            del settled  # an error tells of this frame, which would keep it

        async with engine.few:
            try:
                threading.Thread(target=ask, name="ask", daemon=True).start()
            except RuntimeError as error:  # what Python makes of EAGAIN (3.11)
                raise EngineUnavailableError(f"{engine.runtime.name}: {error}") from error
            return await answer

    def _listed(self, engine: _Engine, containers: list[Container]) -> None:
        name = engine.runtime.name
        for ns in self._roster.replace(name, containers):
            self._new_life(ns)
        engine.listed, engine.unanswered = True, ""
        for ns, container in self._roster.containers.items():
            if container.runtime == name and self._roster.wirings[ns].parts:
                self._watch_process(engine, container)
        log.info("containers_listed", engine=name, running=len(containers))
        self._changed(None)

    def _found(self, engine: _Engine, container_id: str, container: Container | None) -> None:
        name = engine.runtime.name
        old = self._roster.find(name, container_id)
        if container is None:
            self._processes.remove((name, container_id))
            ns = self._roster.remove(name, container_id)
        else:
            ns = self._roster.put(container)
        touched = {each for each in (old, ns) if each is not None}  # two, if it was renamed
        for each in touched:
            self._new_life(each)
        if ns is None:
            return
        if container is not None:
            self._watch_process(engine, container)
        for each in touched:
            self._changed(each)

    def _watch_process(self, engine: _Engine, container: Container) -> None:
        token = (engine.runtime.name, container.id)
        try:
            watched = not container.pid or self._processes.add(container.pid, token)
        except OSError as error:  # no more descriptors; the engine will tell of its end
            reason = error.strerror
            log.warning("process_not_watched", container=container.name, reason=reason)
            return
        if not watched:
            engine.changed.add(container.id)  # dead already, and the engine does not know it yet
            self._loop.call_later(_SOON, engine.wake.set)


def _events_of(name: str) -> str:
    return f"events of engine {name}"
