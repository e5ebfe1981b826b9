"""A flood of numbered packets from one network namespace into another, and what became of each.

As a program it is the two ends, `flood.py receive` and `flood.py send ADDRESS RATE`, each started
in its namespace; nothing else is in the containers. It imports the standard library alone, so that
an end is there soon.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PORT = 7001
LEAST = 1000  # packets a second
RATE = 1250  # packets a second; more than the least, since the sender may be late
LONG = os.environ.get("RELINK_FAULTS") == "long"
SECONDS = 30.0 if LONG else 2.0  # of a flood
_NUMBER = struct.Struct("!Q")
_PADDING = bytes(56)
_BURST = 32  # packets at once from a sender that is late: what queues of the kernel take easily
_BUFFER = 64 << 20  # bytes: a receiver that is late loses nothing
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_LAST = 1.0  # seconds that the last packets may be under way


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of a flood.

    Attributes:
        sent: packets that the sender numbered, also those that the kernel refused to send.
        received: how many of these numbers arrived.
        reordered: arrivals behind one with a higher number (RFC 4737, section 3).
        duplicated: arrivals of a number that had arrived.
        longest: the most consecutive numbers that are lost.
        seconds: how long was sent.
    """

    sent: int
    received: int
    reordered: int
    duplicated: int
    longest: int
    seconds: float

    @property
    def lost(self) -> int:
        """Return how many numbers never arrived."""
        return self.sent - self.received

    @property
    def rate(self) -> float:
        """Return how many packets a second were sent."""
        return self.sent / self.seconds

    @property
    def outage(self) -> float:
        """Return for how many milliseconds in a row nothing that was sent arrived."""
        return self.longest / self.rate * 1e3

    @property
    def amiss(self) -> dict[str, int]:
        """Return what did not come as it was sent; all zero where a flood was left alone."""
        return {"lost": self.lost, "reordered": self.reordered, "duplicated": self.duplicated}

    def __str__(self) -> str:
        """Return the figures as a line for people."""
        return (
            f"{self.sent} sent, {self.received} received, {self.lost} lost, "
            f"{self.reordered} reordered, {self.duplicated} duplicated, {self.rate:.0f} a second"
        )


UNTOUCHED = {"lost": 0, "reordered": 0, "duplicated": 0}


def tally(sent: int, arrivals: Sequence[int], seconds: float) -> Tally:
    """Count what became of the numbers from 0 to `sent`, of which these arrived, in this order."""
    seen = bytearray(sent)
    reordered = duplicated = 0
    highest = -1
    for number in arrivals:
        duplicated += seen[number]
        reordered += not seen[number] and number < highest
        seen[number] = 1
        highest = max(highest, number)
    gaps = bytes(seen).split(b"\1")
    return Tally(sent, seen.count(1), reordered, duplicated, max(map(len, gaps)), seconds)


@dataclass(slots=True)
class Flood:
    """A flood under way; `tally` is there once it has ended."""

    started: float = field(default_factory=time.monotonic)
    ended: Tally | None = None

    @property
    def seconds(self) -> float:
        """Return for how long it has been going."""
        return time.monotonic() - self.started

    @property
    def tally(self) -> Tally:
        """Return what became of it."""
        assert self.ended, "it has not ended"
        return self.ended


@contextlib.contextmanager
def flood(source: str, target: str, address: str, rate: int = RATE) -> Iterator[Flood]:
    """Send numbered packets while the body runs.

    Args:
        source: path of the network namespace that sends.
        target: path of the one that receives.
        address: where to; an address of `target`.
        rate: packets a second.

    Raises:
        AssertionError: this machine could not send that many.
    """
    with _end(target, "receive") as receiver:
        assert receiver.stdout
        receiver.stdout.readline()  # it listens
        with _end(source, "send", address, str(rate)) as sender:
            assert sender.stdout
            sender.stdout.readline()  # it sends, and will end when it is told to
            made = Flood()
            yield made
            sender.terminate()
            sent, seconds = sender.communicate(timeout=30)[0].split()
        words, _ = receiver.communicate(sent, timeout=60)
    made.ended = tally(int(sent), array("Q", words), float(seconds))
    assert made.ended.rate >= LEAST, f"too few packets to tell: {made.ended}"


def disturbed(packets: Flood, disturb: Callable[[], object], seconds: float = SECONDS) -> int:
    """Do something again and again while packets flow; return how often.

    Args:
        packets: the flood.
        disturb: what is done; it returns when that is over.
        seconds: the least length of the flood.
    """
    times = 0
    while not times or packets.seconds < seconds:
        disturb()
        times += 1
    return times


@contextlib.contextmanager
def _end(namespace: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    command = ["nsenter", f"--net={namespace}", sys.executable, "-I", str(Path(__file__)), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _send(address: str, rate: int) -> None:
    """Send until SIGTERM; then print how many were sent, and in how many seconds."""
    # On one processor: the kernel has a queue for each, and keeps the order within one alone.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: over.append(number))
    print("sending", flush=True)
    number, started = 0, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while not over:
            due = int((time.monotonic() - started) * rate) + 1
            for each in range(number, min(due, number + _BURST)):
                # A packet that the kernel refuses, for want of a link or a route, is a lost one.
                with contextlib.suppress(OSError):
                    sock.sendto(_NUMBER.pack(each) + _PADDING, (address, PORT))
                number = each + 1
            time.sleep(max(started + number / rate - time.monotonic(), 0.0005))
    print(number, time.monotonic() - started, flush=True)


def _receive() -> None:
    """Receive until told on stdin how many were sent; then print each number, as eight bytes."""
    arrived = array("Q")
    last = 0.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with contextlib.suppress(PermissionError):  # in a user namespace
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        sock.bind(("", PORT))
        print("listening", flush=True)
        wanted: list[int | socket.socket] = [sock, sys.stdin.fileno()]
        sent = 0
        while not sent or (len(arrived) < sent and time.monotonic() < last):
            ready = select.select(wanted, [], [], 0.05)[0]
            if sock in ready:
                arrived.append(_NUMBER.unpack_from(sock.recv(2048))[0])
            elif ready:  # nothing has come that was not read
                sent, last = int(sys.stdin.readline()), time.monotonic() + _LAST
                wanted.pop()
    sys.stdout.buffer.write(arrived)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        _send(sys.argv[2], int(sys.argv[3]))
    else:
        _receive()
