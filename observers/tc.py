"""Queueing disciplines and redirects of a namespace, as rtnetlink tells them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping
from typing import Literal

from model import netem_wire, redirect
from model import netlink as nl
from model.keys import Key, NsKey, link_key
from model.resources import Qdisc, Redirect
from observers.netlink import DumpError, dump

# The kernel takes no filter of a dump of qdiscs (tc_dump_qdisc): this is the whole namespace.
_QDISCS = nl.message(nl.RTM_GETQDISC, nl.NLM_F_DUMP, nl.TCM.pack(0, 0, 0, 0, 0))
_HEADER = nl.TCM.size


def read_qdiscs(ns: NsKey, sock: socket.socket, names: Mapping[int, str]) -> list[Qdisc]:
    """Read the root qdiscs that somebody made; those that the kernel gives by itself are none.

    Args:
        ns: the namespace.
        sock: an rtnetlink socket in it.
        names: interface index → name.

    Raises:
        OSError: the dump failed.
    """
    return [
        _qdisc(ns, names[index], handle, kind, options)
        for index, handle, parent, kind, options in _qdiscs(sock)
        if parent == nl.TC_H_ROOT and handle and index in names
    ]


def read_redirects(
    ns: NsKey, sock: socket.socket, devs: Mapping[int, str], names: Mapping[int, str]
) -> list[Redirect]:
    """Read our redirects of some interfaces; a filter of somebody else gives nothing.

    Args:
        ns: the namespace.
        sock: an rtnetlink socket in it.
        devs: interface index → name of those to look at.
        names: interface index → name of all, for the targets.

    Raises:
        OSError: a dump failed.
    """
    found: list[Redirect] = []
    for index, handle, _parent, kind, _options in _qdiscs(sock) if devs else ():
        if handle == nl.INGRESS_HANDLE and index in devs:
            key = Key(ns, "redirect", devs[index])
            found += _redirects(key, sock, index, names, ours_to_remove=kind == "ingress")
    return found


def _qdiscs(sock: socket.socket) -> Iterator[tuple[int, int, int, str, bytes]]:
    """Yield (interface index, handle, parent, kind, options) of every qdisc."""
    for data, start, end in dump(sock, _QDISCS):
        _family, index, handle, parent, _info = nl.TCM.unpack_from(data, start)
        found = nl.attributes(data, start + _HEADER, end)
        yield index, handle, parent, _text(found[nl.TCA_KIND]), found.get(nl.TCA_OPTIONS, b"")


def _qdisc(ns: NsKey, dev: str, handle: int, kind: str, options: bytes) -> Qdisc:
    owned = kind == "netem" and netem_wire.is_ours(handle)
    return Qdisc(
        key=Key(ns, "qdisc", dev, "root"),
        kind=kind,
        netem=netem_wire.decode(options, handle) if owned else None,
        owned=owned,
    )


def _redirects(
    key: Key, sock: socket.socket, index: int, names: Mapping[int, str], *, ours_to_remove: bool
) -> Iterator[Redirect]:
    filters = list(_filters(sock, index))
    # A preference and a hash table are told like filters, with a handle whose node is 0.
    beside = [
        handle
        for _kind, handle, info, _options in filters
        if info == redirect.INFO and handle & redirect.NODE_MASK not in (0, redirect.NODE)
    ]
    alone_on: Literal["", "preference", "qdisc"] = "" if beside else "preference"
    if ours_to_remove and all(info == redirect.INFO for _, _, info, _ in filters) and not beside:
        alone_on = "qdisc"
    for kind, handle, info, options in filters:
        if kind != "u32" or not redirect.is_ours(handle, info):
            continue
        found = nl.attributes(options, 0, len(options))
        if found.get(nl.TCA_U32_SEL) != redirect.SELECTOR:
            continue
        to = names.get(_target(found.get(nl.TCA_U32_ACT, b"")))
        target = link_key(key.ns, to) if to else None
        yield Redirect(key=key, target=target, handle=handle, alone_on=alone_on)


def _filters(sock: socket.socket, index: int) -> Iterator[tuple[str, int, int, bytes]]:
    """Yield (kind, handle, preference and protocol, options) of what hangs on an ingress qdisc."""
    request = nl.TCM.pack(0, index, 0, nl.INGRESS_BLOCK, 0)
    try:
        bodies = list(dump(sock, nl.message(nl.RTM_GETTFILTER, nl.NLM_F_DUMP, request)))
    except DumpError as error:
        if error.errno in (errno.ENODEV, errno.EINVAL):  # the qdisc, or its interface, has gone
            return
        raise
    for data, start, end in bodies:
        _family, _index, handle, _parent, info = nl.TCM.unpack_from(data, start)
        found = nl.attributes(data, start + _HEADER, end)
        yield _text(found[nl.TCA_KIND]), handle, info, found.get(nl.TCA_OPTIONS, b"")


def _target(actions: bytes) -> int:
    """Return the interface index that the first action redirects to, 0 for none."""
    first = nl.attributes(actions, 0, len(actions)).get(1, b"")
    action = nl.attributes(first, 0, len(first))
    if _text(action.get(nl.TCA_ACT_KIND, b"")) != "mirred":
        return 0
    options = action.get(nl.TCA_ACT_OPTIONS, b"")
    parms = nl.attributes(options, 0, len(options)).get(nl.TCA_MIRRED_PARMS)
    if not parms:
        return 0
    *_common, direction, index = nl.MIRRED.unpack_from(parms)
    return int(index) if direction == nl.TCA_EGRESS_REDIR else 0


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode()
