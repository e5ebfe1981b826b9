"""What one declared link of one container becomes: resources, and what it must be alone to have.

Refuses to know other containers, and what of it exists already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from model import ethtool, route
from model.addressing import AddressError, offset_interface, offset_mac, stable_mac
from model.declared import Config, LinkSpec
from model.facts import Facts
from model.forwarding import ways
from model.keys import HOST, Key, NsKey, link_key
from model.kinds import KINDS
from model.nft import Entry, Forward, Nat, unnameable
from model.plane import tunnel_mtu, tunnel_names
from model.resources import (
    Address,
    Link,
    Offload,
    OvsPort,
    Qdisc,
    Resource,
    Route,
    Setting,
)
from model.wanted import Claim, Join


@dataclass(frozen=True, slots=True)
class Place:
    """Where a link is made: in which container, and as which of its replicas.

    Attributes:
        ns: the container's namespace.
        offset: of the replica to the first one, 0 for a link that names its container.
        outer: the name of a veth's outer end, unless the link names it.
        slot: tells the links of one container apart, 0 to 255.
    """

    ns: NsKey
    offset: int
    outer: str
    slot: int = 0


@dataclass(slots=True)
class Made:
    """What a link becomes; `plane` and `own` are entries of the NAT tables on its two sides."""

    resources: list[Resource] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    join: Join | None = None
    plane: list[Entry] = field(default_factory=list)
    own: list[Entry] = field(default_factory=list)
    note: str = ""


def make(spec: LinkSpec, config: Config, facts: Facts, place: Place) -> Made:
    """Return what a link becomes for one replica.

    Raises:
        model.addressing.AddressError: an offset leads nowhere.
    """
    made = Made()
    if spec.type == "veth":
        _veth(spec, config, facts, place, made)
    else:
        made.resources.append(_other(spec, facts, place))
    # Open vSwitch's userspace datapath passes on what has no checksum: TCP never connects (3.1).
    forced = _mode(spec, config, facts) == "ovs" and facts.datapath == "netdev"
    made.resources += _on_it(spec, facts, place, checksums=forced)
    made.claims += _claims(spec, place.ns, made.resources)
    _translations(spec, facts, place, made)
    return made


def _translations(spec: LinkSpec, facts: Facts, place: Place, made: Made) -> None:
    ips = tuple(r.ip for r in made.resources if isinstance(r, Address))
    if (spec.nat or spec.forwards) and (wrong := unnameable(spec.dev)):
        raise AddressError(wrong)
    if spec.nat:
        made.own.append(Nat(spec.dev, ips, str(spec.nat)))
    if spec.forwards:
        inner = made.resources[0]
        mac = (inner.mac or "") if isinstance(inner, Link) else ""
        found = ways(spec, facts, place.ns, ips=ips, mac=mac, offset=place.offset, slot=place.slot)
        made.resources += found.resources
        made.claims += _way_claims(found.resources, facts.plane)
        made.plane += found.plane
        made.own += found.container
        for entry in found.plane:
            if isinstance(entry, Forward):
                made.claims += _port_claims(entry, facts.plane)


def _port_claims(entry: Forward, plane: NsKey) -> Iterator[Claim]:
    family = "IPv6" if ":" in entry.address else "IPv4"
    for port in range(entry.outside[0], entry.outside[1] + 1):
        yield Claim("port", str(plane), f"{port}/{entry.protocol} ({family}) of the sidecar")


def _way_claims(resources: Iterable[Resource], plane: NsKey) -> Iterator[Claim]:
    """Yield the addresses that something is forwarded to: the plane has one way to each."""
    for resource in resources:
        if isinstance(resource, Route) and resource.key.ns == plane:
            address = resource.key.detail.partition("/")[0]
            yield Claim("forwarded address", str(plane), address)


def _mode(spec: LinkSpec, config: Config, facts: Facts) -> str:
    """Return what the link's bridge is here, empty for a link without one."""
    return next((facts.mode(b) for b in config.bridges if b.name == spec.bridge), "")


