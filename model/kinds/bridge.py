"""A Linux bridge (net/bridge)."""

from model.kinds.table import Kind, flag

KIND = Kind(
    "bridge",
    attributes=(
        # Membership snooping: with it the bridge joins the group of all snoopers, and says so.
        flag("snooping", 23, in_place=True),  # IFLA_BR_MCAST_SNOOPING, linux/if_link.h
    ),
)
