"""Questions and answers over netlink: what comes too late, and what comes without end."""

from __future__ import annotations

import select

import pytest

from actuators.requests import Request
from actuators.transport import send
from model import netlink as nl
from model.keys import SELF
from observers import addresses, nsid
from observers.doorbells import KernelDoorbell, RangLink
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


def test_a_storm_is_heard_in_parts_and_each_bell_of_it_once(lab: Lab) -> None:
    lab.ip("", "link", "add", "noisy", "up", "type", "bridge")  # of one that is down it tells less
    lab.monitor.settle()
    bell = KernelDoorbell(SELF)
    try:
        with open_socket() as sock:
            index = int(lab.show("", "link", "show", "noisy")[0]["ifindex"])
            for n in range(1200):
                alias = nl.text(nl.IFLA_IFALIAS, str(n))
                body = nl.IFINFO.pack(0, 0, index, 0, 0)
                message = nl.message(nl.RTM_SETLINK, nl.NLM_F_ACK, body, alias)
                (answer,) = send([Request(SELF, message)], {SELF: sock})
                assert answer.code == 0
        parts = 0
        while select.select([bell], [], [], 0)[0]:
            assert bell.heard() == [RangLink(SELF, "noisy", 0)]
            parts += 1
        assert parts == 3, "1,200 messages, 500 at most in each"
    finally:
        bell.close()
