"""Making, changing and removing interfaces."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import replace

from actuators.requests import Feature, Numbers, Request
from model import netlink as nl
from model.keys import NsKey, link_key
from model.kinds import KINDS
from model.resources import Link

# A bridge or an outer end without IPv6 (kernel without it, MTU below 1280) is silent already.
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EOPNOTSUPP})


def create(link: Link, peer: Link | None, numbers: Numbers) -> list[Request]:
    """Make an interface; a veth is made from one end, together with its peer.

    Only with what it is born with. The rest is `complete`, and must not be sent before the kernel
    has said that it made this one: a name or an index that it refused is somebody else's.
    """
    if link.kind != "veth":
        return _new(link, numbers)
    if peer is None:
        raise ValueError(f"{link.key}: a veth cannot be made without its peer")
    return [_new_veth(link, peer, numbers)]


def complete(link: Link, numbers: Numbers) -> list[Request]:
    """Give an interface that was just made the attributes that no message can create it with."""
    return _configure(link, numbers)


def modify(link: Link, changed: Iterable[str], numbers: Numbers) -> list[Request]:
    """Change the attributes named in `changed` in place."""
    return _configure(link, numbers, frozenset(changed))


def delete_group(ns: NsKey, group: int) -> Request:
    """Remove all interfaces of a group at once.

    Each RTM_DELLINK waits for an RCU grace period, some 20 ms (6.18); this one waits once for all.
    """
    body = nl.IFINFO.pack(0, 0, 0, 0, 0)
    message = nl.message(nl.RTM_DELLINK, nl.NLM_F_ACK, body, nl.u32(nl.IFLA_GROUP, group))
    return Request(ns, message, gone_is_done=True)


def delete(link: Link) -> list[Request]:
    """Remove an interface, by index: a name may be somebody else's by now."""
    body = nl.IFINFO.pack(0, 0, link.index, 0, 0)
    message = nl.message(nl.RTM_DELLINK, nl.NLM_F_ACK, body)
    return [Request(link.key.ns, message, gone_is_done=True)]


_SIOCSIFNAME = 0x8923  # linux/sockios.h
_IFREQ = struct.Struct("=16s16s8x")  # linux/if.h: a name, and a new one
_CREATE = nl.NLM_F_ACK | nl.NLM_F_CREATE | nl.NLM_F_EXCL


def _new(link: Link, numbers: Numbers) -> list[Request]:
    """Make an interface that has no second end.

    A child of an interface in another namespace is made from its own, by the id that the parent's
    has there. It has a name on the way that nothing else has, and an index that the kernel chooses:
    until 6.12 it is made in the parent's namespace and moved, so that both would have to be free in
    either (__rtnl_newlink(), net/core/rtnetlink.c; 6.1 refuses an eth0 beside an eth0).
    """
    ns, born, stack, renaming = link.key.ns, link, b"", []
    away = link.parent is not None and link.parent.ns != ns
    if link.parent is not None:
        stack = nl.u32(nl.IFLA_LINK, numbers.index(link.parent))
    if link.parent is not None and away:
        stack += nl.attribute(nl.IFLA_LINK_NETNSID, nl.I32.pack(numbers.id_of(link.parent.ns, ns)))
        born = replace(link, key=link_key(ns, _name_on_the_way(link)))
        renaming = [Request(ns, call=lambda fd: _rename(fd, born.key.dev, link.key.dev))]
    index = numbers.free_index(link.key) if ns.kind == "container" and not away else 0
    body = nl.IFINFO.pack(0, 0, index, 0, 0)
    info = _info(link)
    message = nl.message(nl.RTM_NEWLINK, _CREATE, body, _identity(born), stack, info)
    return [Request(ns, message, feature=_feature(link)), *renaming]


def _name_on_the_way(link: Link) -> str:
    seed = f"{link.key.ns.id}\0{link.key.dev}".encode()
    return f"rl{hashlib.blake2b(seed, digest_size=6).hexdigest()}"


def _rename(descriptor: int, old: str, new: str) -> None:
    """Rename an interface by its name, for which rtnetlink wants an index.

    Raises:
        OSError: there is no `old`, or somebody has made a `new`.
    """
    fcntl.ioctl(descriptor, _SIOCSIFNAME, _IFREQ.pack(old.encode(), new.encode()))


def _feature(link: Link) -> Feature:
    # A kind that is in no module loaded or loadable is EOPNOTSUPP (rtnl_newlink()).
    return Feature(f"{link.kind} links", "8021q" if link.kind == "vlan" else link.kind)


def _info(link: Link) -> bytes:
    """Encode what is peculiar to a kind."""
    kind = nl.text(nl.IFLA_INFO_KIND, link.kind)
    settings = KINDS[link.kind].encode(dict(link.settings))
    data = nl.nested(nl.IFLA_INFO_DATA, settings) if settings else b""
    return nl.nested(nl.IFLA_LINKINFO, kind, data)


