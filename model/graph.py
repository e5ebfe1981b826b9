"""The network as nodes and edges: who is joined to what, and by what.

Refuses to know how it is drawn, and who looked at the kernel.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from model.addressing import AddressError, offset_interface, offset_mac
from model.declared import BridgeMode, BridgeSpec, Config, Forward, LinkSpec, TunnelSpec
from model.desired import matches, namespace_of
from model.facts import Facts
from model.forwarding import offset_ports
from model.keys import Key, link_key
from model.netem import impairments
from model.plane import tunnel_names
from model.replicas import Container

NodeKind = Literal["bridge", "container", "parent", "remote", "service"]
NOT_RUNNING = "Not running"


@dataclass(frozen=True, slots=True)
class Sight:
    """How something declared is, as a look at the kernel found it.

    Attributes:
        state: as in status (`Ready`, `Pending`, …), or `Not running`.
        message: why it is not Ready, or what else is to be known about it.
        drift: what differs from the declaration, in words.
        netem: the impairments that the kernel has on it, in the words of tc-netem(8); of those that
            somebody else put there only that they are.
    """

    state: str
    message: str = ""
    drift: tuple[str, ...] = ()
    netem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Something that links lead to or from.

    Attributes:
        id: unique in its graph, and the same for the same thing each time.
        kind: `parent` is an interface that is not ours, `remote` the far end of tunnels.
        name: what people call it.
        count: of a service, how many replicas there are, None where that is not said.
        detail: the mode of a bridge; whose interface a parent is.
        sight: None unless somebody looked.
    """

    id: str
    kind: NodeKind
    name: str
    count: int | None = None
    detail: str = ""
    sight: Sight | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A declared link or tunnel.

    Attributes:
        source: id of the node that has the interface: a container, or the remote of a tunnel.
        target: id of the node that it leads to, None where it does not leave its container.
        type: veth, dummy, vlan, …, vxlan, geneve.
        dev: name of the interface.
        replica: of which replica it is, where replicas have words of their own.
        addresses: with prefix length; of a service those of its first replica.
        last: those of its last replica, where it has others.
        mac, mtu, mode, vlanid, nat, netem: as declared, empty where they are not.
        parent: the interface of the same container that it is stacked on.
        outer: the declared name of the other end.
        forwards: `80:8080/tcp`: port of the sidecar, port of the container.
        vni, port, local: of a tunnel.
        sight: None unless somebody looked.
    """

    source: str
    target: str | None
    type: str
    dev: str
    replica: int | None = None
    addresses: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    mac: str = ""
    mtu: int | None = None
    mode: str = ""
    vlanid: int | None = None
    parent: str = ""
    outer: str = ""
    nat: str = ""
    netem: str = ""
    forwards: tuple[str, ...] = ()
    vni: int | None = None
    port: int | None = None
    local: str = ""
    sight: Sight | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """A whole network; equal ones have equal tuples, whatever order things were declared in."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def declared(
    config: Config, counts: Mapping[str, int] | None = None, mode: BridgeMode = "auto"
) -> Graph:
    """Return what a configuration declares, whatever runs.

    `counts` says how many replicas a service has, where that is known; `mode` is that of bridges
    which name none.
    """
    made = _Maker(config)
    for bridge in config.bridges:
        made.bridge(bridge, bridge.mode or mode)
    for spec in config.links:
        made.declared(spec, counts or {})
    for tunnel, name in zip(config.tunnels, tunnel_names(config.tunnels), strict=True):
        made.tunnel(tunnel, name)
    return made.graph()


def live(
    config: Config, containers: Iterable[Container], facts: Facts, sights: Mapping[Key, Sight]
) -> Graph:
    """Return what is declared for each running container, with what a look at it found.

    `sights` is by each container's end of a link, and by the data plane's bridges and tunnels.
    Owners of which nothing runs are `Not running`.
    """
    made = _Maker(config)
    for bridge in config.bridges:
        sight = sights.get(link_key(facts.plane, bridge.name))
        made.bridge(bridge, facts.mode(bridge), sight)
    found = list(containers)
    names = {container.id: namespace_of(container, facts) for container in found}
    several = Counter(str(ns) for ns in names.values())
    for spec in config.links:
        owners = [each for each in found if matches(spec.owner, each, facts)]
        for each in owners:
            ns = names[each.id]
            name = str(ns) if several[str(ns)] == 1 else f"{ns} ({each.id[:12]})"
            number = each.number if spec.owner.kind == "service" else 1
            source = made.add(Node(id=f"container:{name}", kind="container", name=name))
            made.link(_of(spec, number), source, sight=sights.get(link_key(ns, spec.dev)))
        if not owners:
            made.declared(spec, {}, Sight(NOT_RUNNING))
    for tunnel, name in zip(config.tunnels, tunnel_names(config.tunnels), strict=True):
        made.tunnel(tunnel, name, sights.get(link_key(facts.plane, name)))
    return made.graph()


