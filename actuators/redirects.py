"""Making, leading elsewhere and removing the redirects that patches consist of.

The ingress qdisc is shared: whoever comes first makes it, and a redirect hangs on a clsact qdisc
just as well, which has the same handle and takes the same place.
"""

from __future__ import annotations

import errno

from actuators.requests import Feature, Numbers, Request
from model import netlink as nl
from model import redirect as marks
from model.keys import link_key
from model.resources import Redirect

_MADE = frozenset({errno.EEXIST})
_GONE = frozenset({errno.EINVAL})  # what the kernel says where there is no ingress qdisc at all
# Kinds of qdisc, filter and action that the kernel does not know are ENOENT (net/sched: sch_api.c,
# cls_api.c, act_api.c); where one may be created there is no other.
_ABSENT = frozenset({errno.ENOENT, errno.EOPNOTSUPP})
_INGRESS = Feature("ingress qdiscs", "sch_ingress", _ABSENT)
_FILTER = Feature("u32 filters with mirred actions", "cls_u32 and act_mirred", _ABSENT)


def create(redirect: Redirect, numbers: Numbers) -> list[Request]:
    """Give an interface its ingress qdisc, if it has none, and our filter on it."""
    ingress = nl.message(
        nl.RTM_NEWQDISC,
        nl.NLM_F_ACK | nl.NLM_F_CREATE | nl.NLM_F_EXCL,
        nl.TCM.pack(0, _index(redirect, numbers), nl.INGRESS_HANDLE, nl.TC_H_INGRESS, 0),
        nl.text(nl.TCA_KIND, "ingress"),
    )
    # The hash table's part of the handle is 0: the kernel fills in that of this preference.
    return [
        Request(redirect.key.ns, ingress, optional=_MADE, feature=_INGRESS),
        _filter(redirect, numbers, marks.NODE, nl.NLM_F_CREATE | nl.NLM_F_EXCL),
    ]


def modify(before: Redirect, after: Redirect, numbers: Numbers) -> list[Request]:
    """Lead our filter to another interface, in place: no frame is missed."""
    return [_filter(after, numbers, before.handle, nl.NLM_F_REPLACE)]


def delete(redirect: Redirect, numbers: Numbers) -> list[Request]:
    """Remove our filter as it was observed, and what is empty then: preference, ingress qdisc.

    An empty preference would stay: the last u32 filter of one takes it along only where no other
    preference has a u32 filter (u32_delete()).
    """
    index = _index(redirect, numbers)
    handle = 0 if redirect.alone_on else redirect.handle  # 0 is all of a preference
    requests = [
        nl.message(
            nl.RTM_DELTFILTER,
            nl.NLM_F_ACK,
            nl.TCM.pack(0, index, handle, nl.INGRESS_BLOCK, marks.INFO),
            nl.text(nl.TCA_KIND, "u32"),
        )
    ]
    if redirect.alone_on == "qdisc":
        requests.append(
            nl.message(
                nl.RTM_DELQDISC,
                nl.NLM_F_ACK,
                nl.TCM.pack(0, index, nl.INGRESS_HANDLE, nl.TC_H_INGRESS, 0),
                nl.text(nl.TCA_KIND, "ingress"),
            )
        )
    return [
        Request(redirect.key.ns, message, gone_is_done=True, optional=_GONE) for message in requests
    ]


def _filter(redirect: Redirect, numbers: Numbers, handle: int, flags: int) -> Request:
    """Encode our filter; its target must be named."""
    to = numbers.index(redirect.target) if redirect.target else 0
    if not to:  # it went after the look; the kernel would say EINVAL, which is no news of that
        return Request(redirect.key.ns, call=_gone)
    action = nl.nested(
        1,  # the first of up to 32 actions
        nl.text(nl.TCA_ACT_KIND, "mirred"),
        nl.nested(
            nl.TCA_ACT_OPTIONS,
            nl.attribute(
                nl.TCA_MIRRED_PARMS,
                nl.MIRRED.pack(0, 0, nl.TC_ACT_STOLEN, 0, 0, nl.TCA_EGRESS_REDIR, to),
            ),
        ),
    )
    message = nl.message(
        nl.RTM_NEWTFILTER,
        nl.NLM_F_ACK | flags,
        nl.TCM.pack(0, _index(redirect, numbers), handle, nl.INGRESS_BLOCK, marks.INFO),
        nl.text(nl.TCA_KIND, "u32"),
        nl.nested(
            nl.TCA_OPTIONS,
            nl.attribute(nl.TCA_U32_SEL, marks.SELECTOR),
            nl.nested(nl.TCA_U32_ACT, action),
        ),
    )
    return Request(redirect.key.ns, message, feature=_FILTER if flags & nl.NLM_F_CREATE else None)


def _gone(_descriptor: int) -> None:
    raise OSError(errno.ENODEV, "the interface that it leads to is gone")


def _index(redirect: Redirect, numbers: Numbers) -> int:
    return numbers.index(link_key(redirect.key.ns, redirect.key.dev))
