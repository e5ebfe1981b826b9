"""The marks by which a redirect is known for ours: what its filter is called in the kernel."""

from __future__ import annotations

import struct

from model import netlink as nl

# The filter's preference (1505), alone on it as node 5e1 of its hash table. The table's own number
# is the kernel's choice: 800 if no other u32 filter is there, `800::5e1` then.
PREFERENCE = 0x5E1
NODE = 0x5E1
NODE_MASK = 0xFFF  # TC_U32_NODE, linux/pkt_cls.h

# tcm_info: preference and protocol (all of them) of the filter.
_PROTOCOL = struct.unpack("=H", struct.pack(">H", nl.ETH_P_ALL))[0]
INFO: int = PREFERENCE << 16 | _PROTOCOL

# No key at all, so that everything matches. `match u32 0 0` would let through, unmatched, what
# has less than four bytes after its Ethernet header (u32_classify() in net/sched/cls_u32.c).
SELECTOR = nl.U32_SEL.pack(nl.TC_U32_TERMINAL, 0, 0, 0, 0, 0, 0, 0)


def is_ours(handle: int, info: int) -> bool:
    """Tell whether a u32 filter with this handle and tcm_info is a redirect of Relink."""
    return info == INFO and handle & NODE_MASK == NODE