def parent_of(spec: LinkSpec, ns: NsKey, plane: NsKey) -> Key | None:
    """Return the interface that a link of the vlan family is stacked on, None for the others."""
    if not KINDS[spec.type].stacked:
        return None
    where = {"conlink": plane, "host": HOST, "local": ns}[spec.base]
    return link_key(where, spec.outer_dev)


def _veth(spec: LinkSpec, config: Config, facts: Facts, place: Place, made: Made) -> None:
    inner = link_key(place.ns, spec.dev)
    outer = link_key(facts.plane, spec.outer_dev or place.outer)
    mode = _mode(spec, config, facts)
    mtu, made.note = _veth_mtu(spec, config, facts)
    end = Link(
        key=inner,
        kind="veth",
        mtu=mtu,
        up=spec.up,
        group=facts.group,
        alias=facts.alias(f"{inner} on {spec.bridge}"),
    )
    master = spec.bridge if mode == "linux" else ""
    made.resources += [
        _with_mac(end, spec, facts, place.offset, peer=outer),
        Link(
            key=outer, kind="veth", peer=inner, mtu=mtu, up=True, group=end.group,
            alias=end.alias, master=master, silent=True,
        ),
    ]  # fmt: skip
    if mode == "ovs":
        made.resources.append(
            OvsPort(key=Key(facts.plane, "ovs-port", outer.dev), bridge=spec.bridge)
        )
    if mode == "patch" and spec.forwards:
        raise AddressError(f"'forward' needs a bridge, and {spec.bridge} is a patch")
    if mode == "patch":
        made.join = Join(inner, spec.bridge, outer)
    made.claims.append(Claim("interface name", str(outer.ns), outer.dev))


def _veth_mtu(spec: LinkSpec, config: Config, facts: Facts) -> tuple[int, str]:
    """Return the MTU, and what is to be said about it: tunnels of the bridge lower it."""
    if spec.mtu:
        return spec.mtu, ""
    names = tunnel_names(config.tunnels)
    widths = [
        (tunnel_mtu(tunnel, facts), name)
        for tunnel, name in zip(config.tunnels, names, strict=True)
        if tunnel.bridge == spec.bridge
    ]
    mtu, name = min(widths, default=(facts.mtu, ""))
    return (mtu, f"mtu {mtu} to fit {name}") if mtu < facts.mtu else (facts.mtu, "")


def _other(spec: LinkSpec, facts: Facts, place: Place) -> Link:
    """Return a link without a second end: a dummy, or one of the vlan family."""
    settings: dict[str, object] = {}
    if spec.mode:
        settings["mode"] = spec.mode
    if spec.vlanid is not None:
        settings["vlanid"] = _vlanid(spec, place.offset)
    key = link_key(place.ns, spec.dev)
    parent = parent_of(spec, place.ns, facts.plane)
    link = Link(
        key=key,
        kind=spec.type,
        parent=parent,
        settings=tuple(sorted(settings.items())),
        # conlink's default MTU is not for the vlan family, which has its parent's.
        mtu=spec.mtu or (None if parent else facts.mtu),
        up=spec.up,
        group=facts.group,
        alias=facts.alias(f"{key} on {parent}" if parent else str(key)),
    )
    return _with_mac(link, spec, facts, place.offset)


def _vlanid(spec: LinkSpec, offset: int) -> int:
    """Return the tag of a replica.

    Raises:
        model.addressing.AddressError: it is past the last one.
    """
    vlanid = (spec.vlanid or 0) + (offset if "vlanid" in spec.offsets else 0)
    if vlanid > 4094:
        raise AddressError(f"vlanid {spec.vlanid} + {offset} is past 4094")
    return vlanid


