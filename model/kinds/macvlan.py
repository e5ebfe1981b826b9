"""Another hardware address on a parent interface (drivers/net/macvlan.c), and its tap."""

from model.kinds.table import Kind, word

# MACVLAN_MODE_*, linux/if_link.h
MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
DEFAULT = "vepa"  # what the kernel takes where none is named

KIND = Kind(
    "macvlan",
    recreate=frozenset({"kind", "parent"}),
    # In place among all but passthru, which the kernel refuses either way; so it is made anew.
    attributes=(word("mode", 1, "=I", MODES),),  # IFLA_MACVLAN_MODE
    stacked=True,
)
