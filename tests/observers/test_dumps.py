"""A dump that changed under our eyes is asked for again; and what never comes to rest is told."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from model import netlink as nl
from observers.netlink import DumpError, dump

REQUEST = nl.message(nl.RTM_GETLINK, nl.NLM_F_DUMP, nl.IFINFO.pack(0, 0, 0, 0, 0))
ONE, CUT, ENDED = "a message", "one that says that the dump is inconsistent", "the end with EINTR"


class Kernel:
    """Says in each attempt what it is told to, with the number of the question."""

    def __init__(self, attempts: Sequence[Sequence[str]]) -> None:
        self._attempts = iter(attempts)
        self._answers: Iterator[bytes] = iter(())
        self.asked = 0

    def send(self, request: bytes) -> None:
        self.asked += 1
        number = nl.U32.unpack_from(request, 8)[0]
        self._answers = iter([_said(each, number) for each in next(self._attempts)])

    def recv(self, _size: int) -> bytes:
        return next(self._answers)


def _said(what: str, number: int) -> bytes:
    code = -errno.EINTR if what == ENDED else 0
    flags = nl.NLM_F_DUMP_INTR if what == CUT else 0
    body = nl.IFINFO.pack(0, 0, 7, 0, 0)
    end = struct.pack("=i", code)
    message = nl.HEADER.pack(16 + len(body), nl.RTM_NEWLINK, flags, number, 0) + body
    done = nl.HEADER.pack(16 + len(end), nl.NLMSG_DONE, 0, number, 0) + end
    return message + done


def bodies(kernel: Any) -> int:
    return len(list(dump(kernel, REQUEST)))


@pytest.mark.parametrize("wrong", [CUT, ENDED])
@pytest.mark.parametrize("times", [0, 1, 4])
def test_it_is_asked_for_again_until_it_is_whole(wrong: str, times: int) -> None:
    kernel = Kernel([[wrong]] * times + [[ONE]])
    assert bodies(kernel) == 1
    assert kernel.asked == times + 1


@pytest.mark.parametrize("wrong", [CUT, ENDED])
def test_after_five_times_it_is_told(wrong: str) -> None:
    kernel = Kernel([[wrong]] * 6)
    with pytest.raises(DumpError, match="changed during each of five dumps") as told:
        bodies(kernel)
    assert told.value.errno == errno.EINTR
    assert kernel.asked == 5
