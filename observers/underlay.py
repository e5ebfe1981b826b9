"""How large a packet may be on the way to a tunnel's remote, as the kernel routes it now."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from model import netlink as nl
from model.keys import NsKey
from observers.links import decode
from observers.namespaces import inside, path_of
from observers.netlink import look_up, open_socket


def mtus(plane: NsKey, remotes: Iterable[str]) -> dict[str, int]:
    """Return the MTU of the way to each remote that there is a way to, in bytes.

    Raises:
        OSError: the data plane's namespace cannot be entered.
        observers.namespaces.StrandedError: the calling thread is lost.
    """
    wanted = sorted(set(remotes))
    if not wanted:
        return {}
    with inside(path_of(plane)), open_socket() as sock:
        found = {remote: _mtu(plane, sock, remote) for remote in wanted}
    return {remote: mtu for remote, mtu in found.items() if mtu}


def _mtu(plane: NsKey, sock: socket.socket, remote: str) -> int:
    """Return the MTU of the route, or of the interface that it leaves by; 0 if there is none."""
    address = ipaddress.ip_address(remote)
    family, bits = (nl.AF_INET, 32) if address.version == 4 else (nl.AF_INET6, 128)
    question = nl.message(
        nl.RTM_GETROUTE,
        0,
        nl.RTMSG.pack(family, bits, 0, 0, 0, 0, 0, 0, 0),
        nl.attribute(nl.RTA_DST, address.packed),
    )
    try:
        (body,) = look_up(sock, [question])
        if body is None:
            return 0
        data, start, end = body
        found = nl.attributes(data, start + 12, end)
        metrics = found.get(nl.RTA_METRICS, b"")
        limits = nl.attributes(metrics, 0, len(metrics))
        if nl.RTAX_MTU in limits and (mtu := nl.U32.unpack(limits[nl.RTAX_MTU])[0]):
            return int(mtu)
        index = nl.U32.unpack(found[nl.RTA_OIF])[0]
        (link,) = look_up(sock, [nl.message(nl.RTM_GETLINK, 0, nl.IFINFO.pack(0, 0, index, 0, 0))])
    except OSError:  # unreachable: no way, so nothing is known of it
        return 0
    seen = decode(plane, *link) if link else None
    return (seen.mtu or 0) if seen else 0
