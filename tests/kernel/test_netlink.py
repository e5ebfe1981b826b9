"""Questions and answers over netlink: what comes too late, and what comes without end."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from actuators.requests import Request
from actuators.transport import send
from model import netlink as nl
from model.keys import SELF
from observers import addresses, nsid
from observers.doorbells import Deaf, KernelDoorbell, RangLink
from observers.netlink import dump, look_up, open_socket
from tests.kernel.lab import Lab


def _about(index: int) -> bytes:
    """Ask for a link by its index."""
    return nl.message(nl.RTM_GETLINK, 0, nl.IFINFO.pack(0, 0, index, 0, 0))


def _up(index: int) -> Request:
    body = nl.IFINFO.pack(0, 0, index, nl.IFF_UP, nl.IFF_UP)
    return Request(SELF, nl.message(nl.RTM_SETLINK, nl.NLM_F_ACK, body))


@pytest.mark.parametrize("unread", range(1, 4))
def test_answers_that_nobody_read_are_none_to_what_is_asked_next(lab: Lab, unread: int) -> None:
    """As after ENOBUFS, with which a batch ends before its last answer."""
    lab.ip("", "addr", "add", "10.9.9.9/32", "dev", "lo")
    with open_socket() as sock:

        def leave(first: int = 2**30) -> None:
            for number in range(first, first + unread):
                sock.send(nl.numbered(_about(4040), number))  # refused: there is none

        leave(1)  # as the first batch of all is numbered, by who numbers each anew
        assert [answer.code for answer in send([_up(1), _up(1)], {SELF: sock})] == [0, 0]
        leave()
        (found,) = look_up(sock, [_about(1)])
        assert found, "the loopback interface"
        leave()
        assert len(list(dump(sock, addresses._ALL))) >= 1
        leave()
        with open("/proc/self/ns/net", "rb") as here:  # noqa: PTH123 - for its descriptor
            assert nsid.given(sock, nsid.of_descriptor(here.fileno())) >= 0


@contextmanager
def _noise(lab: Lab) -> Iterator[tuple[KernelDoorbell, Callable[[int], None]]]:
    """A bell, and what rings it so many times."""
    for name in ("noisy", "other"):  # of one that is down the kernel tells less
        lab.ip("", "link", "add", name, "up", "type", "bridge")
    lab.monitor.settle()
    bell = KernelDoorbell(SELF)
    with open_socket() as sock:
        index = int(lab.show("", "link", "show", "noisy")[0]["ifindex"])

        def ring(times: int) -> None:
            for n in range(times):
                alias = nl.text(nl.IFLA_IFALIAS, str(n))
                body = nl.IFINFO.pack(0, 0, index, 0, 0)
                message = nl.message(nl.RTM_SETLINK, nl.NLM_F_ACK, body, alias)
                (answer,) = send([Request(SELF, message)], {SELF: sock})
                assert answer.code == 0

        try:
            yield bell, ring
        finally:
            bell.close()


def _rings(bell: KernelDoorbell) -> bool:
    return bool(select.select([bell], [], [], 0)[0])


def test_a_storm_is_heard_in_parts_and_each_bell_of_it_once(lab: Lab) -> None:
    with _noise(lab) as (bell, ring):
        ring(1200)
        parts = 0
        while _rings(bell):
            assert bell.heard() == [RangLink(SELF, "noisy", 0)]
            parts += 1
        assert parts == 3, "1,200 messages, 500 at most in each"


@pytest.mark.parametrize("at_once", [500, 1])
def test_what_is_lost_while_a_storm_is_read_is_told_of_at_its_end(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """A socket that was too full drops all, and says so no more, until it has been read."""
    with _noise(lab) as (bell, ring):
        told: list[object] = []
        while Deaf() not in told:
            ring(2000)  # more than fits, as a part of it is read
            told = list(bell.heard())
        lab.ip("", "link", "set", "other", "mtu", "1400")
        monkeypatch.setattr("observers.doorbells._AT_ONCE", at_once)
        parts = []
        while _rings(bell):
            parts.append(bell.heard())
        assert RangLink(SELF, "other", 0) not in [each for part in parts for each in part]
        assert [Deaf() in part for part in parts] == [False] * (len(parts) - 1) + [True]
        ring(1)
        assert bell.heard() == [RangLink(SELF, "noisy", 0)]
