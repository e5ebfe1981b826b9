"""A macvlan whose packets a program reads from /dev/tap<index> (drivers/net/macvtap.c)."""

from model.kinds import macvlan
from model.kinds.table import Kind

KIND = Kind(
    "macvtap",
    recreate=macvlan.KIND.recreate,
    attributes=macvlan.KIND.attributes,
    stacked=True,
)
