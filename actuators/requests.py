"""What an actuator asks of the kernel, and the one table that says what its refusals mean."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from model.keys import Key, NsKey


@dataclass(frozen=True, slots=True)
class Feature:
    """A part of the kernel that need not be there.

    Attributes:
        name: as it is told to people.
        module: what the kernel is to be built with, or is to load.
        absent: the errnos by which the kernel says that it has no such thing.
    """

    name: str
    module: str
    absent: frozenset[int] = frozenset({errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True)
class Request:
    """One message to one namespace.

    Attributes:
        ns: whose kernel state it changes.
        message: a netlink message with sequence number 0, or empty where `call` is given.
        call: a system call on a socket of that namespace (its descriptor), where netlink has no
            message for it; raises OSError.
        gone_is_done: "there is no such thing" means that the work is done: true of deletions.
        optional: errnos that leave nothing to do, for what this kernel need not have.
        feature: what it asks for that this kernel need not have, where that is a refusal.
    """

    ns: NsKey
    message: bytes = b""
    call: Callable[[int], None] | None = None
    gone_is_done: bool = False
    optional: frozenset[int] = frozenset()
    feature: Feature | None = None


class Numbers(Protocol):
    """What the kernel wants in place of names; valid for one pass."""

    def index(self, link: Key) -> int:
        """Return the interface index of a link, 0 where only its name is known."""

    def free_index(self, link: Key) -> int:
        """Choose the interface index of a link to be made; `index` returns it from then on."""

    def namespace(self, ns: NsKey) -> int:
        """Return an open descriptor of a namespace."""

    def id_of(self, ns: NsKey, seen_from: NsKey) -> int:
        """Return the id of a namespace in another; raise OSError where it cannot have one."""


class Verdict(Enum):
    """What a refusal means to whoever wanted the change."""

    DONE = "done"
    VANISHED = "vanished"  # the world moved: look again
    RETRY = "retry"  # the same request may succeed later
    REFUSED = "refused"  # the same request never succeeds
    UNSUPPORTED = "unsupported"  # this kernel cannot


_VERDICTS = {
    errno.ENODEV: Verdict.VANISHED,
    errno.ENOENT: Verdict.VANISHED,
    errno.ESRCH: Verdict.VANISHED,
    # The snapshot did not show it, so somebody made it since: look again.
    errno.EEXIST: Verdict.VANISHED,
    errno.EBUSY: Verdict.RETRY,
    errno.EAGAIN: Verdict.RETRY,
    errno.EINTR: Verdict.RETRY,
    errno.ENOBUFS: Verdict.RETRY,
    errno.ENOMEM: Verdict.RETRY,
    errno.ENETDOWN: Verdict.RETRY,
    errno.ENETUNREACH: Verdict.RETRY,
    errno.EHOSTUNREACH: Verdict.RETRY,
    errno.ETIMEDOUT: Verdict.RETRY,
    errno.EOPNOTSUPP: Verdict.UNSUPPORTED,
    errno.EAFNOSUPPORT: Verdict.UNSUPPORTED,
    errno.EPROTONOSUPPORT: Verdict.UNSUPPORTED,
}

_GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL})


def judge(request: Request, code: int) -> Verdict:
    """Classify the kernel's answer to a request; 0 is success. What is not listed is refused."""
    if not code or code in request.optional or (request.gone_is_done and code in _GONE):
        return Verdict.DONE
    if request.feature and code in request.feature.absent:
        return Verdict.UNSUPPORTED
    return _VERDICTS.get(code, Verdict.REFUSED)
