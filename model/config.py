"""The configuration language: documents become what is declared, or all their errors at once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from model import ethtool, netem, netem_mapping, route
from model.addressing import (
    AddressError,
    IPAddress,
    IPInterface,
    no_host,
    parse_interface,
    parse_mac,
)
from model.declared import (
    DEFAULT_OFFSETS,
    BridgeSpec,
    CommandSpec,
    Config,
    Forward,
    LinkSpec,
    Owner,
    TunnelSpec,
)
from model.document import Node, mapping, merge, shorten
from model.kinds import KINDS, ipvlan, macvlan, vxlan
from model.options import OptionError
from model.problems import ConfigError, Place, Problem
from model.route import RouteError, RouteSpec

VLAN_FAMILY = frozenset(name for name, kind in KINDS.items() if kind.stacked)
MODES = {
    "macvlan": tuple(macvlan.MODES),
    "macvtap": tuple(macvlan.MODES),
    "ipvlan": tuple(ipvlan.MODES),
    "ipvtap": tuple(ipvlan.MODES),
}
# Where the other side of a link is; the first is the default.
_STACKED_BASES = ("host", "conlink", "local")
BASES = {
    "veth": ("conlink",),
    "dummy": ("local",),
    **dict.fromkeys(sorted(VLAN_FAMILY), _STACKED_BASES),
}
# Keys that only these kinds of link have, and keys that these cannot do without.
ONLY_OF = {
    "bridge": ("veth",),
    "forward": ("veth",),
    "ethtool": ("veth",),
    "vlanid": ("vlan",),
    "mode": tuple(MODES),
    "outer-dev": ("veth", *sorted(VLAN_FAMILY)),
    "mac": ("veth", "dummy", "vlan", "macvlan", "macvtap"),
}
NEEDED_BY = {"bridge": ("veth",), "vlanid": ("vlan",), "outer-dev": tuple(sorted(VLAN_FAMILY))}
NOT_PER_REPLICA = ("service", "container", "offset", "per-replica")
_PORTS = r"([0-9]{1,9})(?:-([0-9]{1,9}))?"
_FORWARD = re.compile(rf"{_PORTS}:{_PORTS}/(tcp|udp)")
_MOST_PORTS = 4096
T = TypeVar("T")


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
    problems.extend(_stacked_on_its_like(config.links))
    problems.extend(_beside_a_passthru(config.links))
    problems.extend(_forwards_on_patches(config))
    names = [_Claim(("name", b.name), "", f"bridge {b.name}", b.place) for b in config.bridges]
    problems.extend(_clashes([*names, *reader.claims]))
    problems.extend(_repeated(config.commands))
    if problems:
        raise ConfigError(problems)
    return config


def _list(root: Node, key: str) -> tuple[Node, ...]:
    return (root.get(key) or mapping(root.place)).elements()


def _text(node: Node, key: str) -> str:
    """Return the scalar under `key` as text; empty if there is none, or something else."""
    child = node.get(key)
    if child is None or child.value is None or isinstance(child.value, Mapping | tuple):
        return ""
    return str(child.value)


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
    hint: str = ""


@dataclass(frozen=True, slots=True)
class _Reader:
    problems: list[Problem]
    claims: list[_Claim] = field(default_factory=list)
    ports: set[tuple[int, str]] = field(default_factory=set)  # that are claimed

    def wrong(self, node: Node, message: str) -> None:
        self.problems.append(Problem(node.place, shorten(message + node.origin())))

    def attempt(self, node: Node, parse: Callable[[str], T]) -> T | None:
        """Parse a node's text; a refusal becomes a problem at the node's place."""
        if node.value is None or isinstance(node.value, Mapping | tuple):
            self.wrong(node, "expected a text")
            return None
        try:
            return parse(str(node.value))
        except (AddressError, OptionError, RouteError) as error:
            self.wrong(node, str(error))
            return None

    def owner(self, node: Node) -> Owner | None:
        service, container = _text(node, "service"), _text(node, "container")
        if service and container:
            message = "both 'service' and 'container' are given; leave one of them out"
            self.problems.append(Problem(node.place_of(("container",), key=True), message))
            return None
        if service:
            return Owner("service", service)
        if container:
            return Owner("container", container)
        for key in ("service", "container"):
            if (child := node.get(key)) is not None:
                self.wrong(child, f"{key!r} names nothing; give a name")
                return None
        self.wrong(node, "neither 'service' nor 'container' is given; one of them is needed")
        return None

    def netem_mapping(self, node: Node) -> netem.Netem | None:
        values = {key: str(n.bare()) for key, n in node.items()}
        before = len(self.problems)
        wrong: set[str] = set()
        # Key by key first, so that the place is the wrong one's.
        for key, text in netem_mapping.texts(values).items():
            count = len(self.problems)
            word = text.partition(" ")[0]
            if word not in wrong:
                self.attempt(Node(text, node.place_of((key,))), netem.check)
            if len(self.problems) > count:
                wrong.add(word)
        text = netem_mapping.whole(values)
        if not text or len(self.problems) > before:
            return None
        return self.attempt(Node(text, node.place), netem.parse)

    def netem(self, node: Node) -> netem.Netem | None:
        child = node.get("netem")
        if child is not None and isinstance(child.value, Mapping):
            return self.netem_mapping(child)
        parts = _strings(node, "netem")
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
            found = ipaddress.ip_address(str(child.value))
        except ValueError:
            message = f"{child.value!r} is not an IP address, as 10.0.1.1 or fd00::1"
            self.wrong(child, message + ", without a prefix length" * ("/" in str(child.value)))
            return None
        if getattr(found, "scope_id", None):
            self.wrong(child, f"{child.value!r} has a zone, which is the business of one host")
            return None
        return found

    def routes(self, node: Node, families: AbstractSet[int], dev: str) -> tuple[RouteSpec, ...]:
        parsed: list[RouteSpec] = []
        seen: set[object] = set()
        for part in _strings(node, "route"):
            spec = self.attempt(part, route.parse)
            if spec is None:
                continue
            if spec.dev and spec.dev != dev:
                self.wrong(part, f"'dev {spec.dev}' is not this link; leave 'dev' out")
            elif spec.type not in route.DEVICELESS and spec.family not in families:
                self.wrong(
                    part,
                    f"an IPv{spec.family} route needs an IPv{spec.family} address in 'ip'",
                )
            elif spec.identity in seen:
                message = f"a second route to {spec.identity}"
                self.wrong(part, f"{message}; leave one out, or give it another 'metric'")
            else:
                parsed.append(spec)
                seen.add(spec.identity)
        return tuple(parsed)

    def forwards(self, node: Node, whose: str) -> tuple[Forward, ...]:
        parsed: list[Forward] = []
        for part in _strings(node, "forward"):
            match = _FORWARD.fullmatch(str(part.value))
            if not match:
                message = f"{part.value!r} is not port:port/tcp, port:port/udp, or with ranges"
                self.wrong(part, f"{message} as 8000-8009:80-89/tcp")
                continue
            first, last, inner, inner_last = (int(n) if n else 0 for n in match.groups()[:4])
            outside, inside = (first, last or first), (inner, inner_last or inner)
            protocol: Any = match[5]
            if wrong := _wrong_ports(outside, inside):
                self.wrong(part, wrong)
                continue
            parsed.append(Forward(outside, inside, protocol))
            for port in range(outside[0], outside[1] + 1):
                what = f"port {port}/{protocol} of the sidecar"
                self.claims.append(_Claim((port, protocol), what, whose, part.place))
                if (port, protocol) in self.ports:  # told of one port of a range, and no more held
                    break
                self.ports.add((port, protocol))
        return tuple(parsed)

    def ips(self, node: Node, whose: str) -> tuple[IPInterface, ...]:
        parsed: list[IPInterface] = []
        seen: set[object] = set()
        for part in _strings(node, "ip"):
            ip = self.attempt(part, parse_interface)
            if ip is None:
                continue
            nowhere = ip.ip.is_unspecified or ip.ip.is_multicast or ip.ip.is_loopback
            if nowhere or ip.network.prefixlen == 0 or str(ip.ip) == "255.255.255.255":
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
                message = f"{ip.ip} is the network or broadcast address of {ip.network}"
                self.wrong(part, f"{message}; take another one of it")
            elif ip.ip in seen:
                self.wrong(part, f"{ip.ip} is given twice; leave one out")
            else:
                parsed.append(ip)
                seen.add(ip.ip)
                if bridge := _text(node, "bridge"):
                    what = f"{ip.ip} on bridge {bridge}"
                    self.claims.append(_Claim((bridge, ip.ip), what, whose, part.place))
        return tuple(parsed)

    def link(self, node: Node) -> LinkSpec | None:
        owner = self.owner(node)
        kind = _text(node, "type") or "veth"
        if kind in BASES:
            self.keys_of_kind(node, kind)
        else:
            allowed = ", ".join(BASES)
            self.wrong(node.get("type") or node, f"{kind!r} is no type; allowed: {allowed}")
        dev = _text(node, "dev") or "eth0"
        whose = f"{owner or 'a link'} dev {dev}"
        ips = self.ips(node, whose)
        # Nobody knows of which family an address is that is wrong.
        known = len(ips) == len(_strings(node, "ip"))
        families = {ip.version for ip in ips} if known else {4, 6}
        mac, outer = node.get("mac"), _text(node, "outer-dev")
        if outer and kind == "veth":
            place = node.place_of(("outer-dev",))
            self.claims.append(_Claim(("name", outer), f"the name {outer}", whose, place))
        spec = LinkSpec(
            place=node.place,
            owner=owner or Owner("service", "?"),
            type=kind,
            dev=dev,
            base=self.base(node, kind),
            bridge=_text(node, "bridge"),
            outer_dev=outer,
            ips=ips,
            mac=(self.attempt(mac, parse_mac) or "") if mac else "",
            mtu=_int(node, "mtu"),
            up=_text(node, "state") != "down",
            routes=self.routes(node, families, dev),
            nat=self.address(node, "nat"),
            netem=self.netem(node),
            mode=_text(node, "mode"),
            vlanid=_int(node, "vlanid"),
            forwards=self.forwards(node, whose),
            ethtool=self.ethtool(node),
            offsets=self.offsets(node),
            per_replica=self.per_replica(node, owner),
        )
        if spec.forwards and not spec.up:
            self.wrong(
                node.get("state") or node,
                "a link with 'forward' has to be up; leave one of them out",
            )
        if spec.forwards and not families:
            self.wrong(
                node.get("forward") or node, "'forward' needs an 'ip' that the ports lead to"
            )
        if spec.mtu is not None and spec.mtu < 1280 and any(ip.version == 6 for ip in ips):
            # The kernel takes IPv6 off an interface below IPV6_MIN_MTU (include/linux/ipv6.h).
            self.wrong(node.get("mtu") or node, "IPv6 needs an mtu of 1280 or more")
        if spec.nat and spec.nat.version not in families:
            message = f"'nat' to {spec.nat} needs an IPv{spec.nat.version} address in 'ip'"
            self.wrong(node.get("nat") or node, message)
        if any(ip.ip == spec.nat for ip in ips):
            self.wrong(node.get("nat") or node, f"{spec.nat} is the link's own address")
        return spec if owner else None

    def base(self, node: Node, kind: str) -> str:
        allowed = BASES.get(kind, _STACKED_BASES)
        base = node.get("base")
        if base is not None and base.value not in allowed and kind in BASES:
            expected = ", ".join(allowed)
            self.wrong(base, f"{base.value!r} is no base of {kind}; allowed: {expected}")
        return str(base.value) if base else allowed[0]

    def offsets(self, node: Node) -> frozenset[str]:
        if node.get("offset") is None:
            return DEFAULT_OFFSETS
        return frozenset(str(part.value) for part in _strings(node, "offset"))

    def per_replica(self, node: Node, owner: Owner | None) -> tuple[LinkSpec, ...]:
        """Read the link once for each replica that has its own words, which replace the link's."""
        given = node.get("per-replica")
        if given is None:
            return ()
        if owner and owner.kind == "container":
            self.wrong(given, "'per-replica' is for links of a service; leave it out")
            return ()
        whole = {key: n for key, n in node.items() if key not in ("offset", "per-replica")}
        found: list[LinkSpec] = []
        # What two replicas both claim is seen when they run: one of them may never do.
        reader = _Reader(self.problems)
        for entry in given.elements():
            for key in NOT_PER_REPLICA:
                if entry.get(key) is not None:
                    place = entry.place_of((key,), key=True)
                    message = f"{key!r} cannot differ per replica; give it for the whole link"
                    self.problems.append(Problem(place, message))
            own = {key: n for key, n in entry.items() if key not in NOT_PER_REPLICA}
            places = {**(node.key_places or {}), **(entry.key_places or {})}
            merged = Node({**whole, **own}, entry.place, places)
            if spec := reader.link(merged):
                found.append(replace(spec, offsets=self.offsets(node) - own.keys()))
        return tuple(found)

    def keys_of_kind(self, node: Node, kind: str) -> None:
        """Check the keys that only some kinds of link have, or need."""
        for key, kinds in ONLY_OF.items():
            child = node.get(key)
            if child is not None and kind not in kinds:
                message = f"{key!r} is for {', '.join(kinds)}, not for {kind}"
                self.wrong(child, f"{message}; leave it out, or give another 'type'")
        for key, kinds in NEEDED_BY.items():
            if node.get(key) is None and kind in kinds:
                self.wrong(node, f"a {kind} link needs {key!r}")
        if node.get("mac") is not None and _text(node, "mode") == "passthru":
            message = "in mode passthru a link has its parent's 'mac'; leave it out"
            self.wrong(node.get("mac") or node, message)
        mode = node.get("mode")
        if mode is not None and kind in MODES and mode.value not in MODES[kind]:
            allowed = ", ".join(MODES[kind])
            self.wrong(mode, f"{mode.value!r} is not a mode of {kind}; allowed: {allowed}")

    def tunnel(self, node: Node) -> TunnelSpec | None:
        remote = self.address(node, "remote")
        local = self.address(node, "local")
        kind: Any = _text(node, "type")
        impairment = self.netem(node)
        if remote is None or (local is None and node.get("local") is not None):
            return None
        if what := no_host(remote):
            message = f"{remote} is {what}, not the address of another host"
            self.wrong(node.get("remote") or node, message)
        if local and kind == "geneve":
            self.wrong(node.get("local") or node, "geneve has no 'local'; the route chooses it")
        elif local and local.version != remote.version:
            self.wrong(node.get("local") or node, f"{local} is not of the family of {remote}")
        vni, whose = _int(node, "vni"), f"bridge {_text(node, 'bridge')}"
        if vni is not None and kind == "vxlan":
            # vxlan_vni_in_use(), drivers/net/vxlan: whatever the remote is.
            what = f"vxlan with vni {vni} on port {_int(node, 'port') or vxlan.PORT}"
            hint = "; the kernel has one for each vni and port: give another 'port', or use geneve"
            self.claims.append(_Claim((what,), what, whose, node.place, hint))
        elif vni is not None:
            what = f"a {kind} tunnel with vni {vni} to {remote}"
            self.claims.append(_Claim((what,), what, whose, node.place))
        return TunnelSpec(
            place=node.place,
            type=kind,
            bridge=_text(node, "bridge"),
            remote=remote,
            vni=vni or 0,
            port=_int(node, "port") or 0,
            local=local,
            ttl=_int(node, "ttl") or 0,
            tos=_int(node, "tos") or 0,
            df=_text(node, "df"),
            mtu=_int(node, "mtu") or 0,
            netem=impairment,
        )

    def command(self, node: Node) -> CommandSpec | None:
        owner = self.owner(node)
        command = node.get("command")
        if owner is None or command is None:
            return None
        words = tuple(str(word.value) for word in command.elements())
        if not (words[0] if words else str(command.value)).strip():
            self.wrong(command, "'command' names no program; its first word is empty")
            return None
        return CommandSpec(node.place, owner, words or ("sh", "-c", str(command.value)))