class _Maker:
    """Collects nodes and edges while declarations are gone through in order."""

    def __init__(self, config: Config) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: list[Edge] = []
        self.bridges = {bridge.name for bridge in config.bridges}

    def graph(self) -> Graph:
        nodes = sorted(self.nodes.values(), key=lambda node: _natural(node.id))
        edges = sorted(
            self.edges,
            key=lambda e: (_natural(e.source), _natural(e.dev), e.replica or 0, e.target or ""),
        )
        return Graph(tuple(nodes), tuple(edges))

    def add(self, node: Node) -> str:
        self.nodes.setdefault(node.id, node)
        return node.id

    def bridge(self, spec: BridgeSpec, mode: BridgeMode, sight: Sight | None = None) -> None:
        name = spec.name
        self.add(Node(id=f"bridge:{name}", kind="bridge", name=name, detail=mode, sight=sight))

    def declared(
        self, spec: LinkSpec, counts: Mapping[str, int], sight: Sight | None = None
    ) -> None:
        """Add a link of an owner; one for each replica that has its own words, and for the rest."""
        kind, name = spec.owner.kind, spec.owner.name
        count = counts.get(name) if kind == "service" else None
        source = self.add(Node(id=f"{kind}:{name}", kind=kind, name=name, count=count, sight=sight))
        own = len(spec.per_replica) if count is None else min(count, len(spec.per_replica))
        for number in range(1, own + 1):
            self.link(_of(spec, number), source, replica=number, sight=sight)
        if not count or count > own:
            last = _of(spec, count) if count else None
            self.link(_of(spec, own + 1), source, last=last, sight=sight)

    def link(
        self,
        spec: LinkSpec,
        source: str,
        *,
        replica: int | None = None,
        last: LinkSpec | None = None,
        sight: Sight | None = None,
    ) -> None:
        addresses = tuple(map(str, spec.ips))
        until = tuple(map(str, last.ips)) if last else addresses
        self.edges.append(
            Edge(
                source=source,
                target=self.target(spec),
                type=spec.type,
                dev=spec.dev,
                replica=replica,
                addresses=addresses,
                last=until if until != addresses else (),
                mac=spec.mac,
                mtu=spec.mtu,
                mode=spec.mode,
                vlanid=spec.vlanid,
                parent=spec.outer_dev if spec.base == "local" else "",
                outer=spec.outer_dev if spec.type == "veth" else "",
                nat=str(spec.nat or ""),
                netem=impairments(spec.netem),
                forwards=tuple(map(_ports, spec.forwards)),
                sight=sight,
            )
        )

    def target(self, spec: LinkSpec) -> str | None:
        if spec.bridge:
            return f"bridge:{spec.bridge}"
        if spec.base == "local":
            return None
        if spec.base == "conlink" and spec.outer_dev in self.bridges:
            return f"bridge:{spec.outer_dev}"
        whose = {"host": "host", "conlink": "sidecar"}[spec.base]
        name = spec.outer_dev
        return self.add(Node(id=f"parent:{whose}:{name}", kind="parent", name=name, detail=whose))

    def tunnel(self, spec: TunnelSpec, name: str, sight: Sight | None = None) -> None:
        remote = str(spec.remote)
        self.edges.append(
            Edge(
                source=self.add(Node(id=f"remote:{remote}", kind="remote", name=remote)),
                target=f"bridge:{spec.bridge}",
                type=spec.type,
                dev=name,
                mtu=spec.mtu or None,
                netem=impairments(spec.netem),
                vni=spec.vni,
                port=spec.port or None,
                local=str(spec.local or ""),
                sight=sight,
            )
        )


def _of(spec: LinkSpec, number: int) -> LinkSpec:
    """Return a link as it is for a replica; where that leads nowhere, as it is declared."""
    own, offset = spec.of(number), number - 1
    if spec.owner.kind == "container" or not offset:
        return own
    moves = own.offsets
    try:
        return replace(
            own,
            ips=tuple(offset_interface(ip, offset) for ip in own.ips) if "ip" in moves else own.ips,
            mac=offset_mac(own.mac, offset) if own.mac and "mac" in moves else own.mac,
            vlanid=own.vlanid + offset if own.vlanid and "vlanid" in moves else own.vlanid,
            forwards=tuple(offset_ports(f, offset) for f in own.forwards)
            if "forward" in moves
            else own.forwards,
        )
    except AddressError:
        return own


def _ports(forward: Forward) -> str:
    sides = ("-".join(map(str, dict.fromkeys(side))) for side in (forward.outside, forward.inside))
    return f"{':'.join(sides)}/{forward.protocol}"


def _natural(text: str) -> tuple[tuple[str, int, str], ...]:
    """Return what sorts `node_2` before `node_10`."""
    parts = re.findall(r"([^0-9]*)0*([0-9]*)", text)
    return (*((word, len(digits), digits) for word, digits in parts), (text, 0, ""))
