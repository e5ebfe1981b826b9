"""SIGKILL at every message of every example's converge, then a restart: the same final state.

A child makes the passes and kills itself before its message k; nothing is ever sent but by one
message at a time. What is said to Open vSwitch, one transaction for all its steps, counts as a
message, and so does the start of each of its daemons. `make test` takes some k of each example,
RELINK_FAULTS=long takes all.
"""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Any

import pytest

from actuators.ovs_daemons import Place
from actuators.requests import Request, Verdict
from actuators.transport import Answer, send
from model.facts import Facts
from model.keys import SELF, Key, NsKey
from model.resources import Link, Resource
from observers.plain import Plain
from reconciler.apply import Hands
from reconciler.containers import Roster
from reconciler.diff import Change
from reconciler.passes import Pass, World, run
from reconciler.sources import load
from reconciler.switches import Refused, Switches
from tests.kernel.lab import CLONE_NEWNET, Lab, sh, unshare
from tests.kernel.test_crash import world_of
from tests.lab.ovs import Tools, load_tun
from tests.reconciler.test_example_plans import EXAMPLES, ROOT

LONG = os.environ.get("RELINK_FAULTS") == "long"
AGAIN = {Verdict.VANISHED, Verdict.RETRY}
SAMPLE = 4  # kills of each example in the short form
NEEDS = {
    "test5": [pytest.mark.needs("geneve")],
    "test7": [pytest.mark.needs("netem")],
    "test8": [pytest.mark.qemu],  # VLANs, NAT, and a host's namespace that may be written to
}
MODES = {"test9": ("linux", "patch", "ovs")}


def _examples() -> list[Any]:
    return [
        pytest.param(name, mode, marks=NEEDS.get(name, ()),
                     id=f"{name}-{mode}" if name in MODES else name)
        for name in EXAMPLES
        for mode in MODES.get(name, ("linux",))
    ]  # fmt: skip


class Counted(Switches):
    """Open vSwitch, which counts what is said to it before it is."""

    def __init__(self, counted: Callable[[], None]) -> None:
        super().__init__(started=lambda _daemon: counted())
        self._counted = counted

    def write(self, steps: Sequence[Change], instance: str) -> list[Refused]:
        self._counted()
        return super().write(steps, instance)


@dataclass(slots=True)
class Example:
    """One example whose containers are namespaces, as often as wanted from the beginning."""

    lab: Lab
    name: str
    mode: str

    @property
    def names(self) -> list[str]:
        containers = EXAMPLES[self.name][1]
        return [f"{c.service}_{c.number}" if c.service else c.name for c in containers]

    def afresh(self) -> None:
        """Have all namespaces anew, the data plane's too."""
        self.lab.remove(*(name for name in self.names if name in self.lab.names))
        if self.mode == "ovs":
            Tools(Place()).end()
        unshare(CLONE_NEWNET)
        sh("ip", "link", "set", "lo", "up")
        self.lab.add(*self.names)

    def world(self) -> World:
        sources = EXAMPLES[self.name][0]
        environment = {**sources.environment, "BRIDGE_MODE": self.mode}
        facts = Facts(instance=self.name, plane=SELF)
        roster = Roster(load(replace(sources, environment=environment)).config, facts)
        roster.replace("netns", Plain().list())
        return roster.world()

    def converge(self, dies_before: int | None = None) -> tuple[int, Pass]:
        """Make passes until one finds nothing to do; return how many messages they took."""
        sent = count()

        def counted() -> None:
            if next(sent) == dies_before:
                os.kill(os.getpid(), signal.SIGKILL)

        def one_by_one(
            requests: Sequence[Request], sockets: Mapping[NsKey, socket.socket]
        ) -> list[Answer]:
            answers: list[Answer] = []
            for request in requests:
                counted()
                answers += send([request], sockets)
            return answers

        world = self.world()
        with closing(Counted(counted)) as switches:
            hands = Hands(send=one_by_one, switches=switches)
            for _ in range(8):
                done = run(world, decide=lambda plan, _d: plan, hands=hands)
                assert done.outcome is not None
                # What was half done may be in the way once: it says that one should look again.
                assert {failure.verdict for failure in done.outcome.failures} <= AGAIN
                if not done.plan.steps:
                    return next(sent), done
        raise AssertionError(f"{self.name} is never done: {done.plan.steps}")

    def dies(self, before: int) -> bool:
        """Converge in a process that kills itself before a message; was there such a one?

        Where a program has no time, it is started twice, and once the next time.
        """
        child = os.fork()
        if child == 0:
            try:
                self.converge(before)
                os._exit(0)
            except BaseException:  # noqa: BLE001 - nobody else can tell of it
                traceback.print_exc()
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL), f"it failed before message {before}: {status}"
        return status == signal.SIGKILL

    def state(self, done: Pass) -> tuple[object, dict[Key, Resource]]:
        """What ip(8) tells, and what a look finds of all else: filters, tables, rules, settings."""
        found = done.snapshot.resources
        return world_of(self.lab, self.names), {k: _lasting(found[k]) for k in sorted(found)}


def _lasting(resource: Resource) -> Resource:
    """Return a resource without what is random, the hardware address of an outer end."""
    if isinstance(resource, Link) and resource.key.ns == SELF:
        return replace(resource, mac=None)
    return resource


@pytest.fixture
def parent(name: str) -> Iterator[None]:
    """The interface of the host that test8 names."""
    if name != "test8":
        yield
        return
    ip = ("nsenter", "--net=/proc/1/ns/net", "ip", "link")
    sh(*ip, "add", "enp6s0", "type", "veth", "peer", "name", "wire0")
    sh(*ip, "set", "enp6s0", "up")
    yield
    sh(*ip, "delete", "enp6s0")


@pytest.fixture
def daemons(mode: str) -> Iterator[None]:
    """Leave no Open vSwitch behind: it outlives who started it."""
    if mode == "ovs":
        load_tun()
    yield
    if mode == "ovs":
        Tools(Place()).end()


@pytest.mark.usefixtures("parent", "daemons")
@pytest.mark.parametrize(("name", "mode"), _examples())
def test_sigkill_at_every_message_of_an_example(
    lab: Lab,
    name: str,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    measured: Callable[[str], None],
) -> None:
    monkeypatch.chdir(ROOT)
    example = Example(lab, name, mode)
    example.afresh()
    started = time.monotonic()
    messages, done = example.converge()
    assert done.plan.obstacles == ()
    expected = example.state(done)
    kills = range(messages)
    chosen = list(kills) if LONG else sorted(Random(name).sample(kills, SAMPLE))
    killed = 0
    for before in chosen:
        example.afresh()
        killed += example.dies(before)
        _, done = example.converge()
        assert example.state(done) == expected, f"killed before message {before} of {messages}"
        assert done.plan.obstacles == ()
    assert killed >= len(chosen) - 2
    took = time.monotonic() - started
    steps = f"{len(expected[1])} resources, {messages} messages"
    measured(f"{steps}, {killed} kills, 0 differences, {took:.1f} s")
