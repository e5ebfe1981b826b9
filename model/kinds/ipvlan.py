"""Other IP addresses on a parent's hardware address (drivers/net/ipvlan)."""

from model.kinds.table import Kind, word

MODES = {"l2": 0, "l3": 1, "l3s": 2}  # IPVLAN_MODE_*, linux/if_link.h
DEFAULT = "l3"  # what the kernel takes where none is named

KIND = Kind(
    "ipvlan",
    recreate=frozenset({"kind", "parent"}),
    # The mode belongs to the parent: all of its ipvlans share it, and follow one that changes it.
    attributes=(word("mode", 1, "=H", MODES, in_place=True),),  # IFLA_IPVLAN_MODE
    stacked=True,
    has_mac=False,
)
