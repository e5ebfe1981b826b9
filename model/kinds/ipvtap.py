"""An ipvlan whose packets a program reads from /dev/tap<index> (drivers/net/ipvlan/ipvtap.c)."""

from model.kinds import ipvlan
from model.kinds.table import Kind

KIND = Kind(
    "ipvtap",
    recreate=ipvlan.KIND.recreate,
    attributes=ipvlan.KIND.attributes,
    stacked=True,
    has_mac=False,
)
