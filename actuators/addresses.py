"""Adding and removing addresses; one is all key, but for the route that comes with it."""

from __future__ import annotations

import ipaddress

from actuators.requests import Numbers, Request
from model import netlink as nl
from model.ownership import PROTOCOL
from model.resources import Address, link_of

_MAIN, _SCOPE_LINK, _UNICAST = 254, 253, 1  # linux/rtnetlink.h
_METRIC6 = 256  # IP6_RT_PRIO_ADDRCONF, linux/ipv6_route.h


def create(address: Address, numbers: Numbers) -> list[Request]:
    """Add an address with our mark.

    IPv6 without duplicate address detection: declared addresses are unique (the configuration is
    checked for it), and a tentative address would answer nobody for a second.
    """
    flags = nl.u32(nl.IFA_FLAGS, nl.IFA_F_NODAD) if ":" in address.ip else b""
    mark = nl.attribute(nl.IFA_PROTO, bytes([PROTOCOL]))
    message = nl.message(
        nl.RTM_NEWADDR,
        nl.NLM_F_ACK | nl.NLM_F_CREATE | nl.NLM_F_EXCL,
        _body(address, numbers),
        flags,
        mark,
    )
    return [Request(address.key.ns, message)]


def modify(address: Address, numbers: Numbers) -> list[Request]:
    """Put back the route to its prefix, as the kernel makes it with an address.

    See fib_add_ifaddr() in net/ipv4/fib_frontend.c, addrconf_prefix_route() in net/ipv6/addrconf.c.
    """
    ip = ipaddress.ip_interface(address.ip)
    four = ip.version == 4
    link = link_of(address.key)
    message = nl.message(
        nl.RTM_NEWROUTE,
        nl.NLM_F_ACK | nl.NLM_F_CREATE | nl.NLM_F_EXCL,
        nl.RTMSG.pack(
            nl.AF_INET if four else nl.AF_INET6, ip.network.prefixlen, 0, 0, _MAIN,
            nl.RTPROT_KERNEL, _SCOPE_LINK if four else 0, _UNICAST, 0,
        ),
        nl.attribute(nl.RTA_DST, ip.network.network_address.packed),
        nl.u32(nl.RTA_OIF, numbers.index(link) if link else 0),
        nl.attribute(nl.RTA_PREFSRC, ip.ip.packed) if four else nl.u32(nl.RTA_PRIORITY, _METRIC6),
    )  # fmt: skip
    return [Request(address.key.ns, message)]


def delete(address: Address, numbers: Numbers) -> list[Request]:
    """Remove an address."""
    message = nl.message(nl.RTM_DELADDR, nl.NLM_F_ACK, _body(address, numbers))
    return [Request(address.key.ns, message, gone_is_done=True)]


def _body(address: Address, numbers: Numbers) -> bytes:
    ip = ipaddress.ip_interface(address.ip)
    family = nl.AF_INET if ip.version == 4 else nl.AF_INET6
    link = link_of(address.key)
    index = numbers.index(link) if link else 0
    raw = ip.ip.packed
    return (
        nl.IFADDR.pack(family, ip.network.prefixlen, 0, 0, index)
        + nl.attribute(nl.IFA_LOCAL, raw)
        + nl.attribute(nl.IFA_ADDRESS, raw)
    )
