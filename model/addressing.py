"""Arithmetic of addresses: what replica 5 gets when replica 1 is declared."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping

IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
DEVICE_NAME_MAX = 15  # IFNAMSIZ - 1, linux/if.h


class AddressError(ValueError):
    """An address that cannot be; the message says why and what is allowed."""


def parse_interface(text: str) -> IPInterface:
    """Parse `10.0.1.5/24` or `fd00::5/64`; a bare address is a host (/32, /128).

    Raises:
        AddressError: it is neither.
    """
    try:
        address, slash, prefix = text.strip().partition("/")
        if slash and not (prefix.isascii() and prefix.isdigit()):
            raise ValueError  # noqa: TRY301 - netmasks would be taken by ipaddress, not by conlink
        if "%" in address:
            raise ValueError  # noqa: TRY301 - a zone belongs to a host, not to a declaration
        return ipaddress.ip_interface(text.strip())
    except ValueError:
        raise AddressError(
            f"{text!r} is not an address with a prefix length, as 10.0.1.1/24 or fd00::1/64"
        ) from None


def no_host(address: IPAddress) -> str:
    """Return what an address is that packets to another host cannot have, empty if they can.

    RFC 6890; RFC 4291, sections 2.5.5.2 and 2.5.6 (link-local: which link, only a host knows).
    """
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        kinds = ("is_unspecified", "is_multicast", "is_loopback")
        [kind] = [kind for kind in kinds if getattr(address, kind)]
        return f"a{'n' if kind == 'is_unspecified' else ''} {kind[3:]} address"
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_link_local:
            return "a link-local address"
        return "an IPv4-mapped address" if address.ipv4_mapped else ""
    if address.is_reserved:
        return "a reserved address"
    return "an address of this network" if address in _THIS_NETWORK else ""


def parse_mac(text: str) -> str:
    """Return `text` as a canonical MAC.

    Raises:
        AddressError: it is not six pairs of hex digits, or it is a multicast or zero address,
            which no interface can have.
    """
    mac = text.strip().lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise AddressError(f"{text!r} is not a MAC address, as 02:00:00:00:00:01")
    if int(mac[:2], 16) & 1:
        raise AddressError(f"{text!r} is a multicast address (its first octet is odd)")
    if mac == "00:00:00:00:00:00":
        raise AddressError(f"{text!r} is the zero address; leave 'mac' out to be given one")
    return mac


def offset_interface(base: IPInterface, offset: int) -> IPInterface:
    """Return `base` plus `offset`, within its prefix.

    Raises:
        AddressError: the result is past the prefix, or is its broadcast address.
    """
    if offset == 0:
        return base
    network = base.network
    value = int(base.ip) + offset
    last = int(network.broadcast_address)
    if value > last:
        raise AddressError(f"{base} + {offset} is past the end of {network}")
    if value == last and base.version == 4 and network.prefixlen < 31:
        raise AddressError(f"{base} + {offset} is the broadcast address of {network}")
    return (
        ipaddress.ip_interface((value, network.prefixlen))
        if base.version == 4
        else (ipaddress.IPv6Interface((value, network.prefixlen)))
    )


def offset_mac(mac: str, offset: int) -> str:
    """Return `mac` plus `offset`.

    Raises:
        AddressError: the result leaves the vendor half (the first three octets change).
    """
    value = int(mac.replace(":", ""), 16) + offset
    if value >> 24 != int(mac.replace(":", ""), 16) >> 24:
        raise AddressError(f"{mac} + {offset} runs over into the first three octets")
    digits = f"{value:012x}"
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def stable_mac(instance: str, owner: str, dev: str, offset: int) -> str:
    """Return the MAC of an interface that declares none: locally administered, same each time.

    The first octet is c2, as conlink's was; the last two count replicas.
    """
    seed = f"{instance}\0{owner}\0{dev}".encode()
    digest = hashlib.blake2b(seed, digest_size=3, person=b"relink-mac").digest()
    value = 0xC2 << 40 | int.from_bytes(digest, "big") << 16
    return offset_mac(":".join(f"{value:012x}"[i : i + 2] for i in range(0, 12, 2)), offset)


def _can_be_a_name(name: str) -> bool:
    # dev_valid_name(), net/core/dev.c; and a % stands for a number that the kernel chooses.
    return (
        len(name.encode()) <= DEVICE_NAME_MAX
        and name.isprintable()
        and not re.search(r"[\s/:%]", name)
    )


def outer_names(full: Mapping[str, str], container_id: str) -> dict[str, str]:
    """Shorten the names of the outer ends of one container's links to what an interface may have.

    `full` maps each interface to the name that its outer end should have, `<owner>-<dev>`. A longer
    one, or one that no interface can have, becomes `c<8 of id>-<5 of dev>` as in conlink while that
    is unique in the container, and a hash of the whole name where it is not.
    """
    names = dict(full)
    long = [dev for dev, name in full.items() if not _can_be_a_name(name)]
    short = {dev: f"c{container_id[:8]}-{dev[:5]}" for dev in long}
    for dev in long:
        unique = [*short.values(), *full.values()].count(short[dev]) == 1
        plain = short[dev].isascii() and container_id[:8].isalnum() and len(container_id) >= 12
        if unique and plain:
            names[dev] = short[dev]
        else:
            whole = f"{container_id}\0{full[dev]}".encode()
            names[dev] = f"c{hashlib.blake2b(whole, digest_size=7).hexdigest()}"
    return names
