"""One 802.1Q tag of a parent interface (net/8021q)."""

from model.kinds.table import Kind, number

KIND = Kind(
    "vlan",
    recreate=frozenset({"kind", "parent"}),
    attributes=(number("vlanid", 1, "=H"),),  # IFLA_VLAN_ID, linux/if_link.h
    stacked=True,
)
