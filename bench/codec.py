"""Decoding a link dump, ours against pyroute2's on the same bytes: the reason for our own codec."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from model import netlink as nl
from model.keys import SELF
from observers.links import decode

_MASK = nl.u32(nl.IFLA_EXT_MASK, nl.RTEXT_FILTER_SKIP_STATS)
_LINKS = nl.message(nl.RTM_GETLINK, nl.NLM_F_DUMP, nl.IFINFO.pack(0, 0, 0, 0, 0), _MASK)


def receive() -> list[bytes]:
    """Receive a dump of the data plane's links, as the kernel sends it."""
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.send(_LINKS)
        while True:
            data = sock.recv(65536)
            found.append(data)
            if any(kind == nl.NLMSG_DONE for kind, *_ in nl.messages(data)):
                return found


def ours(datagrams: list[bytes]) -> set[tuple[int, str, str]]:
    """Decode with our codec; return index, name and MAC of each link but loopback."""
    links = [
        link
        for data in datagrams
        for kind, _flags, _sequence, start, end in nl.messages(data)
        if kind == nl.RTM_NEWLINK and (link := decode(SELF, data, start, end))
    ]
    return {(link.index, link.key.dev, link.mac or "") for link in links}


def theirs(datagrams: list[bytes]) -> set[tuple[int, str, str]]:
    """Decode with pyroute2, the same attributes of each message as ours looks at."""
    marshal = MarshalRtnl()
    found = set()
    for data in datagrams:
        for message in marshal.parse(data):
            if message["header"]["type"] != nl.RTM_NEWLINK or message["flags"] & nl.IFF_LOOPBACK:
                continue
            mac = message.get_attr("IFLA_ADDRESS") or ""
            for name in ("IFLA_MTU", "IFLA_GROUP", "IFLA_IFALIAS", "IFLA_MASTER", "IFLA_AF_SPEC"):
                message.get_attr(name)
            found.add((message["index"], message.get_attr("IFLA_IFNAME"), mac))
    return found


def timed(work: Callable[[], object]) -> float:
    """Return how long a piece of work takes, in milliseconds."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3
