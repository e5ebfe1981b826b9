"""What netem does, measured over a real veth pair: delay, rate and loss are as they were asked for.

At most 6 000 small frames are sent, from one end of the pair to the other. Times of arrival are
the kernel's own, so that a slow machine delays nothing that is measured.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean

import pytest

from actuators import qdiscs
from actuators.requests import Verdict
from actuators.transport import send
from model import netem
from model.keys import SELF, Key, NsKey, link_key
from model.resources import Qdisc
from observers.netlink import open_socket
from tests.kernel.lab import Lab

pytestmark = pytest.mark.needs("netem")
TYPE = 0x88B5  # IEEE 802, for local experiments
HEADER = bytes.fromhex("ffffffffffff020000000001") + TYPE.to_bytes(2, "big")
SO_TIMESTAMPNS, SO_RCVBUFFORCE = 35, 33  # asm-generic/socket.h
NUMBER = struct.Struct("=IQ")  # of the frame, and when it was sent


@dataclass
class Wire:
    """A veth pair with a netem on the end that sends; implements Numbers."""

    tx: socket.socket
    rx: socket.socket

    def index(self, link: Key) -> int:
        return socket.if_nametoindex(link.dev)

    def free_index(self, link: Key) -> int:
        raise NotImplementedError(link)

    def namespace(self, ns: NsKey) -> int:
        raise NotImplementedError(ns)

    def impair(self, text: str) -> None:
        key = Key(SELF, "qdisc", link_key(SELF, "near").dev, "root")
        with open_socket() as sock:
            requests = qdiscs.create(Qdisc(key=key, netem=netem.parse(text)), self)
            answers = send(requests, {SELF: sock})
        assert [a.verdict for a in answers] == [Verdict.DONE]

    def send(self, number: int, size: int) -> None:
        frame = HEADER + NUMBER.pack(number, time.time_ns())
        self.tx.send(frame + bytes(size - len(frame)))

    def arrived(self, count: int, patience: float) -> list[tuple[int, int, int]]:
        """Return (number, sent, received) of up to `count` frames; times in nanoseconds."""
        found: list[tuple[int, int, int]] = []
        self.rx.settimeout(patience)
        while len(found) < count:
            try:
                data, control, _flags, _from = self.rx.recvmsg(2048, 128)
            except TimeoutError:
                break
            number, sent = NUMBER.unpack_from(data, len(HEADER))
            seconds, rest = struct.unpack("=qq", control[0][2])
            found.append((number, sent, seconds * 10**9 + rest))
        return found


@pytest.fixture
def wire(lab: Lab) -> Iterator[Wire]:
    lab.ip("", "link", "add", "name", "near", "type", "veth", "peer", "name", "far")
    for dev in ("near", "far"):
        lab.ip("", "link", "set", "dev", dev, "addrgenmode", "none", check=False)
        lab.ip("", "link", "set", "dev", dev, "up")
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as tx,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(TYPE)) as rx,
    ):
        rx.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        rx.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        rx.bind(("far", TYPE))
        tx.bind(("near", 0))
        yield Wire(tx, rx)


@pytest.mark.proves("netem delay")
def test_a_delay_is_within_5_percent(wire: Wire, measured: Callable[[str], None]) -> None:
    wire.impair("delay 100ms")
    taken = []
    for number in range(20):
        wire.send(number, 60)
        ((_number, sent, received),) = wire.arrived(1, 5)
        taken.append((received - sent) / 1e6)
    measured(f"delay of 100 ms: {fmean(taken):.2f} ms, {min(taken):.2f} to {max(taken):.2f}")
    assert fmean(taken) == pytest.approx(100, rel=0.05)


@pytest.mark.proves("netem rate")
def test_a_rate_is_within_5_percent(wire: Wire, measured: Callable[[str], None]) -> None:
    wire.impair("rate 1mbit")
    for number in range(200):
        wire.send(number, 1000)
    found = wire.arrived(200, 5)
    assert [number for number, _sent, _received in found] == list(range(200))
    rate = 199 * 1000 * 8 / ((found[-1][2] - found[0][2]) / 1e9)
    measured(f"rate of 1 Mbit/s: {rate / 1e6:.4f} Mbit/s")
    assert rate == pytest.approx(1e6, rel=0.05)


@pytest.mark.proves("netem loss random")
def test_a_loss_is_within_its_99_percent_interval(
    wire: Wire, measured: Callable[[str], None]
) -> None:
    """One honest measurement in a hundred is outside: only two in a row are a finding."""
    wire.impair("loss 10%")
    count, share = 3000, 0.1
    most = 2.576 * (count * share * (1 - share)) ** 0.5  # the normal distribution's 99.5% point
    off = most + 1
    for _ in range(2):
        for number in range(count):
            wire.send(number, 60)
        lost = count - len(wire.arrived(count, 1))
        off = abs(lost - count * share)
        measured(f"loss of 10%: {lost} of {count}, {lost / count:.2%} (300 ± {most:.0f})")
        if off <= most:
            break
    assert off <= most
