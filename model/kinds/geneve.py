"""Ethernet over UDP to another host, RFC 8926 (drivers/net/geneve.c)."""

from model.kinds.table import Kind, address, number, word

DF = {"unset": 0, "set": 1, "inherit": 2}  # GENEVE_DF_*, linux/if_link.h
PORT = 6081  # RFC 8926
OVERHEAD = 8 + 8 + 14  # bytes beside the outer IP header: UDP, GENEVE, inner Ethernet

KIND = Kind(
    "geneve",
    attributes=(  # IFLA_GENEVE_*, linux/if_link.h
        number("vni", 1, "=I"),
        address("remote", 2, 7),
        number("ttl", 3, "=B"),
        number("tos", 4, "=B"),
        number("port", 5, ">H"),
        word("df", 13, "=B", DF),
    ),
)
