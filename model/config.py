"""The configuration language as typed, canonical values; all errors at once, with their places."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from model import ethtool, netem, route
from model.addressing import (
    AddressError,
    IPAddress,
    IPInterface,
    parse_interface,
    parse_mac,
)
from model.document import Node, mapping, merge, shorten
from model.options import OptionError
from model.problems import ConfigError, Place, Problem
from model.route import RouteError, RouteSpec

BridgeMode = Literal["auto", "ovs", "linux", "patch"]
VLAN_FAMILY = frozenset({"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"})
MODES = {
    "macvlan": ("private", "vepa", "bridge", "passthru", "source"),
    "macvtap": ("private", "vepa", "bridge", "passthru", "source"),
    "ipvlan": ("l2", "l3", "l3s"),
    "ipvtap": ("l2", "l3", "l3s"),
}
_DEFAULT_BASE = {"veth": "conlink", "dummy": "local"}
_FORWARD = re.compile(r"([0-9]{1,9}):([0-9]{1,9})/(tcp|udp)")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose containers an entry is for: exactly one of a compose service and a container name."""

    kind: Literal["service", "container"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Forward:
    """Port `outside` of the sidecar leads to port `inside` of the container."""

    outside: int
    inside: int
    protocol: Literal["tcp", "udp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """One declared link; see schema.json for the meaning of each key."""

    place: Place
    owner: Owner
    type: str = "veth"
    dev: str = "eth0"
    base: str = "conlink"
    bridge: str = ""
    outer_dev: str = ""
    ips: tuple[IPInterface, ...] = ()
    mac: str = ""
    mtu: int | None = None
    routes: tuple[RouteSpec, ...] = ()
    nat: IPAddress | None = None
    netem: netem.Netem | None = None
    mode: str = ""
    vlanid: int | None = None
    forwards: tuple[Forward, ...] = ()
    ethtool: ethtool.Ethtool | None = None


@dataclass(frozen=True, slots=True)
class BridgeSpec:
    """One switch, declared or only named; mode None is the default mode."""

    place: Place
    name: str
    mode: BridgeMode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelSpec:
    """One declared tunnel."""

    place: Place
    type: Literal["geneve", "vxlan"]
    bridge: str
    remote: IPAddress
    vni: int
    netem: netem.Netem | None = None


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One declared command; `argv` is executed as it is."""

    place: Place
    owner: Owner
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration, merged and checked."""

    links: tuple[LinkSpec, ...] = ()
    bridges: tuple[BridgeSpec, ...] = ()
    tunnels: tuple[TunnelSpec, ...] = ()
    commands: tuple[CommandSpec, ...] = ()


def merge_links(root: Node) -> Node:
    """Merge the links of one (service or container, dev) into one, later values winning."""
    links = root.get("links")
    if links is None or not isinstance(links.value, tuple):
        return root
    merged: dict[object, Node] = {}
    for number, link in enumerate(links.elements()):
        owner = link.get("service") or link.get("container")
        dev = link.get("dev")
        name = owner.value if owner else None
        identity: object = number  # what cannot be identified is left for the checks to name
        if isinstance(name, str) and (dev is None or isinstance(dev.value, str)):
            identity = (link.get("service") is None, name, dev.value if dev else "eth0")
        merged[identity] = merge(merged[identity], link) if identity in merged else link
    return root.with_entry("links", Node(tuple(merged.values()), links.place))


def parse(root: Node) -> Config:
    """Type a merged document whose shape the schema has accepted.

    Raises:
        ConfigError: with every problem that can be seen without knowing the running containers.
    """
    problems: list[Problem] = []
    reader = _Reader(problems)
    links = [reader.link(node) for node in _list(root, "links")]
    tunnels = [reader.tunnel(node) for node in _list(root, "tunnels")]
    commands = [reader.command(node) for node in _list(root, "commands")]
    config = Config(
        links=tuple(link for link in links if link),
        bridges=_bridges(root, [link for link in links if link], problems),
        tunnels=tuple(tunnel for tunnel in tunnels if tunnel),
        commands=tuple(command for command in commands if command),
    )
    names = [_Claim(("name", b.name), "", f"bridge {b.name}", b.place) for b in config.bridges]
    problems.extend(_clashes([*names, *reader.claims]))
    if problems:
        raise ConfigError(problems)
    return config


def _list(root: Node, key: str) -> tuple[Node, ...]:
    return (root.get(key) or mapping(root.place)).elements()


def _text(node: Node, key: str) -> str:
    child = node.get(key)
    return str(child.value) if child else ""


def _int(node: Node, key: str) -> int | None:
    child = node.get(key)
    value = child.value if child else None
    return int(value) if isinstance(value, int | float) and value % 1 == 0 else None


def _strings(node: Node, key: str) -> tuple[Node, ...]:
    """Return the one string or the list of strings under `key`."""
    child = node.get(key)
    return () if child is None else child.elements() or ((child,) if child.value != () else ())


@dataclass(frozen=True, slots=True)
class _Claim:
    """Something that only one entry may have: what it is, in words, by whom, and where."""

    identity: tuple[object, ...]
    what: str
    whose: str
    place: Place


@dataclass(frozen=True, slots=True)
class _Reader:
    problems: list[Problem]
    claims: list[_Claim] = field(default_factory=list)

    def wrong(self, node: Node, message: str) -> None:
        self.problems.append(Problem(node.place, shorten(message)))

    def attempt(self, node: Node, parse: Callable[[str], T]) -> T | None:
        """Parse a node's text; a refusal becomes a problem at the node's place."""
        try:
            return parse(str(node.value))
        except (AddressError, OptionError, RouteError) as error:
            self.wrong(node, str(error))
            return None

    def owner(self, node: Node) -> Owner | None:
        service, container = _text(node, "service"), _text(node, "container")
        if service and container:
            message = "both 'service' and 'container' are given; one of them is allowed"
            self.problems.append(Problem(node.place_of(("container",), key=True), message))
            return None
        if service:
            return Owner("service", service)
        if container:
            return Owner("container", container)
        self.wrong(node, "neither 'service' nor 'container' is given; one of them is needed")
        return None

    def netem(self, node: Node) -> netem.Netem | None:
        parts = _strings(node, "netem")
        child = node.get("netem")
        text = " ".join(str(part.value) for part in parts).strip()
        if child is None or not text:
            return None
        return self.attempt(Node(text, parts[0].place), netem.parse)

    def ethtool(self, node: Node) -> ethtool.Ethtool | None:
        parts = _strings(node, "ethtool")
        for part in parts:  # one by one first, so that the place is that of the wrong one
            if self.attempt(part, lambda text: ethtool.parse([text])) is None:
                return None
        return ethtool.parse([str(part.value) for part in parts]) if parts else None

    def address(self, node: Node, key: str) -> IPAddress | None:
        child = node.get(key)
        if child is None:
            return None
        try:
            return ipaddress.ip_address(str(child.value))
        except ValueError:
            self.wrong(child, f"{child.value!r} is not an IP address")
            return None

    def routes(self, node: Node, ips: tuple[IPInterface, ...], dev: str) -> tuple[RouteSpec, ...]:
        parsed: list[RouteSpec] = []
        for part in _strings(node, "route"):
            spec = self.attempt(part, route.parse)
            if spec is None:
                continue
            if spec.dev and spec.dev != dev:
                self.wrong(part, f"'dev {spec.dev}' is not this link; leave 'dev' out")
            elif spec.type not in route.DEVICELESS and not any(
                ip.version == spec.family for ip in ips
            ):
                self.wrong(
                    part,
                    f"an IPv{spec.family} route needs an IPv{spec.family} address in 'ip'",
                )
            elif any(other.identity == spec.identity for other in parsed):
                self.wrong(part, f"a second route to {spec.identity}")
            else:
                parsed.append(spec)
        return tuple(parsed)

    def forwards(self, node: Node, whose: str) -> tuple[Forward, ...]:
        parsed: list[Forward] = []
        for part in _strings(node, "forward"):
            match = _FORWARD.fullmatch(str(part.value))
            if not match:
                self.wrong(part, f"{part.value!r} is not port:port/tcp or port:port/udp")
                continue
            outside, inside = int(match[1]), int(match[2])
            for port in (outside, inside):
                if not 0 < port < 65536:
                    self.wrong(part, f"port {port} is not between 1 and 65535")
                    break
            else:
                protocol: Any = match[3]
                parsed.append(Forward(outside, inside, protocol))
                what = f"port {outside}/{protocol} of the sidecar"
                self.claims.append(_Claim((outside, protocol), what, whose, part.place))
        return tuple(parsed)

    def ips(self, node: Node, whose: str) -> tuple[IPInterface, ...]:
        parsed: list[IPInterface] = []
        for part in _strings(node, "ip"):
            ip = self.attempt(part, parse_interface)
            if ip is None:
                continue
            if ip.ip.is_unspecified or ip.ip.is_multicast:
                self.wrong(part, f"{ip} cannot be the address of an interface")
            elif (
                ip.version == 4
                and ip.network.prefixlen < 31
                and ip.ip
                in (
                    ip.network.network_address,
                    ip.network.broadcast_address,
                )
            ):
                self.wrong(part, f"{ip.ip} is the network or broadcast address of {ip.network}")
            elif any(other.ip == ip.ip for other in parsed):
                self.wrong(part, f"{ip.ip} is given twice")
            else:
                parsed.append(ip)
                if bridge := _text(node, "bridge"):
                    what = f"{ip.ip} on bridge {bridge}"
                    self.claims.append(_Claim((bridge, ip.ip), what, whose, part.place))
        return tuple(parsed)

    def link(self, node: Node) -> LinkSpec | None:
        owner = self.owner(node)
        kind = _text(node, "type") or "veth"
        self.keys_of_kind(node, kind)
        dev = _text(node, "dev") or "eth0"
        whose = f"{owner or 'a link'} dev {dev}"
        ips = self.ips(node, whose)
        mac, outer = node.get("mac"), _text(node, "outer-dev")
        if outer and kind == "veth":
            place = node.place_of(("outer-dev",))
            self.claims.append(_Claim(("name", outer), f"the name {outer}", whose, place))
        spec = LinkSpec(
            place=node.place,
            owner=owner or Owner("service", "?"),
            type=kind,
            dev=dev,
            base=_text(node, "base") or _DEFAULT_BASE.get(kind, "host"),
            bridge=_text(node, "bridge"),
            outer_dev=outer,
            ips=ips,
            mac=(self.attempt(mac, parse_mac) or "") if mac else "",
            mtu=_int(node, "mtu"),
            routes=self.routes(node, ips, dev),
            nat=self.address(node, "nat"),
            netem=self.netem(node),
            mode=_text(node, "mode"),
            vlanid=_int(node, "vlanid"),
            forwards=self.forwards(node, whose),
            ethtool=self.ethtool(node),
        )
        if spec.forwards and not ips:
            self.wrong(node.get("forward") or node, "'forward' needs 'ip'")
        if spec.mtu is not None and spec.mtu < 1280 and any(ip.version == 6 for ip in ips):
            # The kernel takes IPv6 off an interface below IPV6_MIN_MTU (include/linux/ipv6.h).
            self.wrong(node.get("mtu") or node, "IPv6 needs an mtu of 1280 or more")
        return spec if owner else None

    def keys_of_kind(self, node: Node, kind: str) -> None:
        """Check the keys that only some kinds of link have, or need."""

        def only(key: str, *kinds: str) -> None:
            child = node.get(key)
            if child is not None and kind not in kinds:
                self.wrong(child, f"{key!r} is for {', '.join(kinds)}, not for {kind}")

        def needs(key: str, *kinds: str) -> None:
            if node.get(key) is None and kind in kinds:
                self.wrong(node, f"a {kind} link needs {key!r}")

        only("bridge", "veth")
        needs("bridge", "veth")
        only("forward", "veth")
        only("ethtool", "veth")
        only("vlanid", "vlan")
        needs("vlanid", "vlan")
        only("mode", *MODES)
        only("outer-dev", "veth", *sorted(VLAN_FAMILY))
        needs("outer-dev", *sorted(VLAN_FAMILY))
        only("mac", "veth", "dummy", "vlan", "macvlan", "macvtap")
        mode = node.get("mode")
        if mode is not None and kind in MODES and mode.value not in MODES[kind]:
            allowed = ", ".join(MODES[kind])
            self.wrong(mode, f"{mode.value!r} is not a mode of {kind}; allowed: {allowed}")

    def tunnel(self, node: Node) -> TunnelSpec | None:
        remote = self.address(node, "remote")
        kind: Any = _text(node, "type")
        impairment = self.netem(node)
        if remote is None:
            return None
        what = f"a {kind} tunnel with vni {_int(node, 'vni')} to {remote}"
        self.claims.append(_Claim((what,), what, f"bridge {_text(node, 'bridge')}", node.place))
        return TunnelSpec(
            place=node.place,
            type=kind,
            bridge=_text(node, "bridge"),
            remote=remote,
            vni=_int(node, "vni") or 0,
            netem=impairment,
        )

    def command(self, node: Node) -> CommandSpec | None:
        owner = self.owner(node)
        command = node.get("command")
        if owner is None or command is None:
            return None
        words = tuple(str(word.value) for word in command.elements())
        return CommandSpec(node.place, owner, words or ("sh", "-c", str(command.value)))


def _bridges(root: Node, links: list[LinkSpec], problems: list[Problem]) -> tuple[BridgeSpec, ...]:
    """All switches: the declared ones first, then those that only links and tunnels name."""
    found: dict[str, BridgeSpec] = {}
    for node in _list(root, "bridges"):
        name = _text(node, "bridge")
        mode: Any = _text(node, "mode") or None
        if name in found and found[name].mode != mode:
            problems.append(Problem(node.place, f"bridge {name} is declared twice"))
        found[name] = BridgeSpec(node.place, name, mode)
    for link in links:
        if link.bridge:
            found.setdefault(link.bridge, BridgeSpec(link.place, link.bridge))
    for node in _list(root, "tunnels"):
        found.setdefault(_text(node, "bridge"), BridgeSpec(node.place, _text(node, "bridge")))
    return tuple(found.values())


def _clashes(claims: Iterable[_Claim]) -> Iterator[Problem]:
    """What two entries cannot both have, as far as it shows without any container running."""
    holders: dict[tuple[object, ...], _Claim] = {}
    for claim in claims:
        first = holders.setdefault(claim.identity, claim)
        if first is not claim:
            message = f"{claim.what} is already taken by {first.whose} ({first.place})"
            yield Problem(claim.place, message)
