"""Ethernet over UDP to another host, RFC 7348 (drivers/net/vxlan)."""

from model.kinds.table import Kind, address, flag, number, word

DF = {"unset": 0, "set": 1, "inherit": 2}  # VXLAN_DF_*, linux/if_link.h
PORT = 4789  # RFC 7348; the kernel's own default is 8472
OVERHEAD = 8 + 8 + 14  # bytes beside the outer IP header: UDP, VXLAN, inner Ethernet

KIND = Kind(
    "vxlan",
    attributes=(  # IFLA_VXLAN_*, linux/if_link.h; vxlan_changelink() takes the remote in place
        number("vni", 1, "=I"),
        address("remote", 2, 16, in_place=True),
        address("local", 4, 17),
        number("ttl", 5, "=B"),
        number("tos", 6, "=B"),
        flag("learning", 7),
        number("port", 15, ">H"),
        word("df", 29, "=B", DF),
    ),
)