def _with_mac(
    link: Link, spec: LinkSpec, facts: Facts, offset: int, peer: Key | None = None
) -> Link:
    """Return the container's end of a link, with its hardware address if it has one of its own."""
    mac = None
    # In passthru mode it takes its parent's, whatever it is given (macvlan_common_newlink()).
    if KINDS[link.kind].has_mac and spec.mode != "passthru":
        mac = (
            offset_mac(spec.mac, offset if "mac" in spec.offsets else 0)
            if spec.mac
            else stable_mac(facts.instance, str(spec.owner), spec.dev, offset)
        )
    return replace(
        link, mac=mac, peer=peer, promote=True, src_valid_mark=True if spec.forwards else None
    )


def _on_it(spec: LinkSpec, facts: Facts, place: Place, *, checksums: bool) -> Iterator[Resource]:
    """Yield what a container's end has on it; with `checksums` tx offload is off in any case."""
    ns, offset = place.ns, place.offset
    features: dict[str, bool] = {}
    if spec.type == "veth" and not facts.keep_veth_offload:
        features["tx"] = False
    if spec.ethtool:
        features.update(spec.ethtool.offloads)
    if checksums:
        features["tx"] = False
    if spec.ethtool:
        yield from _settings(spec.ethtool, link_key(ns, spec.dev))
    if features:
        yield Offload(key=Key(ns, "offload", spec.dev), features=tuple(sorted(features.items())))
    for declared in spec.ips:
        ip = str(offset_interface(declared, offset if "ip" in spec.offsets else 0))
        # By an interface that is down the kernel has no routes, not even those to its prefixes.
        routed = True if spec.up else None
        yield Address(key=Key(ns, "address", spec.dev, ip), ip=ip, routed=routed)
    for each in spec.routes:
        if not spec.up and each.type not in route.DEVICELESS:
            continue
        yield _route(each, ns, spec.dev)
    if spec.netem:
        yield Qdisc(key=Key(ns, "qdisc", spec.dev, "root"), netem=spec.netem)


def _settings(spec: ethtool.Ethtool, link: Key) -> Iterator[Resource]:
    for which, values in (
        ("ring", spec.ring),
        ("coalesce", spec.coalesce),
        ("channels", spec.channels),
    ):
        if values:
            yield Setting(key=Key(link.ns, "setting", link.dev, which), values=values)
    for argv in spec.other:
        yield ethtool.call(link, argv)


def _route(spec: route.RouteSpec, ns: NsKey, dev: str) -> Route:
    deviceless = spec.type in route.DEVICELESS
    return Route(
        key=Key(ns, "route", "" if deviceless else dev, spec.identity),
        family=spec.family,
        dst=spec.dst,
        via=spec.via,
        src=spec.src,
        metric=spec.metric,
        table=spec.table,
        scope=spec.scope,
        mtu=spec.mtu,
        advmss=spec.advmss,
        onlink=spec.onlink,
        type=spec.type,
        declared_on=link_key(ns, dev) if deviceless else None,
    )


def _claims(spec: LinkSpec, ns: NsKey, resources: list[Resource]) -> Iterator[Claim]:
    """Yield what a link must be alone to have: on its switch or parent, and in its container."""
    segment = spec.bridge
    link = resources[0]
    if isinstance(link, Link) and (parent := link.parent):
        tag = dict(link.settings).get("vlanid")
        on_parent = f"{parent.ns.name} {parent.ns.id} {parent.dev}"
        segment = f"{on_parent} {spec.type} {tag}"
        if tag is not None:
            # In whatever namespace the other one is (vlan_check_real_dev(), net/8021q/vlan.c).
            yield Claim("vlanid", on_parent, f"{tag} of {parent}")
    for resource in resources:
        match resource:
            case Link(mac=str() as mac) if spec.type != "dummy":
                yield Claim("hardware address", segment, mac)
            case Address() if spec.type != "dummy":
                yield Claim("address", segment, resource.ip.partition("/")[0])
            case Route():
                yield Claim("route", f"{ns.name} {ns.id}", resource.key.detail)
