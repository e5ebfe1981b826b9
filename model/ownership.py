"""How a Relink that remembers nothing recognises what it made: marks kept by the kernel itself."""

from __future__ import annotations

import hashlib

# The first three hex digits of every interface group of ours; the other five are a hash of the
# instance, so that two sidecars on one host never see each other's links.
GROUP_PREFIX = 0x5E1_00000
GROUP_PREFIX_MASK = 0xFFF_00000

# IFA_PROTO and rtm_protocol of what we add: a number that linux/if_addr.h, linux/rtnetlink.h and
# iproute2's rt_protos leave free (neither has anything between 100 and 185).
PROTOCOL = 158


def group_of(instance: str) -> int:
    """Return the interface group (IFLA_GROUP, 32 bits) that marks the links of `instance`."""
    digest = hashlib.blake2b(instance.encode(), digest_size=4, person=b"relink-group").digest()
    return GROUP_PREFIX | (int.from_bytes(digest, "big") & ~GROUP_PREFIX_MASK)


def is_relink_group(group: int) -> bool:
    """Tell whether some instance of Relink made a link with this group."""
    return group & GROUP_PREFIX_MASK == GROUP_PREFIX
