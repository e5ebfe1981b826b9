"""Interfaces of a namespace, as rtnetlink tells them."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import replace

from model import netlink as nl
from model.keys import NsKey, link_key
from model.kinds import KINDS
from model.ownership import is_relink_group
from model.resources import Link
from observers.netlink import dump, look_up

_OFF = bytes(4)
_MASK = nl.u32(nl.IFLA_EXT_MASK, nl.RTEXT_FILTER_SKIP_STATS)
_ALL = nl.message(
    nl.RTM_GETLINK, nl.NLM_F_DUMP, nl.IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0), _MASK
)


def read_all(ns: NsKey, sock: socket.socket) -> list[Link]:
    """Read every interface except loopback.

    Raises:
        OSError: the dump failed.
    """
    links = [link for body in dump(sock, _ALL) if (link := decode(ns, *body))]
    names = {link.index: _as_master(link) for link in links}
    return [_named_master(link, names) for link in links]


def read_named(
    ns: NsKey, sock: socket.socket, names: Iterable[str], target: int = -1
) -> list[Link]:
    """Read the interfaces of these names that exist, with whatever they are ports of.

    With `target` they are those of the namespace that has this id in that of `sock`.

    Raises:
        OSError: a look-up failed.
    """
    empty = nl.IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    where = nl.attribute(nl.IFLA_TARGET_NETNSID, nl.I32.pack(target)) if target >= 0 else b""
    requests = [
        nl.message(nl.RTM_GETLINK, 0, empty, nl.text(nl.IFLA_IFNAME, name), _MASK, where)
        for name in names
        if len(name.encode()) < 16
    ]
    links = [link for body in look_up(sock, requests) if body and (link := decode(ns, *body))]
    known = {link.index: _as_master(link) for link in links}
    unknown = {int(link.master) for link in links if link.master} - known.keys()
    masters = [
        nl.message(nl.RTM_GETLINK, 0, nl.IFINFO.pack(0, 0, index, 0, 0), _MASK, where)
        for index in sorted(unknown)
    ]
    for body in look_up(sock, masters):
        if body and (link := decode(ns, *body)):
            known[link.index] = _as_master(link)
    return [_named_master(link, known) for link in links]


def _as_master(link: Link) -> str:
    """Return what an interface is called as the master of a port.

    Open vSwitch makes one device of its datapath the master of the ports of all its bridges; which
    bridge a port is in, only its database tells.
    """
    return "" if link.kind == "openvswitch" else link.key.dev


def _named_master(link: Link, names: dict[int, str]) -> Link:
    if not link.master:
        return link
    return replace(link, master=names.get(int(link.master), f"index {link.master}"))


def decode(ns: NsKey, data: bytes, start: int, end: int) -> Link | None:
    """Decode the body of an RTM_NEWLINK; None for loopback.

    The master is still an index, in digits: only a dump knows the names.
    """
    _family, _type, index, flags, _change = nl.IFINFO.unpack_from(data, start)
    if flags & nl.IFF_LOOPBACK:
        return None
    found = nl.attributes(data, start + 16, end)
    group = nl.U32.unpack(found[nl.IFLA_GROUP])[0] if nl.IFLA_GROUP in found else 0
    info = found.get(nl.IFLA_LINKINFO, b"")
    about = nl.attributes(info, 0, len(info)) if info else {}
    kind = _string(about.get(nl.IFLA_INFO_KIND, b""))
    silent: bool | None = None
    conf: dict[str, bool] = {}
    table = KINDS.get(kind)
    peculiar = about.get(nl.IFLA_INFO_DATA) if table and table.attributes else None
    if is_relink_group(group):
        silent, conf = _per_family(found.get(nl.IFLA_AF_SPEC, b""))
    alias = found.get(nl.IFLA_IFALIAS)
    master = found.get(nl.IFLA_MASTER)
    link = found.get(nl.IFLA_LINK)
    mac = found.get(nl.IFLA_ADDRESS, b"")
    return Link(
        key=link_key(ns, _string(found[nl.IFLA_IFNAME])),
        kind=kind,
        mac=mac.hex(":"),
        mtu=nl.U32.unpack(found[nl.IFLA_MTU])[0],
        up=bool(flags & nl.IFF_UP),
        master=str(nl.U32.unpack(master)[0]) if master else "",
        group=group,
        alias=_string(alias) if alias else "",
        silent=silent,
        promote=conf.get("promote"),
        forwarding=conf.get("forwarding"),
        src_valid_mark=conf.get("src_valid_mark"),
        settings=table.decode(peculiar) if table and peculiar else (),
        index=index,
        peer_index=nl.U32.unpack(link)[0] if link else 0,
        peer_away=nl.IFLA_LINK_NETNSID in found,
        qdisc=_string(found.get(nl.IFLA_QDISC, b"")),
        other_names=_other_names(found.get(nl.IFLA_PROP_LIST, b"")),
    )


def _string(payload: bytes) -> str:
    # A name need not be text. Ours are; of others it is only shown, never sent back.
    return payload.rstrip(b"\0").decode(errors="backslashreplace")


def _other_names(properties: bytes) -> tuple[str, ...]:
    """Decode IFLA_PROP_LIST, in which one attribute repeats."""
    names: list[str] = []
    at = 0
    while at + 4 <= len(properties):
        length, kind = nl.ATTRIBUTE.unpack_from(properties, at)
        if length < 4:
            break
        if kind & nl.NLA_TYPE_MASK == nl.IFLA_ALT_IFNAME:
            names.append(_string(properties[at + 4 : at + length]))
        at += (length + 3) & ~3
    return tuple(names)


def _per_family(spec: bytes) -> tuple[bool, dict[str, bool]]:
    """Return (generates no link-local address, IPv4 settings by name) of IFLA_AF_SPEC."""
    families = nl.attributes(spec, 0, len(spec))
    # A kernel without IPv6, or an MTU below IPv6's least, gives no AF_INET6: nothing to silence.
    silent = True
    if v6 := families.get(nl.AF_INET6):
        mode = nl.attributes(v6, 0, len(v6)).get(nl.IFLA_INET6_ADDR_GEN_MODE, b"\0")
        silent = mode[0] == nl.IN6_ADDR_GEN_MODE_NONE
    conf = b""
    if v4 := families.get(nl.AF_INET):
        conf = nl.attributes(v4, 0, len(v4)).get(nl.IFLA_INET_CONF, b"")
    return silent, {
        name: len(conf) >= 4 * number and conf[4 * number - 4 : 4 * number] != _OFF
        for name, number in nl.DEVCONF.items()
    }
