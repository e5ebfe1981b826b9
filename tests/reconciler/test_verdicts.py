"""What an answer of the kernel means depends on what it was asked."""

from __future__ import annotations

import errno

import pytest

from actuators import links, qdiscs
from actuators.requests import Request, Verdict, judge
from model import netem
from model.keys import SELF, Key, link_key
from model.resources import Link, Qdisc

DELAY = Qdisc(key=Key(SELF, "qdisc", "d0", "root"), netem=netem.parse("delay 1ms"))
OTHER = Qdisc(key=DELAY.key, netem=netem.parse("delay 2ms"))
PLAIN = Request(SELF, b"x")


class Numbers:
    """Indexes of no kernel."""

    def index(self, _link: Key) -> int:
        return 7

    free_index = index

    def namespace(self, _ns: object) -> int:
        return 0


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (0, Verdict.DONE),
        (errno.ENODEV, Verdict.VANISHED),
        (errno.ENOENT, Verdict.VANISHED),
        (errno.EEXIST, Verdict.VANISHED),
        (errno.EBUSY, Verdict.RETRY),
        (errno.EOPNOTSUPP, Verdict.UNSUPPORTED),
        (errno.EINVAL, Verdict.REFUSED),
    ],
)
def test_an_answer_to_any_request(code: int, verdict: Verdict) -> None:
    assert judge(PLAIN, code) is verdict


def test_what_is_gone_is_deleted() -> None:
    (request,) = links.delete(Link(key=link_key(SELF, "d0"), kind="dummy", index=7))
    assert judge(request, errno.ENODEV) is Verdict.DONE
    assert judge(request, errno.EPERM) is Verdict.REFUSED


def test_a_kernel_without_netem_says_that_there_is_no_such_entry() -> None:
    (made,) = qdiscs.create(DELAY, Numbers())
    assert judge(made, errno.ENOENT) is Verdict.UNSUPPORTED
    assert judge(made, errno.ENODEV) is Verdict.VANISHED
    (changed,) = qdiscs.modify(DELAY, OTHER, Numbers())
    assert judge(changed, errno.ENOENT) is Verdict.VANISHED, "the qdisc went meanwhile"
