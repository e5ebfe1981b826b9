"""What the kernel says of a container's process counts, whatever its engine says or cannot say."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from model.facts import Facts
from model.keys import SELF, NsKey
from model.replicas import Container
from observers.runtimes import Connected, Doorbell, EngineUnavailableError
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
