"""Netlink messages as bytes: headers and attributes, to and from; no sockets.

Only the layouts that every pass needs are here, because generic decoding was the cost of a pass
(bench/codec.py compares this with pyroute2); tests/kernel/test_codec.py holds it against
pyroute2 message by message. Sources: linux/netlink.h, linux/rtnetlink.h, linux/if_link.h,
linux/if_addr.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

# linux/netlink.h
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x2, 0x4, 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSGERR_ATTR_MSG = 1
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF
SOL_NETLINK = 270
NETLINK_LISTEN_ALL_NSID, NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 8, 10, 11, 12

# linux/rtnetlink.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWQDISC, RTM_DELTFILTER = 36, 45
RTM_NEWNSID, RTM_GETNSID = 88, 90
RTM_NEWLINKPROP = 108
RTNLGRP_LINK, RTNLGRP_TC, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE = 1, 4, 5, 7
RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_NSID = 9, 11, 28
RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE = 8, 19
RTEXT_FILTER_SKIP_STATS = 8

SIOCGSKNS = 0x894C  # linux/sockios.h: a descriptor of a socket's namespace

# linux/if_link.h; veth's from linux/veth.h
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_QDISC, IFLA_MASTER = 1, 3, 4, 5, 6, 10
IFLA_LINKINFO, IFLA_NET_NS_PID, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP = 18, 19, 20, 26, 27
IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_LINK_NETNSID, IFLA_TARGET_NETNSID = 28, 29, 37, 46
IFLA_PROP_LIST, IFLA_ALT_IFNAME = 52, 53
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
VETH_INFO_PEER = 1
IFLA_INET_CONF, IFLA_INET6_ADDR_GEN_MODE = 1, 8
IN6_ADDR_GEN_MODE_NONE = 1
# linux/ip.h; numbered from 1, sent as an array from 0
IPV4_DEVCONF_FORWARDING, IPV4_DEVCONF_PROMOTE_SECONDARIES, IPV4_DEVCONF_SRC_VMARK = 1, 20, 24
DEVCONF = {  # by the field of resources.Link
    "promote": IPV4_DEVCONF_PROMOTE_SECONDARIES,
    "forwarding": IPV4_DEVCONF_FORWARDING,
    "src_valid_mark": IPV4_DEVCONF_SRC_VMARK,
}
IFF_UP, IFF_LOOPBACK = 0x1, 0x8
AF_INET, AF_INET6 = 2, 10

# linux/if_addr.h
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS, IFA_PROTO = 1, 2, 8, 11
IFA_F_NODAD = 0x02

# linux/rtnetlink.h
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS = 1, 4, 5, 6, 7, 8
RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 9, 15, 18
RTAX_MTU, RTAX_ADVMSS = 2, 8
RTNH_F_ONLINK = 4
RTM_F_CLONED = 0x200
RTPROT_KERNEL = 2
ROUTE_TYPES = {
    1: "unicast", 2: "local", 3: "broadcast", 6: "blackhole", 7: "unreachable", 8: "prohibit",
    9: "throw",
}  # fmt: skip

# linux/pkt_sched.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h
RTM_DELQDISC, RTM_GETQDISC, RTM_NEWTFILTER, RTM_GETTFILTER = 37, 38, 44, 46
TCA_KIND, TCA_OPTIONS = 1, 2
TC_H_ROOT, TC_H_INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
INGRESS_HANDLE = 0xFFFF0000  # `ffff:`, which the kernel gives to ingress and to clsact
INGRESS_BLOCK = 0xFFFFFFF2  # TC_H_MIN_INGRESS on it: names the same filters on either of the two
TCM = struct.Struct("=B3xiIII")  # tcmsg: family, interface index, handle, parent, info
ETH_P_ALL = 3  # linux/if_ether.h
TCA_NETEM_CORR, TCA_NETEM_DELAY_DIST, TCA_NETEM_REORDER, TCA_NETEM_CORRUPT = 1, 2, 3, 4
TCA_NETEM_LOSS, TCA_NETEM_RATE, TCA_NETEM_ECN, TCA_NETEM_RATE64 = 5, 6, 7, 8
TCA_NETEM_LATENCY64, TCA_NETEM_JITTER64, TCA_NETEM_SLOT, TCA_NETEM_SLOT_DIST = 10, 11, 12, 13
TCA_NETEM_PRNG_SEED = 14  # since 6.6
NETEM_LOSS_GI, NETEM_LOSS_GE = 1, 2
TCA_U32_SEL, TCA_U32_ACT = 5, 7
TC_U32_TERMINAL = 1
U32_SEL = struct.Struct("=BBBxHHhhI")  # tc_u32_sel: flags, offset shift, number of keys, …
TCA_ACT_KIND, TCA_ACT_OPTIONS = 1, 2
TC_ACT_STOLEN = 4
TCA_MIRRED_PARMS = 2
TCA_EGRESS_REDIR = 1
MIRRED = struct.Struct("=IIiiiiI")  # tc_mirred: index, capab, action, refcnt, bindcnt, eaction, to

# linux/neighbour.h, linux/fib_rules.h; fib_rule_hdr is laid out as rtmsg
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NDA_DST, NDA_LLADDR, NDA_PROTOCOL = 1, 2, 12
NUD_PERMANENT = 0x80
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN = 6, 10, 13, 14
FRA_TABLE, FRA_FWMASK, FRA_PAD, FRA_PROTOCOL = 15, 16, 18, 21
FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_SPORT_MASK = 22, 23, 28
FR_ACT_TO_TBL = 1

# linux/netfilter/nfnetlink.h, nf_tables.h; linux/netfilter.h
NETLINK_NETFILTER = 12
NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFT_MSG_GETTABLE, NFT_MSG_DELTABLE = 10 << 8 | 1, 10 << 8 | 2
NFTA_TABLE_NAME = 1
NFPROTO_INET = 1

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port id
IFINFO = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
IFADDR = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBI")  # rtmsg: family, lengths, tos, table, protocol, scope, type…
NDMSG = struct.Struct("=B3xiHBB")  # ndmsg: family, interface index, state, flags, type
NFGEN = struct.Struct("=BBH")  # nfgenmsg: family, version, resource
PORTS = struct.Struct("=HH")  # fib_rule_port_range
U16 = struct.Struct("=H")
RTGEN = struct.Struct("=B3x")  # rtgenmsg, padded
ATTRIBUTE = struct.Struct("=HH")
U32 = struct.Struct("=I")
I32 = struct.Struct("=i")


def attribute(kind: int, payload: bytes) -> bytes:
    """Encode one attribute, padded to four bytes."""
    return ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def u32(kind: int, value: int) -> bytes:
    """Encode a 32-bit attribute in host order."""
    return ATTRIBUTE.pack(8, kind) + U32.pack(value)


def text(kind: int, value: str) -> bytes:
    """Encode a string with its terminating zero."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *attributes: bytes) -> bytes:
    """Encode attributes inside one attribute."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def message(kind: int, flags: int, *parts: bytes) -> bytes:
    """Encode a message with sequence number 0, which the sender replaces."""
    body = b"".join(parts)
    return HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def numbered(request: bytes, sequence: int) -> bytes:
    """Give a message a sequence number, which its answers will have."""
    return request[:8] + U32.pack(sequence) + request[12:]


def attributes(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """Decode the attributes between two offsets: type without its flags → payload."""
    found: dict[int, bytes] = {}
    unpack = ATTRIBUTE.unpack_from
    while start + 4 <= end:
        length, kind = unpack(data, start)
        if length < 4:
            break
        found[kind & NLA_TYPE_MASK] = data[start + 4 : start + length]
        start += (length + 3) & ~3
    return found


def messages(data: bytes) -> Iterable[tuple[int, int, int, int, int]]:
    """Yield (type, flags, sequence, start of the body, end) of each message in a datagram."""
    at, size = 0, len(data)
    unpack = HEADER.unpack_from
    while at + 16 <= size:
        length, kind, flags, sequence, _port = unpack(data, at)
        if length < 16:
            break
        yield kind, flags, sequence, at + 16, at + length
        at += (length + 3) & ~3


def decode_error(data: bytes, start: int, end: int, flags: int) -> tuple[int, str]:
    """Return (errno, the kernel's own words or "") of an NLMSG_ERROR body; errno 0 is an ACK."""
    errno = -I32.unpack_from(data, start)[0]
    if not errno or not flags & NLM_F_ACK_TLVS:
        return errno, ""
    length = HEADER.unpack_from(data, start + 4)[0]
    skip = 16 if flags & NLM_F_CAPPED else (length + 3) & ~3
    words = attributes(data, start + 4 + skip, end).get(NLMSGERR_ATTR_MSG, b"")
    return errno, words.rstrip(b"\0").decode(errors="replace")
