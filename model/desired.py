"""What should be: a pure function of the configuration, the running containers and a few facts.

It is total: a problem that only a replica reveals (an address past its prefix, two containers that
compute one name) becomes an Obstacle of that link, and every other link is still wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from model import route
from model.addressing import (
    AddressError,
    offset_interface,
    offset_mac,
    outer_names,
    stable_mac,
)
from model.config import BridgeMode, BridgeSpec, Config, LinkSpec, Owner
from model.keys import Key, NsKey, link_key
from model.offloads import COMMANDS
from model.ownership import group_of
from model.replicas import Container
from model.resources import Address, Link, Offload, Resource, Route

DEFAULT_MTU = 65535  # the largest that veth takes (ETH_MAX_MTU), and conlink's default
_ALIAS_MAX = 255  # IFALIASZ - 1, linux/if.h; in bytes

State = Literal["blocked", "conflict", "refused", "unsupported"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What desired state depends on beside the configuration and the containers."""

    instance: str
    plane: NsKey
    project: str = ""
    workdir: str = ""
    bridge_mode: BridgeMode = "auto"
    mtu: int = DEFAULT_MTU
    keep_veth_offload: bool = False


@dataclass(frozen=True, order=True, slots=True)
class Obstacle:
    """Why something declared cannot be wanted, or done, now."""

    key: Key
    state: State
    message: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that only one link may have: an address on a bridge, a name in a namespace."""

    what: str
    where: str
    value: str

    def __str__(self) -> str:
        return f"{self.what} {self.value}"


@dataclass(frozen=True, slots=True)
class Wiring:
    """What one container, or the data plane itself, should have.

    Attributes:
        resources: in no particular order.
        because: why, for each key of `resources`.
        parts: for each declared link (its inner end) the keys that make it whole.
        claims: what each declared link must be alone to have.
        obstacles: what is declared and cannot be.
    """

    resources: tuple[Resource, ...] = ()
    because: Mapping[Key, str] = field(default_factory=dict)
    parts: Mapping[Key, tuple[Key, ...]] = field(default_factory=dict)
    claims: Mapping[Key, tuple[Claim, ...]] = field(default_factory=dict)
    obstacles: tuple[Obstacle, ...] = ()


@dataclass(frozen=True, slots=True)
class Desired:
    """All that should be, in a scope."""

    resources: Mapping[Key, Resource]
    because: Mapping[Key, str]
    parts: Mapping[Key, tuple[Key, ...]]
    obstacles: tuple[Obstacle, ...]


def desired(config: Config, containers: Iterable[Container], facts: Facts) -> Desired:
    """Return what should be: the whole of it."""
    wirings = [plane(config, facts)]
    wirings += [wiring(config, container, facts) for container in containers]
    return combine(wirings)


def combine(wirings: Iterable[Wiring]) -> Desired:
    """Put wirings together; of two links that claim one thing the one with the lower key has it."""
    resources: dict[Key, Resource] = {}
    because: dict[Key, str] = {}
    parts: dict[Key, tuple[Key, ...]] = {}
    obstacles: list[Obstacle] = []
    holders: dict[Claim, Key] = {}
    everything = list(wirings)
    claims = {link: c for each in everything for link, c in each.claims.items()}
    lost: set[Key] = set()
    for link in sorted(claims):
        taken = next((c for c in claims[link] if holders.get(c, link) != link), None)
        if taken is None:
            holders.update(dict.fromkeys(claims[link], link))
        else:
            lost.add(link)
            message = f"{taken} is already taken by {holders[taken]}"
            obstacles.append(Obstacle(link, "refused", message))
    for each in everything:
        withdrawn = {key for link in lost & each.parts.keys() for key in each.parts[link]}
        resources.update((r.key, r) for r in each.resources if r.key not in withdrawn)
        because.update(
            (key, why) for key, why in each.because.items() if key in lost or key not in withdrawn
        )
        parts.update(each.parts)
        obstacles += each.obstacles
    return Desired(resources, because, parts, tuple(sorted(set(obstacles))))


def plane(config: Config, facts: Facts) -> Wiring:
    """Return what the data plane should have whatever runs: its bridges."""
    bridges = [bridge for bridge in config.bridges if _mode(bridge, facts) == "linux"]
    resources = [_bridge(bridge.name, facts) for bridge in bridges]
    obstacles = [
        Obstacle(
            link_key(facts.plane, bridge.name),
            "unsupported",
            f"bridge mode {_mode(bridge, facts)} is not supported yet ({bridge.place})",
        )
        for bridge in config.bridges
        if _mode(bridge, facts) != "linux"
    ]
    obstacles += [
        Obstacle(
            link_key(facts.plane, f"{tunnel.type}-{tunnel.vni}"),
            "unsupported",
            f"{tunnel.type} tunnels are not supported yet ({tunnel.place})",
        )
        for tunnel in config.tunnels
    ]
    return Wiring(
        resources=tuple(resources),
        because={
            r.key: f"{bridge.place} (bridge {bridge.name})"
            for r, bridge in zip(resources, bridges, strict=True)
        },
        obstacles=tuple(obstacles),
    )


def matches(owner: Owner, container: Container, facts: Facts) -> bool:
    """Tell whether an entry for `owner` is for this container."""
    if owner.kind == "container":
        return owner.name == container.name
    return owner.name == container.service and _in_project(container, facts)


def _in_project(container: Container, facts: Facts) -> bool:
    """Tell whether a container is of the project; plain namespaces are of none, and of each."""
    return (not facts.project or container.project in ("", facts.project)) and (
        not facts.workdir or container.workdir in ("", facts.workdir)
    )


def namespace_of(container: Container, facts: Facts) -> NsKey:
    """Return the key of a container's namespace: `node_5` for a replica, else its full name."""
    ours = container.service and _in_project(container, facts)
    name = f"{container.service}_{container.number}" if ours else container.name
    return NsKey("container", name, container.id)