def _wrong_ports(outside: tuple[int, int], inside: tuple[int, int]) -> str:
    """Return what is wrong with a pair of port ranges, or nothing."""
    for port in (*outside, *inside):
        if not 0 < port < 65536:
            return f"port {port} is not between 1 and 65535"
    if inside[1] == 65535:  # fib_rule_port_range_valid(), include/net/fib_rules.h
        return "port 65535 inside cannot be: the kernel's rules name ports up to 65534"
    for first, last in (outside, inside):
        if last < first:
            return f"the ports {first}-{last} run backwards"
    count = outside[1] - outside[0] + 1
    if count != inside[1] - inside[0] + 1:
        return f"both ranges need one length, not {count} and {inside[1] - inside[0] + 1}"
    if count > _MOST_PORTS:
        return f"{count} ports; at most {_MOST_PORTS} in one range"
    return ""


def _bridges(root: Node, links: list[LinkSpec], problems: list[Problem]) -> tuple[BridgeSpec, ...]:
    """All switches: the declared ones first, then those that only links and tunnels name."""
    found: dict[str, BridgeSpec] = {}
    for node in _list(root, "bridges"):
        if not (name := _text(node, "bridge")):
            continue
        mode: Any = _text(node, "mode") or None
        if name in found and found[name].mode != mode:
            modes = f"{found[name].mode or 'the default mode'} and {mode or 'the default mode'}"
            message = f"bridge {name} is declared twice, as {modes}; leave one out"
            problems.append(Problem(node.place, message))
        found[name] = BridgeSpec(node.place, name, mode)
    for link in links:
        if link.bridge:
            found.setdefault(link.bridge, BridgeSpec(link.place, link.bridge))
    for node in _list(root, "tunnels"):
        if name := _text(node, "bridge"):
            found.setdefault(name, BridgeSpec(node.place, name))
    return tuple(found.values())


