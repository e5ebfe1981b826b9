"""The things Relink can make: frozen values that say what should be, or what is.

One type serves both sides of the diff. In a desired resource `None` means "don't care"; an observed
resource carries every field that the kernel told. Values are canonical at construction, so that
`==` is the comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from model.keys import Key

RouteType = Literal[
    "unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw"
]
LinkKind = Literal[
    "veth", "bridge", "dummy", "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "vxlan", "geneve"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network interface.

    Attributes:
        key: where it is and what it is called.
        kind: IFLA_INFO_KIND, as `veth` or `bridge`; empty for a physical device.
        peer: the other end of a veth pair; of an observed veth only if that end was seen too.
        mac: lower-case, colon-separated.
        mtu: bytes.
        up: administratively up (IFF_UP).
        master: name of the bridge that it is a port of, empty for none.
        group: IFLA_GROUP, our mark of ownership.
        alias: IFLA_IFALIAS, for people.
        silent: IPv6 generates no link-local address (IFLA_INET6_ADDR_GEN_MODE none), so that the
            end sends no router solicitation, no neighbour discovery and no multicast report.
        snooping: a bridge listens to group membership (IFLA_BR_MCAST_SNOOPING), and for that joins
            the group of all snoopers, which it announces.
        promote: secondary IPv4 addresses outlive the removal of their primary
            (promote_secondaries), so that an address can be changed without a moment without one.
        index: interface index, only of an observed link; not part of what is declared.
        peer_index: IFLA_LINK of an observed veth: the index of the other end in its namespace.
        peer_away: the other end is in another namespace (IFLA_LINK_NETNSID is present).
        other_names: alternative names (IFLA_ALT_IFNAME), which nothing else can be called then.
    """

    key: Key
    kind: str
    peer: Key | None = None
    mac: str | None = None
    mtu: int | None = None
    up: bool | None = None
    master: str | None = None
    group: int | None = None
    alias: str | None = None
    silent: bool | None = None
    promote: bool | None = None
    snooping: bool | None = None
    index: int = field(default=0, compare=False)
    peer_index: int = field(default=0, compare=False)
    peer_away: bool = field(default=False, compare=False)
    other_names: tuple[str, ...] = field(default=(), compare=False)

    def master_key(self) -> Key:
        """Return the key of the bridge that this is a port of; only where there is one."""
        return Key(self.key.ns, "link", self.master or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address with its prefix on an interface, `10.0.1.5/24` or `fd00::5/64` (canonical).

    `owned` says whether it carries our IFA_PROTO; it is not part of what is declared.
    """

    key: Key
    ip: str
    owned: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of one namespace; see ip-route(8).

    Attributes:
        key: namespace, interface and identity (destination, metric, table).
        family: 4 or 6.
        dst: canonical prefix; `0.0.0.0/0` or `::/0` for the default route.
        via: gateway, or empty.
        src: preferred source address, or empty.
        metric: priority; the kernel's default is 0 for IPv4, 1024 for IPv6.
        table: routing table number; 254 is main.
        scope: RT_SCOPE number of an IPv4 route (0 global, 253 link, 254 host); 0 for IPv6.
        mtu, advmss: bytes, 0 for none.
        onlink: the gateway is taken as reachable on the link (RTNH_F_ONLINK).
        type: RTN_* by its ip-route(8) name.
        declared_on: the link whose declaration names it, for a route that has no interface.
    """

    key: Key
    family: Literal[4, 6]
    dst: str
    via: str = ""
    src: str = ""
    metric: int = 0
    table: int = 254
    scope: int = 0
    mtu: int = 0
    advmss: int = 0
    onlink: bool = False
    type: str = "unicast"
    owned: bool = field(default=True, compare=False)
    declared_on: Key | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offload:
    """Offload settings of an interface, by ethtool's short names, sorted: `(("tx", False),)`."""

    key: Key
    features: tuple[tuple[str, bool], ...]


Resource = Link | Address | Route | Offload


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One attribute that differs: its name, what is and what should be."""

    name: str
    before: object
    after: object


# What tells a resource apart rather than describes it, or is only known by observing.
_NOT_COMPARED = frozenset(
    {"key", "index", "peer_index", "peer_away", "other_names", "owned", "declared_on"}
)


def differences(before: Resource, after: Resource) -> tuple[FieldChange, ...]:
    """Return the fields in which `before` is not as `after` declares; None matches everything.

    Raises:
        TypeError: the two are not of one type.
    """
    if type(before) is not type(after):
        raise TypeError(f"{before.key} is a {type(before).__name__}, not {type(after).__name__}")
    if isinstance(before, Offload) and isinstance(after, Offload):
        now = dict(before.features)
        return tuple(
            FieldChange(name, now.get(name), wanted)
            for name, wanted in after.features
            if now.get(name) is not wanted
        )
    return tuple(
        FieldChange(name, getattr(before, name), wanted)
        for name in _COMPARED[type(after)]
        if (wanted := getattr(after, name)) is not None and getattr(before, name) != wanted
    )


_COMPARED: dict[type, tuple[str, ...]] = {
    cls: tuple(f.name for f in fields(cls) if f.name not in _NOT_COMPARED)
    for cls in (Link, Address, Route)
}


def link_of(key: Key) -> Key | None:
    """Return the key of the interface that a resource lives on, None for routes without one."""
    if not key.dev:
        return None
    return key if key.type == "link" else Key(key.ns, "link", key.dev)