def wiring(config: Config, container: Container, facts: Facts) -> Wiring:
    """Return what one container should have: pure, and independent of every other container."""
    specs = [spec for spec in config.links if matches(spec.owner, container, facts)]
    commands = [spec for spec in config.commands if matches(spec.owner, container, facts)]
    if not specs and not commands:
        return Wiring()
    ns = namespace_of(container, facts)
    made = _Maker(config, container, facts, ns)
    for spec in specs:
        made.link(spec)
    for command in commands:
        message = f"commands are not supported yet ({command.place})"
        made.obstacles.append(Obstacle(link_key(ns, "command"), "unsupported", message))
    return Wiring(
        tuple(made.resources.values()), made.because, made.parts, made.claims, tuple(made.obstacles)
    )


def _mode(bridge: BridgeSpec, facts: Facts) -> BridgeMode:
    mode = bridge.mode or facts.bridge_mode
    return "linux" if mode == "auto" else mode


def _alias(facts: Facts, what: str) -> str:
    text = f"relink {facts.instance}: {what}".encode()
    return text[:_ALIAS_MAX].decode(errors="ignore")


def _bridge(name: str, facts: Facts) -> Link:
    return Link(
        key=link_key(facts.plane, name),
        kind="bridge",
        up=True,
        group=group_of(facts.instance),
        alias=_alias(facts, f"bridge {name}"),
        silent=True,
        # With it the bridge itself sends membership reports (seen on 6.18); without it groups are
        # flooded, as by a plain switch.
        snooping=False,
    )


