"""What a configuration declares, as typed, canonical values; nothing of how it was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from model.addressing import IPAddress, IPInterface
from model.ethtool import Ethtool
from model.netem import Netem
from model.problems import Place
from model.route import RouteSpec

BridgeMode = Literal["auto", "ovs", "linux", "patch"]
DEFAULT_OFFSETS = frozenset({"ip", "mac", "forward"})


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose containers an entry is for: exactly one of a compose service and a container name."""

    kind: Literal["service", "container"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Forward:
    """Ports `outside` of the sidecar lead to ports `inside` of the container, one to one.

    Both are a first and a last port; the two ranges have one length.
    """

    outside: tuple[int, int]
    inside: tuple[int, int]
    protocol: Literal["tcp", "udp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """One declared link; see schema.json for the meaning of each key.

    Attributes:
        offsets: which of ip, mac, forward and vlanid grow with the replica's number.
        per_replica: the link as it is for replica 1, 2, …, where that was given.
    """

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
    up: bool = True
    routes: tuple[RouteSpec, ...] = ()
    nat: IPAddress | None = None
    netem: Netem | None = None
    mode: str = ""
    vlanid: int | None = None
    forwards: tuple[Forward, ...] = ()
    ethtool: Ethtool | None = None
    offsets: frozenset[str] = DEFAULT_OFFSETS
    per_replica: tuple[LinkSpec, ...] = ()

    def of(self, number: int) -> LinkSpec:
        """Return the link as it is for a replica, counted from 1."""
        return self.per_replica[number - 1] if number <= len(self.per_replica) else self


@dataclass(frozen=True, slots=True)
class BridgeSpec:
    """One switch, declared or only named; mode None is the default mode."""

    place: Place
    name: str
    mode: BridgeMode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelSpec:
    """One declared tunnel; see schema.json for the meaning of each key. Zero is "not given"."""

    place: Place
    type: Literal["geneve", "vxlan"]
    bridge: str
    remote: IPAddress
    vni: int
    port: int = 0
    local: IPAddress | None = None
    ttl: int = 0
    tos: int = 0
    df: str = ""
    mtu: int = 0
    netem: Netem | None = None


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