def _new_veth(link: Link, peer: Link, numbers: Numbers) -> Request:
    """Make both ends with all that one message can carry.

    It is sent from the container's side: the peer is made in its own namespace at once, so that
    neither name can clash with an interface of the other namespace on the way.
    """
    peer_body = nl.IFINFO.pack(0, 0, 0, 0, 0)
    away = nl.u32(nl.IFLA_NET_NS_FD, numbers.namespace(peer.key.ns))
    other = nl.attribute(nl.VETH_INFO_PEER | nl.NLA_F_NESTED, peer_body + _identity(peer) + away)
    info = nl.nested(
        nl.IFLA_LINKINFO,
        nl.text(nl.IFLA_INFO_KIND, "veth"),
        nl.nested(nl.IFLA_INFO_DATA, other),
    )
    body = nl.IFINFO.pack(0, 0, numbers.free_index(link.key), 0, 0)
    message = nl.message(nl.RTM_NEWLINK, _CREATE, body, _identity(link), info)
    return Request(link.key.ns, message, feature=_feature(link))


def _identity(link: Link) -> bytes:
    """Encode what a link is born with; its mark of ownership first of all."""
    parts = [nl.text(nl.IFLA_IFNAME, link.key.dev)]
    if link.group is not None:
        parts.append(nl.u32(nl.IFLA_GROUP, link.group))
    if link.mtu is not None:
        parts.append(nl.u32(nl.IFLA_MTU, link.mtu))
    if link.mac is not None:
        parts.append(nl.attribute(nl.IFLA_ADDRESS, bytes.fromhex(link.mac.replace(":", ""))))
    return b"".join(parts)


def _configure(
    link: Link, numbers: Numbers, changed: frozenset[str] | None = None
) -> list[Request]:
    """Encode the attributes that a living link can be given; None means those of a new one.

    What silences comes in a message of its own, because do_setlink() (net/core/rtnetlink.c, 6.18)
    raises the link before it reads IFLA_AF_SPEC: a link would have its link-local address before it
    is told to have none.
    """
    attributes: list[bytes] = []
    if changed is not None and (peculiar := changed & dict(link.settings).keys()):
        rest = _configure(link, numbers, changed - peculiar)
        return [_set_kind(link, peculiar, numbers), *rest]
    if changed is not None:
        if "mac" in changed and link.mac is not None:
            raw = bytes.fromhex(link.mac.replace(":", ""))
            attributes.append(nl.attribute(nl.IFLA_ADDRESS, raw))
        if "mtu" in changed and link.mtu is not None:
            attributes.append(nl.u32(nl.IFLA_MTU, link.mtu))
        if "group" in changed and link.group is not None:
            attributes.append(nl.u32(nl.IFLA_GROUP, link.group))
    if link.alias is not None and (changed is None or "alias" in changed):
        # Ignored by RTM_NEWLINK when it creates (6.18), so it is set here.
        attributes.append(nl.attribute(nl.IFLA_IFALIAS, link.alias.encode()))
    if link.master is not None and (changed is None or "master" in changed):
        index = numbers.index(link.master_key()) if link.master else 0
        attributes.append(nl.u32(nl.IFLA_MASTER, index))
    conf = [
        nl.u32(number, int(value))
        for name, number in nl.DEVCONF.items()
        if (value := getattr(link, name)) is not None and (changed is None or name in changed)
    ]
    if conf:
        four = nl.nested(nl.AF_INET, nl.nested(nl.IFLA_INET_CONF, *conf))
        attributes.append(nl.nested(nl.IFLA_AF_SPEC, four))
    index = numbers.index(link.key)
    raising = link.up is not None and (changed is None or "up" in changed)
    flags = nl.IFF_UP if link.up else 0
    if link.silent is None or not (changed is None or "silent" in changed):
        change = nl.IFF_UP if raising else 0
        words = b"".join(attributes)
        return [_set(link, index, flags & change, change, words)] if words or change else []
    requests = [_set(link, index, 0, 0, b"".join(attributes))] if attributes else []
    mode = bytes([nl.IN6_ADDR_GEN_MODE_NONE if link.silent else 0])
    six = nl.nested(nl.AF_INET6, nl.attribute(nl.IFLA_INET6_ADDR_GEN_MODE, mode))
    spec = nl.nested(nl.IFLA_AF_SPEC, six)
    requests.append(_set(link, index, 0, 0, spec, optional=_NO_IPV6))
    if raising:
        requests.append(_set(link, index, flags, nl.IFF_UP))
    return requests


def _set(
    link: Link,
    index: int,
    flags: int,
    change: int,
    attributes: bytes = b"",
    *,
    optional: frozenset[int] = frozenset(),
) -> Request:
    # By index where there is one, since a name may be somebody else's by now; by name for the end
    # that an earlier message of this batch makes.
    message = nl.message(
        nl.RTM_SETLINK,
        nl.NLM_F_ACK,
        nl.IFINFO.pack(0, 0, index, flags, change),
        b"" if index else nl.text(nl.IFLA_IFNAME, link.key.dev),
        attributes,
    )
    return Request(link.key.ns, message, optional=optional)


def _set_kind(link: Link, names: frozenset[str], numbers: Numbers) -> Request:
    """Change some of what is peculiar to a kind.

    RTM_SETLINK accepts IFLA_LINKINFO and does nothing (do_setlink(), 6.1 and 6.18), so it is
    RTM_NEWLINK, without NLM_F_CREATE; with what changes alone, because vxlan_nl2conf() refuses the
    port even where it is the same.
    """
    settings = tuple((name, value) for name, value in link.settings if name in names)
    body = nl.IFINFO.pack(0, 0, numbers.index(link.key), 0, 0)
    info = _info(replace(link, settings=settings))
    return Request(link.key.ns, nl.message(nl.RTM_NEWLINK, nl.NLM_F_ACK, body, info))
