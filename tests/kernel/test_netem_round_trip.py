"""netem on a kernel that has it: tc, the model and the kernel say the same of every string."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

import pytest

from actuators import qdiscs
from actuators.requests import Request, Verdict
from actuators.transport import Answer, send
from model import netem
from model import netlink as nl
from model.keys import SELF, Key, NsKey
from model.netem import DISTRIBUTIONS, Netem, Slot
from model.netem_wire import handle_of
from model.resources import Qdisc
from observers import tc
from observers.netlink import open_socket
from tests.kernel.lab import Lab, sh
from tests.kernel.netem_strings import TABLES, options

pytestmark = pytest.mark.needs("netem")
STRINGS = 2100
ROUND = 100  # strings at a time, each on interfaces of its own


class Found(NamedTuple):
    """One root qdisc: as Relink reads it, and the bytes that the kernel told."""

    qdisc: Qdisc
    raw: bytes


class Bench:
    """A namespace with many interfaces, and a socket in it; implements Numbers."""

    def __init__(self, interfaces: int) -> None:
        words = "".join(f"link add name d{n} type dummy\n" for n in range(interfaces))
        subprocess.run(["ip", "-batch", "-"], input=words, text=True, check=True)
        self.names = dict(socket.if_nameindex())
        self.indexes = {name: index for index, name in self.names.items()}
        self.sock = open_socket()

    def index(self, link: Key) -> int:
        return self.indexes[link.dev]

    def free_index(self, link: Key) -> int:
        raise NotImplementedError(link)

    def namespace(self, ns: NsKey) -> int:
        raise NotImplementedError(ns)

    def read(self) -> dict[str, Found]:
        raw = {
            self.names[index]: data
            for index, _handle, parent, _kind, data in tc._qdiscs(self.sock)
            if parent == nl.TC_H_ROOT and index in self.names
        }
        found = tc.read_qdiscs(SELF, self.sock, self.names)
        return {q.key.dev: Found(q, raw[q.key.dev]) for q in found}

    def send(self, requests: list[Request]) -> list[Answer]:
        return send(requests, {SELF: self.sock})

    def do(self, requests: list[Request]) -> None:
        wrong = [a for a in self.send(requests) if a.verdict != Verdict.DONE]
        assert not wrong, str(wrong[0])


@pytest.fixture
def bench(lab: Lab) -> Iterator[Bench]:
    del lab
    made = Bench(2)
    yield made
    made.sock.close()


@pytest.fixture
def wide(lab: Lab) -> Iterator[Bench]:
    del lab
    made = Bench(3 * ROUND)
    yield made
    made.sock.close()


def root(dev: str, value: Netem) -> Qdisc:
    return Qdisc(key=Key(SELF, "qdisc", dev, "root"), netem=value)


def strings(seed: int, count: int = STRINGS) -> list[str]:
    chance = Random(seed)
    return [options(chance) for _ in range(count)]


def batch(lines: list[str]) -> None:
    """Have tc do all of it; a line that it refuses fails the test with tc's words."""
    done = subprocess.run(
        ["tc", "-force", "-batch", "-"],
        input="\n".join(lines) + "\n", text=True, capture_output=True, check=False,
    )  # fmt: skip
    refused = [lines[int(n) - 1] for n in re.findall(r"Command failed -:(\d+)", done.stderr)]
    assert not refused, f"{len(refused)} refused: {refused[:5]}\n{done.stderr[:2000]}"


def line(dev: str, text: str, value: Netem) -> str:
    """tc's line; the handle is ours, which is what tells the distributions."""
    return f"qdisc add dev {dev} root handle {handle_of(value) >> 16:x}: netem {text}"


# What the strings prove, and which of them have it.
PROVES: dict[str, Callable[[Netem], object]] = {
    "limit": lambda n: n.limit != Netem().limit,
    "delay": lambda n: n.delay,
    "jitter": lambda n: n.jitter,
    "correlation": lambda n: n.delay_correlation and n.reorder_correlation,
    **{f"distribution {name}": lambda n, name=name: n.distribution == name for name in TABLES},
    "loss random": lambda n: isinstance(n.loss, netem.RandomLoss),
    "loss state": lambda n: isinstance(n.loss, netem.StateLoss),
    "loss gemodel": lambda n: isinstance(n.loss, netem.GilbertElliottLoss),
    "ecn": lambda n: n.ecn,
    "corrupt": lambda n: n.corrupt,
    "duplicate": lambda n: n.duplicate,
    "reorder": lambda n: n.reorder,
    "gap": lambda n: n.gap > 1,
    "rate": lambda n: n.rate,
    "rate overhead": lambda n: n.packet_overhead,
    "rate cells": lambda n: n.cell_size and n.cell_overhead,
    "slot": lambda n: n.slot and n.slot.min_delay,
    "slot distribution": lambda n: n.slot and n.slot.distribution,
}