class _Maker:
    """Collects what one container should have while its links are gone through in order."""

    def __init__(self, config: Config, container: Container, facts: Facts, ns: NsKey) -> None:
        self.container = container
        self.facts = facts
        self.ns = ns
        self.bridges = {bridge.name: bridge for bridge in config.bridges}
        self.resources: dict[Key, Resource] = {}
        self.because: dict[Key, str] = {}
        self.parts: dict[Key, tuple[Key, ...]] = {}
        self.claims: dict[Key, tuple[Claim, ...]] = {}
        self.obstacles: list[Obstacle] = []
        self.outer = outer_names(
            {
                spec.dev: f"{self._owner_name(spec)}-{spec.dev}"
                for spec in config.links
                if matches(spec.owner, container, facts)
            },
            container.id,
        )

    def _owner_name(self, spec: LinkSpec) -> str:
        owner = spec.owner
        return f"{owner.name}_{self.container.number}" if owner.kind == "service" else owner.name

    def link(self, spec: LinkSpec) -> None:
        inner = link_key(self.ns, spec.dev)
        if inner in self.parts:
            message = f"{spec.dev} is declared twice for {self.ns} ({spec.place})"
            self.obstacles.append(Obstacle(inner, "refused", message))
            return
        self.parts[inner] = (inner,)
        self.because[inner] = self._reason(spec)
        if impossible := self._impossible(spec):
            self.obstacles.append(Obstacle(inner, *impossible))
            return
        try:
            resources = self._veth(spec, inner)
        except AddressError as error:
            message = f"replica {self.container.number}: {error} ({spec.place})"
            self.obstacles.append(Obstacle(inner, "refused", message))
            return
        for resource in resources:
            self.resources[resource.key] = resource
            self.because[resource.key] = self._reason(spec)
        self.parts[inner] = tuple(resource.key for resource in resources)
        for missing in _unsupported_parts(spec):
            message = f"{missing} is not supported yet ({spec.place})"
            self.obstacles.append(Obstacle(inner, "unsupported", message))
        outer = resources[1].key
        self.claims[inner] = (
            Claim("interface name", str(outer.ns), outer.dev),
            Claim("hardware address", spec.bridge, getattr(resources[0], "mac", "")),
            *(
                Claim("address", spec.bridge, r.ip.partition("/")[0])
                for r in resources
                if isinstance(r, Address)
            ),
            *(
                Claim("route", f"{self.ns.name} {self.ns.id}", r.key.detail)
                for r in resources
                if isinstance(r, Route)
            ),
        )

    def _reason(self, spec: LinkSpec) -> str:
        which = str(spec.owner)
        if spec.owner.kind == "service":
            which += f", replica {self.container.number}"
        return f"{spec.place} ({which})"

    def _impossible(self, spec: LinkSpec) -> tuple[State, str] | None:
        shares = self.container.shares
        if shares == "host":
            return "blocked", "the container uses the host's network; nothing is changed there"
        if shares:
            return "blocked", f"the container uses the network of {shares}; declare the link there"
        if spec.type != "veth":
            return "unsupported", f"links of type {spec.type} are not supported yet ({spec.place})"
        if spec.base != "conlink":
            message = f"base {spec.base} is not supported yet for veth ({spec.place})"
            return "unsupported", message
        mode = _mode(self.bridges[spec.bridge], self.facts)
        if mode != "linux":
            return "unsupported", f"bridge mode {mode} is not supported yet ({spec.place})"
        return None

    def _veth(self, spec: LinkSpec, inner: Key) -> list[Resource]:
        facts, number = self.facts, self.container.number
        offset = number - 1 if spec.owner.kind == "service" else 0
        outer = link_key(facts.plane, spec.outer_dev or self.outer[spec.dev])
        mac = (
            offset_mac(spec.mac, offset)
            if spec.mac
            else stable_mac(facts.instance, str(spec.owner), spec.dev, offset)
        )
        end = Link(
            key=inner,
            kind="veth",
            mtu=spec.mtu or facts.mtu,
            up=True,
            group=group_of(facts.instance),
            alias=_alias(facts, f"{inner} on {spec.bridge}"),
        )
        resources: list[Resource] = [
            replace(end, peer=outer, mac=mac, promote=True),
            replace(end, key=outer, peer=inner, master=spec.bridge, silent=True),
        ]
        features: dict[str, bool] = {} if facts.keep_veth_offload else {"tx": False}
        if spec.ethtool:
            features.update(f for f in spec.ethtool.offloads if f[0] in COMMANDS)
        if features:
            key = Key(self.ns, "offload", spec.dev)
            resources.append(Offload(key=key, features=tuple(sorted(features.items()))))
        for declared in spec.ips:
            ip = str(offset_interface(declared, offset))
            resources.append(Address(key=Key(self.ns, "address", spec.dev, ip), ip=ip))
        resources += [self._route(r, spec.dev) for r in spec.routes]
        return resources

    def _route(self, spec: route.RouteSpec, dev: str) -> Route:
        deviceless = spec.type in route.DEVICELESS
        return Route(
            key=Key(self.ns, "route", "" if deviceless else dev, spec.identity),
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
            declared_on=link_key(self.ns, dev) if deviceless else None,
        )


def _unsupported_parts(spec: LinkSpec) -> list[str]:
    """Name what is declared, valid, and not built yet: reported, never ignored."""
    return [
        name
        for name, value in (
            ("netem", spec.netem),
            ("nat", spec.nat),
            ("forward", spec.forwards),
            (
                "an ethtool setting other than rx, tx, sg, tso, gso, gro",
                spec.ethtool
                and (
                    spec.ethtool.other or any(f[0] not in COMMANDS for f in spec.ethtool.offloads)
                ),
            ),
        )
        if value
    ]
