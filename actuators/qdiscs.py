"""Making, changing and removing netem qdiscs."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import replace

from actuators.requests import Feature, Numbers, Request
from actuators.transport import number
from model import netlink as nl
from model.keys import link_key
from model.netem import Netem
from model.netem_wire import encode, handle_of, has_seed
from model.resources import Qdisc

# What tc_get_qdisc() says when the root is no longer the qdisc that the message names.
_NOT_OURS = frozenset({errno.EINVAL})
# "Specified qdisc kind is unknown" (qdisc_create(), net/sched/sch_api.c) is ENOENT; where a qdisc
# may be created there is no other.
_FEATURE = Feature("netem", "sch_netem", frozenset({errno.ENOENT, errno.EOPNOTSUPP}))


def create(qdisc: Qdisc, numbers: Numbers) -> list[Request]:
    """Put a netem at the root of an interface that has only the kernel's own qdisc."""
    return _new(qdisc, numbers, nl.NLM_F_CREATE | nl.NLM_F_EXCL)


def modify(before: Qdisc, after: Qdisc, numbers: Numbers) -> list[Request]:
    """Change a netem of ours in place, or, where tables differ, exchange it in one step.

    A change in place keeps the packets that wait in it; an exchange loses them. In neither is
    there a moment in which packets pass without impairment. While two are there, during an
    exchange, neither may duplicate ("cannot mix duplicating netems with other netems in tree",
    6.16 and stable kernels since): the old one stops before, the new one begins after.
    """
    if _handle(before) == _handle(after):
        return _new(after, numbers, 0)
    requests: list[Request] = []
    if _netem(before).duplicate:
        requests += _new(_without_duplicates(before), numbers, 0)
    requests += _new(_without_duplicates(after), numbers, nl.NLM_F_CREATE | nl.NLM_F_REPLACE)
    if _netem(after).duplicate:
        requests += _new(after, numbers, 0)
    return requests


def delete(qdisc: Qdisc, numbers: Numbers) -> list[Request]:
    """Remove a netem, only if it has our handle; the kernel puts its own qdisc in its place."""
    message = nl.message(
        nl.RTM_DELQDISC, nl.NLM_F_ACK, _header(qdisc, numbers), nl.text(nl.TCA_KIND, "netem")
    )
    return [Request(qdisc.key.ns, message, gone_is_done=True, optional=_NOT_OURS)]


def _new(qdisc: Qdisc, numbers: Numbers, flags: int) -> list[Request]:
    netem = _netem(qdisc)
    message = nl.message(
        nl.RTM_NEWQDISC,
        nl.NLM_F_ACK | flags,
        _header(qdisc, numbers),
        nl.text(nl.TCA_KIND, "netem"),
        nl.attribute(nl.TCA_OPTIONS, encode(netem)),
    )
    feature = _FEATURE if flags & nl.NLM_F_CREATE else None
    requests = [Request(qdisc.key.ns, message, feature=feature)]
    if netem.seed is not None:
        index = numbers.index(link_key(qdisc.key.ns, qdisc.key.dev))
        requests.append(Request(qdisc.key.ns, call=lambda fd: _need_seed(fd, index)))
    return requests


def _need_seed(descriptor: int, index: int) -> None:
    """Refuse what the kernel accepted and ignored: before 6.6 netem knows no seed, nor says so.

    Raises:
        OSError: EOPNOTSUPP, the kernel has no seed; or it could not be asked.
    """
    request = nl.message(nl.RTM_GETQDISC, nl.NLM_F_DUMP, nl.TCM.pack(0, index, 0, 0, 0))
    told = False
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        sock.settimeout(10)
        sequence = number()
        sock.send(nl.numbered(request, sequence))
        done = False
        while not done:
            data = sock.recv(256 * 1024)
            for kind, _flags, answered, start, end in nl.messages(data):
                if answered != sequence:
                    continue
                done |= kind in (nl.NLMSG_DONE, nl.NLMSG_ERROR)
                if kind == nl.RTM_NEWQDISC and nl.TCM.unpack_from(data, start)[1] == index:
                    found = nl.attributes(data, start + nl.TCM.size, end)
                    told |= has_seed(found.get(nl.TCA_OPTIONS, b""))
    if not told:
        raise OSError(errno.EOPNOTSUPP, "netem of this kernel takes no seed; 6.6 and later do")


def _without_duplicates(qdisc: Qdisc) -> Qdisc:
    return replace(qdisc, netem=replace(_netem(qdisc), duplicate=0))


def _netem(qdisc: Qdisc) -> Netem:
    if qdisc.netem is None:
        raise ValueError(f"{qdisc.key} is a {qdisc.kind}, which nothing here makes")
    return qdisc.netem


def _handle(qdisc: Qdisc) -> int:
    return handle_of(_netem(qdisc))


def _header(qdisc: Qdisc, numbers: Numbers) -> bytes:
    index = numbers.index(link_key(qdisc.key.ns, qdisc.key.dev))
    return nl.TCM.pack(0, index, _handle(qdisc), nl.TC_H_ROOT, 0)