@pytest.mark.proves(*(f"netem {option}" for option in PROVES))
def test_tc_and_relink_agree_on_every_string(wide: Bench, measured: Callable[[str], None]) -> None:
    """tc sets and Relink reads; Relink sets and reads; tc sets what Relink writes: all equal."""
    texts = strings(158)
    values = [netem.parse(text) for text in texts]
    assert [name for name, has in PROVES.items() if sum(map(bool, map(has, values))) < 20] == []
    wrong: list[str] = []
    for start in range(0, len(texts), ROUND):
        some = [(text, netem.parse(text)) for text in texts[start : start + ROUND]]
        lines = [f"qdisc del dev d{n} root" for n in range(3 * ROUND) if start]
        for n, (text, value) in enumerate(some):
            lines.append(line(f"d{3 * n}", text, value))
            lines.append(line(f"d{3 * n + 1}", netem.format(value), value))
        batch(lines)
        for n, (_text, value) in enumerate(some):
            wide.do(qdiscs.create(root(f"d{3 * n + 2}", value), wide))
        found = wide.read()
        for n, (text, value) in enumerate(some):
            theirs, again, ours = (found[f"d{3 * n + k}"] for k in range(3))
            if not theirs.qdisc.netem == value == ours.qdisc.netem:
                wrong.append(f"{text}\n  tc   {theirs.qdisc.netem}\n  want {value}"
                             f"\n  ours {ours.qdisc.netem}")  # fmt: skip
            if again.raw != ours.raw:
                wrong.append(f"{text}: not the same bytes as {netem.format(value)}")
    measured(f"{len(texts)} strings, {len(set(texts))} different, {len(wrong)} wrong")
    assert not wrong, f"{len(wrong)} wrong\n" + "\n".join(wrong[:10])


def test_every_change_is_made_in_place_and_leaves_nothing_of_before(
    bench: Bench, measured: Callable[[str], None]
) -> None:
    """One qdisc after another on one interface: what the last one had is not in the next."""
    before = Netem()
    bench.do(qdiscs.create(root("d0", before), bench))
    values = [netem.parse(text) for text in strings(159)]
    same_tables = 0
    for value in values:
        bench.do(qdiscs.modify(root("d0", before), root("d0", value), bench))
        assert bench.read()["d0"].qdisc == root("d0", value)
        same_tables += handle_of(before) == handle_of(value)
        before = value
    measured(f"{len(values)} changes, {same_tables} of them in place")


@pytest.mark.parametrize("delay", DISTRIBUTIONS)
@pytest.mark.parametrize("slot", [*DISTRIBUTIONS, ""])
def test_the_handle_tells_the_distributions(bench: Bench, delay: str, slot: str) -> None:
    value = Netem(
        delay=10**7, jitter=10**6, distribution=delay,
        slot=Slot(distribution=slot, delay=10**6, jitter=10**5) if slot else None,
    )  # fmt: skip
    bench.do(qdiscs.create(root("d0", value), bench))
    (found,) = bench.read().values()
    assert found.qdisc == root("d0", value)
    assert found.qdisc.owned


def test_delete_gives_the_kernel_s_own_back_and_may_come_twice(bench: Bench) -> None:
    ours = root("d0", Netem(delay=1000))
    bench.do(qdiscs.create(ours, bench))
    for _ in range(2):
        bench.do(qdiscs.delete(ours, bench))
    assert bench.read() == {}


def test_a_root_of_somebody_else_is_never_ours_nor_touched(bench: Bench) -> None:
    sh("tc", "qdisc", "add", "dev", "d0", "root", "handle", "1:", "netem", "delay", "5ms")
    sh("tc", "qdisc", "add", "dev", "d1", "root", "handle", "5e10:", "tbf", "rate", "1mbit",
       "burst", "5kb", "latency", "50ms")  # fmt: skip
    theirs = bench.read()
    assert [(f.qdisc.kind, f.qdisc.owned, f.qdisc.netem) for f in theirs.values()] == [
        ("netem", False, None), ("tbf", False, None)
    ]  # fmt: skip
    for dev in ("d0", "d1"):
        ours = root(dev, Netem(delay=1000))
        for verb in (qdiscs.create(ours, bench), qdiscs.modify(ours, ours, bench)):
            assert [a.verdict for a in bench.send(verb)] == [Verdict.VANISHED]
        bench.send(qdiscs.delete(ours, bench))
    assert bench.read() == theirs


def test_a_change_of_what_has_gone_makes_nothing(bench: Bench) -> None:
    ours = root("d0", Netem(delay=1000))
    answers = bench.send(qdiscs.modify(ours, root("d0", Netem(delay=2000)), bench))
    assert [a.verdict for a in answers] == [Verdict.VANISHED]
    assert bench.read() == {}


def test_a_seed_is_set_or_said_to_be_unsupported(bench: Bench) -> None:
    ours = root("d0", Netem(loss=netem.RandomLoss(1 << 30), seed=7))
    answers = bench.send(qdiscs.create(ours, bench))
    if bench.read()["d0"].qdisc == ours:  # 6.6 and later
        assert {a.verdict for a in answers} == {Verdict.DONE}
        return
    assert [a.verdict for a in answers] == [Verdict.DONE, Verdict.UNSUPPORTED]
    assert "takes no seed" in str(answers[1])
