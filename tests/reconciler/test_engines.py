"""What the kernel says of a container's process counts, whatever its engine says or cannot say."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from model.facts import Facts
from model.keys import SELF, NsKey
from model.replicas import Container
from observers.runtimes import Changed, Connected, Doorbell, EngineUnavailableError, Lost
from reconciler.containers import Roster
from reconciler.engines import Engines
from reconciler.sources import Sources, load


class Silent:
    """An engine that lists one container, and never answers again."""

    name = "silent"

    def __init__(self, container: Container) -> None:
        self._container = container

    def watch(self, ring: Callable[[Doorbell], None], halt: threading.Event) -> None:
        ring(Connected())
        halt.wait()

    def list(self) -> list[Container]:
        return [self._container]

    def find(self, container_id: str) -> Container | None:
        raise EngineUnavailableError(f"no answer about {container_id}")

    def ping(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_the_life_of_a_container_ends_with_its_process(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    file.write_text("links: [{container: node, bridge: s1, ip: 10.0.0.1/24}]\n")
    config = load(Sources((str(file),), (), {})).config
    roster = Roster(config, Facts(instance="lab", plane=SELF))

    async def story(process: subprocess.Popen[bytes]) -> NsKey:
        over: asyncio.Queue[NsKey] = asyncio.Queue()
        listed = asyncio.Event()
        container = Container(id="1", name="node", runtime="silent", netns="", pid=process.pid)
        engines = Engines([Silent(container)], roster, lambda _ns: listed.set(), over.put_nowait)
        work = [asyncio.create_task(each) for each in engines.start()]
        try:
            await asyncio.wait_for(listed.wait(), 10)
            while not over.empty():  # a life that began
                over.get_nowait()
            process.kill()
            return await asyncio.wait_for(over.get(), 10)
        finally:
            engines.close()
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            ns = asyncio.run(story(process))
        finally:
            process.kill()
    assert ns in roster.containers, "the engine has not said that it stopped"


class Away:
    """An engine that never answers, though it says now and then that a container changed."""

    name = "away"

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.ring: Callable[[Doorbell], None] = lambda _bell: None
        self.watched = threading.Event()

    def watch(self, ring: Callable[[Doorbell], None], halt: threading.Event) -> None:
        self.ring = ring
        self.watched.set()
        halt.wait()

    def list(self) -> list[Container]:
        self.asked.release()
        raise EngineUnavailableError("it is away")

    def find(self, id: str) -> Container | None:  # noqa: A002 (as in Runtime)
        raise AssertionError(f"{id} is asked for before there is a list")

    def ping(self) -> None:
        raise AssertionError("it is asked before there is a list")

    def close(self) -> None:
        pass


def test_an_engine_that_is_away_is_asked_as_seldom_whatever_happens_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each end of a container's process is a reason to ask at once, and none to ask more often."""
    monkeypatch.setattr("reconciler.engines._AGAIN", 0.1)
    config = load(Sources((), (), {})).config
    away = Away()

    async def asked(times: int) -> float:
        began = time.monotonic()
        for _ in range(times):
            assert await asyncio.to_thread(away.asked.acquire, timeout=10)
        return time.monotonic() - began

    async def story() -> tuple[float, float]:
        roster = Roster(config, Facts(instance="lab", plane=SELF))
        engines = Engines([away], roster, lambda _ns: None, lambda _ns: None)
        work = [asyncio.create_task(each) for each in engines.start()]
        try:
            assert await asyncio.to_thread(away.watched.wait, 10)
            away.ring(Connected())
            await asked(1)
            before = await asked(5)
            for number in range(20):
                away.ring(Changed(str(number)))
                await asked(1)
            return before, await asked(5)
        finally:
            engines.close()
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    with capture_logs() as logged:
        before, after = asyncio.run(story())
    assert after > before / 4, f"asked five times in {before:.2f} s, then in {after:.2f} s"
    said = [entry["reason"] for entry in logged if entry["event"] == "engine_unavailable"]
    assert said == ["it is away"], "once, not each time"


