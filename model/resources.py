"""The things Relink can make: frozen values that say what should be, or what is.

One type serves both sides of the diff. In a desired resource `None` means "don't care"; an observed
resource carries every field that the kernel told. Values are canonical at construction, so that
`==` is the comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from model.keys import Key, link_key
from model.netem import Netem

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
        parent: the interface that one of the vlan family is stacked on, as in another namespace.
        settings: what is peculiar to the kind, by the names of its table in model/kinds, sorted.
        mac: lower-case, colon-separated.
        mtu: bytes.
        up: administratively up (IFF_UP).
        master: name of the bridge that it is a port of, empty for none.
        group: IFLA_GROUP, our mark of ownership.
        alias: IFLA_IFALIAS, for people.
        silent: IPv6 generates no link-local address (IFLA_INET6_ADDR_GEN_MODE none), so that the
            end sends no router solicitation, no neighbour discovery and no multicast report.
        forwarding: packets that it receives are routed on (net.ipv4.conf.<dev>.forwarding).
        src_valid_mark: reverse path checks respect the packet's mark, as replies will
            (net.ipv4.conf.<dev>.src_valid_mark).
        promote: secondary IPv4 addresses outlive the removal of their primary
            (promote_secondaries), so that an address can be changed without a moment without one.
        index: interface index, only of an observed link; not part of what is declared.
        peer_index: IFLA_LINK of an observed link: the index of the other end of a veth, or of the
            parent, in its namespace.
        peer_away: that other one is in another namespace (IFLA_LINK_NETNSID is present).
        other_names: alternative names (IFLA_ALT_IFNAME), which nothing else can be called then.
        qdisc: kind of the root qdisc of an observed link (IFLA_QDISC).
    """

    key: Key
    kind: str
    peer: Key | None = None
    parent: Key | None = None
    settings: tuple[tuple[str, object], ...] = ()
    mac: str | None = None
    mtu: int | None = None
    up: bool | None = None
    master: str | None = None
    group: int | None = None
    alias: str | None = None
    silent: bool | None = None
    promote: bool | None = None
    forwarding: bool | None = None
    src_valid_mark: bool | None = None
    index: int = field(default=0, compare=False)
    peer_index: int = field(default=0, compare=False)
    peer_away: bool = field(default=False, compare=False)
    other_names: tuple[str, ...] = field(default=(), compare=False)
    qdisc: str = field(default="", compare=False)

    def master_key(self) -> Key:
        """Return the key of the bridge that this is a port of; only where there is one."""
        return link_key(self.key.ns, self.master or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address with its prefix on an interface, `10.0.1.5/24` or `fd00::5/64` (canonical).

    `routed`: the route to its prefix is there, which the kernel makes with it and anybody may
    delete; None is "don't care". `owned` says whether it carries our IFA_PROTO; it is not part of
    what is declared.
    """

    key: Key
    ip: str
    routed: bool | None = True
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
    """Offload settings of an interface, by ethtool's names, sorted: `(("tx", False),)`."""

    key: Key
    features: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Ring, coalesce or channel parameters of an interface, by ethtool(8)'s names, sorted.

    The key's detail is `ring`, `coalesce` or `channels`.
    """

    key: Key
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EthtoolCall:
    """One run of ethtool(8) in the life of an interface, for what has no typed form.

    Attributes:
        key: of the interface; the detail is a digest of `argv`.
        argv: ethtool's verb and its arguments, without the program and the device.
    """

    key: Key
    argv: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qdisc:
    """The root queueing discipline of an interface.

    Attributes:
        key: of the interface; the detail is `root`.
        kind: `netem`, or whatever somebody else has put there.
        netem: its impairments; None where `kind` is another.
        owned: it carries our handle.
    """

    key: Key
    netem: Netem | None
    kind: str = "netem"
    owned: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """All that an interface receives leaves by another, unchanged: one half of a patch.

    A u32 filter that matches everything, with a mirred action, on the ingress qdisc `ffff:`.
    `target` is None where the interface that it led to is gone. `owned`: it carries our handle.
    Of an observed one: `handle` is the whole handle of the filter, the first part of which the
    kernel chooses; `alone_on` is the largest thing that goes with it because nothing else is on
    it, which nobody can ask the kernel for in the message that removes it.
    """

    key: Key
    target: Key | None
    owned: bool = field(default=True, compare=False)
    handle: int = field(default=0, compare=False)
    alone_on: Literal["", "preference", "qdisc"] = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NatTable:
    """Everything that Relink has in nftables of one namespace: one table, replaced as a whole.

    Attributes:
        key: of the namespace.
        rules: model.nft's canonical lines, in order; what is compared.
        summary: the same for people, `tcp 80 -> 10.0.1.1:80`, sorted.
    """

    key: Key
    rules: tuple[str, ...]
    summary: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A permanent neighbour entry: the hardware address of an IP address on an interface.

    The key's detail is the address. `owned`: it carries our protocol number (NDA_PROTOCOL).
    """

    key: Key
    mac: str
    owned: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A routing policy rule: such packets use that table; see ip-rule(8).

    Attributes:
        key: its detail names all of it (model.rule).
        family: 4 or 6.
        mark: firewall mark of the packets, 0 for any.
        table: routing table number.
        priority: rules with lower ones come first; that of the main table is 32766.
        protocol: `tcp` or `udp`, empty for any.
        sports: first and last source port, (0, 0) for any; the kernel takes none above
            65534 (fib_rule_port_range_valid() in include/net/fib_rules.h).
        specific: default routes of the table do not count (suppress_prefixlength 0).
        owned: it carries our protocol number (FRA_PROTOCOL).
    """

    key: Key
    family: Literal[4, 6]
    mark: int
    table: int
    priority: int
    protocol: str = ""
    sports: tuple[int, int] = (0, 0)
    specific: bool = False
    owned: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl:
    """A kernel setting of a namespace; the key's detail is its path below /proc/sys."""

    key: Key
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsBridge:
    """A bridge of Open vSwitch; the key's dev is its name.

    Attributes:
        datapath: `system` (the kernel's) or `netdev` (userspace).
        mac: other_config:hwaddr.
        plain: it is a learning switch by itself (fail_mode standalone) that asks nobody for groups.
        owned: its external_ids name this instance.
    """

    key: Key
    datapath: str
    mac: str = ""
    plain: bool = True
    owned: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsPort:
    """An interface plugged into a bridge of Open vSwitch; the key's dev is that interface.

    `owned`: its external_ids name this instance. `error`: what Open vSwitch says is wrong with it.
    """

    key: Key
    bridge: str
    owned: bool = field(default=True, compare=False)
    error: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program run once in the life of a container, when all its links are as declared.

    Attributes:
        key: of the container's namespace; the detail is a digest of `argv`.
        argv: executed as it is.
        needs: what must be as declared first.
        code: its exit code; of an observed one None while it runs, or if its end was not seen.
    """

    key: Key
    argv: tuple[str, ...] = field(default=(), compare=False)
    needs: tuple[Key, ...] = field(default=(), compare=False)
    code: int | None = None


Resource = (
    Link
    | Address
    | Route
    | Offload
    | Setting
    | EthtoolCall
    | Qdisc
    | Redirect
    | NatTable
    | Neighbour
    | Rule
    | Sysctl
    | OvsBridge
    | OvsPort
    | Command
)


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One attribute that differs: its name, what is and what should be."""

    name: str
    before: object
    after: object


# Not compared as fields: the key tells a resource apart, and the others go by the names in them.
_NOT_COMPARED = frozenset({"key", "settings", "features", "values"})


def differences(before: Resource, after: Resource) -> tuple[FieldChange, ...]:
    """Return the fields in which `before` is not as `after` declares; None matches everything.

    Raises:
        TypeError: the two are not of one type.
    """
    if type(before) is not type(after):
        raise TypeError(f"{before.key} is a {type(before).__name__}, not {type(after).__name__}")
    named, wanted = _named(before), _named(after)
    return tuple(
        FieldChange(field, getattr(before, field), value)
        for field in _COMPARED[type(after)]
        if (value := getattr(after, field)) is not None and getattr(before, field) != value
    ) + tuple(
        FieldChange(name, named.get(name), value)
        for name, value in wanted.items()
        if named.get(name) != value
    )


def _named(resource: Resource) -> dict[str, object]:
    """Return the values that go by names: only those that are declared are compared."""
    match resource:
        case Link():
            return dict(resource.settings)
        case Offload():
            return dict(resource.features)
        case Setting():
            return dict(resource.values)
    return {}


_COMPARED: dict[type, tuple[str, ...]] = {
    cls: tuple(f.name for f in fields(cls) if f.compare and f.name not in _NOT_COMPARED)
    for cls in get_args(Resource)
}


def link_of(key: Key) -> Key | None:
    """Return the key of the interface that a resource lives on, None for routes without one."""
    if not key.dev:
        return None
    return key if key.type == "link" else Key(key.ns, "link", key.dev)
