"""Sending requests: batches of messages to one namespace in one system call, answers in order."""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actuators.requests import Request, Verdict, judge
from model import netlink as nl
from model.keys import NsKey

# Each answer takes some 800 bytes of the receive buffer, whose default is 208 KiB
# (net.core.rmem_default): more than 250 answers at once would be lost.
_BATCH = 100
# A batch must fit into the send buffer, whose default is as large (net.core.wmem_default): a netem
# with two tables takes 16 KiB.
_BYTES = 100 * 1024
# An answer that came too late for its request is none to the next; who only asks over the same
# sockets numbers up to 2**31 (observers/netlink.py).
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kernel said to one request: errno (0 is success) and its own words, if any."""

    request: Request
    code: int
    words: str = ""

    @property
    def verdict(self) -> Verdict:
        """What the answer means."""
        return judge(self.request, self.code)

    def __str__(self) -> str:
        # Two names are one number on Linux, and the kernel's own is the other one.
        named = "EOPNOTSUPP" if self.code == errno.EOPNOTSUPP else errno.errorcode.get(self.code)
        told = f"{named or self.code}: {self.words or os.strerror(self.code)}"
        feature = self.request.feature
        if feature and self.code in feature.absent:
            return f"this kernel has no {feature.name} ({told}; module {feature.module})"
        return told


def send(requests: Sequence[Request], sockets: Mapping[NsKey, socket.socket]) -> list[Answer]:
    """Send requests in order and return their answers in the same order.

    The kernel works through a batch even when one message of it fails.
    """
    answers: list[Answer] = []
    at = 0
    while at < len(requests):
        first = requests[at]
        sock = sockets.get(first.ns)
        if sock is None:
            answers.append(Answer(first, errno.ENODEV, "the namespace is gone"))
            at += 1
        elif first.call:
            answers.append(_call(first, sock))
            at += 1
        else:
            end, size = at + 1, len(first.message)
            while (
                end < len(requests)
                and end - at < _BATCH
                and (size := size + len(requests[end].message)) <= _BYTES
                and requests[end].ns == first.ns
                and not requests[end].call
            ):
                end += 1
            answers += _batch(requests[at:end], sock)
            at = end
    return answers


def _call(request: Request, sock: socket.socket) -> Answer:
    try:
        if request.call:
            request.call(sock.fileno())
    except OSError as error:
        return Answer(request, error.errno or errno.EIO, error.strerror or "")
    return Answer(request, 0)


def _batch(requests: Sequence[Request], sock: socket.socket) -> list[Answer]:
    numbers = [number() for _ in requests]
    asked = dict(zip(numbers, requests, strict=True))
    answers: dict[int, Answer] = {}
    try:
        sock.send(b"".join(nl.numbered(each.message, n) for n, each in asked.items()))
        while len(answers) < len(requests):
            data = sock.recv(65536)
            for kind, flags, sequence, start, end in nl.messages(data):
                if kind == nl.NLMSG_ERROR and sequence in asked:
                    code, words = nl.decode_error(data, start, end, flags)
                    answers[sequence] = Answer(asked[sequence], code, words)
    except OSError as error:
        # ENOBUFS: answers were lost; a timeout: the kernel owes us one. Either way it is not known
        # what happened, and the next look will tell.
        code = error.errno or errno.ETIMEDOUT
        answers.update((n, Answer(asked[n], code)) for n in asked.keys() - answers.keys())
    return [answers[n] for n in numbers]


def number() -> int:
    """Return a sequence number that no earlier message over the same socket has."""
    return 2**31 | next(_numbers) & 0x7FFFFFFF