class Deaf:
    """An engine that answers, and whose events are not to be had any more."""

    name = "deaf"

    def __init__(self) -> None:
        self.lost = threading.Event()

    def watch(self, ring: Callable[[Doorbell], None], halt: threading.Event) -> None:
        ring(Connected())
        ring(Lost("no events"))
        self.lost.set()
        halt.wait()

    def list(self) -> list[Container]:
        self.lost.wait(10)
        return []

    def find(self, id: str) -> Container | None:  # noqa: A002 (as in Runtime)
        raise AssertionError(f"{id} is asked for")

    def ping(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_an_engine_that_answers_and_does_not_ring_is_not_called_connected() -> None:
    """What starts there is not heard of, whatever its lists say."""
    config = load(Sources((), (), {})).config

    async def story() -> dict[str, str]:
        listed = asyncio.Event()
        roster = Roster(config, Facts(instance="lab", plane=SELF))
        engines = Engines([Deaf()], roster, lambda _ns: listed.set(), lambda _ns: None)
        work = [asyncio.create_task(each) for each in engines.start()]
        try:
            await asyncio.wait_for(listed.wait(), 10)
            return engines.states()
        finally:
            engines.close()
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    assert asyncio.run(story()) == {"deaf": "no events"}


class Hanging(Deaf):
    """An engine that listed its containers, and neither rings nor answers any more; and then does.

    Each answer is awaited: None is one, anything else the reason why there is none.
    """

    name = "hanging"

    def __init__(self) -> None:
        super().__init__()
        self.answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def watch(self, ring: Callable[[Doorbell], None], halt: threading.Event) -> None:
        ring(Connected())
        halt.wait()

    def list(self) -> list[Container]:
        self.ping()
        return []

    def ping(self) -> None:
        if reason := self.answers.get(timeout=10):
            raise EngineUnavailableError(reason)


def test_an_engine_that_hangs_while_nothing_happens_is_not_called_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reconciler.engines._QUIET", 0.01)
    monkeypatch.setattr("reconciler.engines._AGAIN", 0.01)
    config = load(Sources((), (), {})).config
    hanging = Hanging()

    async def said(engines: Engines, state: str) -> None:
        async with asyncio.timeout(10):
            while engines.states() != {"hanging": state}:  # noqa: ASYNC110 - which rings nothing
                await asyncio.sleep(0.001)

    async def story() -> None:
        listed: asyncio.Queue[NsKey | None] = asyncio.Queue()
        roster = Roster(config, Facts(instance="lab", plane=SELF))
        engines = Engines([hanging], roster, listed.put_nowait, lambda _ns: None)
        work = [asyncio.create_task(each) for each in engines.start()]
        try:
            hanging.answers.put(None)
            await asyncio.wait_for(listed.get(), 10)
            hanging.answers.put(None)  # it is asked again, and answers
            await said(engines, "connected")
            hanging.answers.put("no answer")
            await said(engines, "no answer")
            hanging.answers.put(None)  # what was missed meanwhile is listed
            await asyncio.wait_for(listed.get(), 10)
            await said(engines, "connected")
        finally:
            engines.close()
            for task in work:
                task.cancel()
            hanging.answers.put(None)
            await asyncio.gather(*work, return_exceptions=True)

    asyncio.run(story())


class Hung:
    """An engine that lists nothing, and then answers nothing until it is let go."""

    name = "hung"

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()

    def watch(self, ring: Callable[[Doorbell], None], halt: threading.Event) -> None:
        ring(Connected())
        halt.wait()

    def list(self) -> list[Container]:
        return []

    def find(self, id: str) -> Container | None:  # noqa: A002 (as in Runtime)
        raise AssertionError(f"{id} is asked for")

    def ping(self) -> None:
        self.asked.set()
        assert self.go_on.wait(20), "nobody waits for it, nor lets it go"

    def close(self) -> None:
        pass


def test_the_end_does_not_wait_for_an_engine_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.engines._QUIET", 0.05)
    roster = Roster(load(Sources((), (), {})).config, Facts(instance="lab", plane=SELF))
    hung = Hung()

    async def story() -> None:
        engines = Engines([hung], roster, lambda _ns: None, lambda _ns: None)
        work = [asyncio.create_task(each) for each in engines.start()]
        assert await asyncio.to_thread(hung.asked.wait, 10)
        engines.close()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    began = time.monotonic()
    asyncio.run(story())
    took = time.monotonic() - began
    hung.go_on.set()
    assert took < 10, "it hangs for twice as long"


class Slow(Hung):
    """Tells of many containers, and answers about none; or of one, and answers at once."""

    def __init__(self, name: str, ids: Iterable[str], *, hangs: bool) -> None:
        super().__init__()
        self.name, self._ids, self._hangs = name, ids, hangs

    def watch(self, ring: Callable[[Doorbell], None], halt: threading.Event) -> None:
        ring(Connected())
        self.asked.wait(10)  # the list is there
        for each in self._ids:
            ring(Changed(each))
        halt.wait()

    def list(self) -> list[Container]:
        self.asked.set()
        return []

    def find(self, id: str) -> Container | None:  # noqa: A002 (as in Runtime)
        if self._hangs:
            self.go_on.wait(10)
            raise EngineUnavailableError(f"no answer about {id}")
        self.go_on.set()
        return None


def test_an_engine_that_hangs_keeps_no_other_waiting() -> None:
    roster = Roster(load(Sources((), (), {})).config, Facts(instance="lab", plane=SELF))
    hung = Slow("hung", [str(n) for n in range(100)], hangs=True)
    sound = Slow("sound", ["1"], hangs=False)

    async def story() -> float:
        engines = Engines([hung, sound], roster, lambda _ns: None, lambda _ns: None)
        began = time.monotonic()
        work = [asyncio.create_task(each) for each in engines.start()]
        assert await asyncio.to_thread(sound.go_on.wait, 20)
        took = time.monotonic() - began
        hung.go_on.set()
        engines.close()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        return took

    assert asyncio.run(story()) < 10, "as long as one question to the other takes"