def _forwards_on_patches(config: Config) -> Iterator[Problem]:
    """A patch has no interface of its own that packets could be routed to."""
    patches = {bridge.name for bridge in config.bridges if bridge.mode == "patch"}
    for link in config.links:
        if link.forwards and link.bridge in patches:
            yield Problem(link.place, f"'forward' needs a bridge, and {link.bridge} is a patch")


_FAMILIES = ({"macvlan", "macvtap"}, {"ipvlan", "ipvtap"})


def _stacked_on_its_like(links: Iterable[LinkSpec]) -> Iterator[Problem]:
    """What the kernel would stack on the parent's own parent, and tell so.

    See macvlan_common_newlink() and ipvlan_link_new() (drivers/net).
    """
    types = {(link.owner, link.dev): link.type for link in links}
    for link in links:
        parent = types.get((link.owner, link.outer_dev)) if link.base == "local" else None
        if any({link.type, parent} <= family for family in _FAMILIES):
            message = f"a {link.type} cannot be stacked on a {parent}; name that one's own parent"
            yield Problem(link.place, message)


def _beside_a_passthru(links: Iterable[LinkSpec]) -> Iterator[Problem]:
    """What passes all through to one child has no other (macvlan_common_newlink())."""
    children: dict[tuple[object, ...], list[LinkSpec]] = {}
    for link in links:
        if link.type in _FAMILIES[0]:
            whose = link.owner if link.base == "local" else None
            children.setdefault((link.base, whose, link.outer_dev), []).append(link)
    for those in children.values():
        for link in those:
            if link.mode == "passthru" and len(those) > 1:
                other = next(each for each in those if each is not link)
                message = f"in mode passthru it is alone on {link.outer_dev}, and {other.owner}"
                yield Problem(link.place, f"{message} has a {other.type} there ({other.place})")


def _clashes(claims: Iterable[_Claim]) -> Iterator[Problem]:
    """What two entries cannot both have, as far as it shows without any container running."""
    holders: dict[tuple[object, ...], _Claim] = {}
    for claim in claims:
        first = holders.setdefault(claim.identity, claim)
        if first is not claim:
            message = f"{claim.what} is already taken by {first.whose} ({first.place}){claim.hint}"
            yield Problem(claim.place, message)


def _repeated(commands: Iterable[CommandSpec]) -> Iterator[Problem]:
    """Equal commands of one owner are one, which runs once: whoever writes two wants something."""
    first: dict[tuple[Owner, tuple[str, ...]], CommandSpec] = {}
    for spec in commands:
        other = first.setdefault((spec.owner, spec.argv), spec)
        if other is not spec:
            message = f"declared twice; {spec.owner} runs this command once, by {other.place}"
            yield Problem(spec.place, f"{message}: leave one of them out")
