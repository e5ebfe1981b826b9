"""How a Relink that remembers nothing recognises what it made: marks kept by the kernel itself."""

from __future__ import annotations

import hashlib

# The first three hex digits of every interface group of ours; the other five are a hash of the
# instance, so that two sidecars on one host never see each other's links.
GROUP_PREFIX = 0x5E1_00000
GROUP_PREFIX_MASK = 0xFFF_00000

# IFA_PROTO, rtm_protocol, NDA_PROTOCOL and FRA_PROTOCOL of what we add: a number that
# linux/if_addr.h, linux/rtnetlink.h and iproute2's rt_protos leave free (neither has anything
# between 100 and 185).
PROTOCOL = 158

# The numbers of routing tables that answers leave by: two hex digits of ours, four of the instance,
# two for the link.
_TABLE_PREFIX = 0x5F


def group_of(instance: str) -> int:
    """Return the interface group (IFLA_GROUP, 32 bits) that marks the links of `instance`."""
    digest = hashlib.blake2b(instance.encode(), digest_size=4, person=b"relink-group").digest()
    return GROUP_PREFIX | (int.from_bytes(digest, "big") & ~GROUP_PREFIX_MASK)


def is_relink_group(group: int) -> bool:
    """Tell whether some instance of Relink made a link with this group."""
    return group & GROUP_PREFIX_MASK == GROUP_PREFIX


def table_of(group: int, slot: int) -> int:
    """Return the routing table, and the firewall mark that leads to it, of a link of a container.

    `group` is that of the instance; `slot` (0 to 255) tells the links of one container apart.
    """
    return _TABLE_PREFIX << 24 | (group & 0xFFFF) << 8 | slot


def is_relink_table(table: int) -> bool:
    """Tell whether a routing table is one of some instance of Relink."""
    return table >> 24 == _TABLE_PREFIX


def is_table_of(group: int, table: int) -> bool:
    """Tell whether a routing table is one of the instance with this group."""
    return table >> 8 == table_of(group, 0) >> 8
