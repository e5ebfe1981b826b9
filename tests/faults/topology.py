"""What is declared while faults happen, and, told apart from any code of Relink, what it comes to.

A service `node` has replicas on the switch `lan`; `server` and `router` are containers, the router
on both switches. A cable (a bridge in mode patch) joins server and router; a port of the data plane
is forwarded to the server, and the router translates. One `Declared` is one content of the network
file; changing it is an event too.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

SERVER, ROUTER = "server", "router"
CABLE = {"cable-s": "cable-r", "cable-r": "cable-s"}  # either end of the patch, and the other
CABLE_OF = {"cable-s": SERVER, "cable-r": ROUTER}  # whose link each end belongs to
MTU = 1500  # of whatever no fault changes it; Open vSwitch's own datapath takes no 65535
BEHIND = "192.0.2.9"  # what the router translates to


@dataclass(frozen=True, slots=True)
class Declared:
    """What one network file says, by what may change in it.

    Attributes:
        mtu: of the replicas' links.
        third: the third number of the replicas' addresses, 10.0.<third>.1 for the first of them.
        routed: replicas have a default route, and one of IPv6, and a blackhole.
        extra: the server has a second link, on the switch `wan`.
        mode: of both switches, linux or ovs.
        translates: a port is forwarded to the server, and the router translates; not every kernel
            can.
    """

    mtu: int = 1500
    third: int = 0
    routed: bool = True
    extra: bool = True
    mode: str = "linux"
    translates: bool = True

    def text(self) -> str:
        """Return the network file."""
        node = (
            f"service: node, bridge: lan, mtu: {self.mtu}, ip: [10.0.{self.third}.1/16, fd00::1/64]"
        )
        if self.routed:
            routes = "default via 10.0.255.1, 'fd01::/64 via fd00::ffff', blackhole 192.0.2.0/24"
            node += f", route: [{routes}]"
        forward, nat = "", ""
        if self.translates:
            forward, nat = ", forward: ['8080:80/tcp']", f", nat: {BEHIND}"
        lines = [
            "bridges:",
            "- {bridge: cable, mode: patch}",
            *(f"- {{bridge: {bridge}, mode: {self.mode}}}" for bridge in ("lan", "wan")),
            "links:",
            f"- {{{node}}}",
            "- {container: server, bridge: lan, ip: 10.0.255.2/16, outer-dev: server0,",
            f"   mtu: {MTU}{forward}}}",
            "- {container: router, bridge: lan, dev: lan0, outer-dev: router0,",
            f"   mtu: {MTU}, ip: [10.0.255.1/16, 'fd00::ffff/64']{nat}}}",
            "- {container: router, bridge: wan, dev: wan0, outer-dev: uplink,",
            f"   mtu: {MTU}, ip: 172.16.0.1/24}}",
            "- {container: server, bridge: cable, dev: p0, outer-dev: cable-s,",
            f"   mtu: {MTU}, ip: 10.7.0.1/24}}",
            "- {container: router, bridge: cable, dev: p0, outer-dev: cable-r,",
            f"   mtu: {MTU}, ip: 10.7.0.2/24}}",
        ]
        if self.extra:
            lines += [
                "- {container: server, bridge: wan, dev: eth1, outer-dev: server1,",
                f"   mtu: {MTU}, ip: 172.16.0.2/24}}",
            ]
        return "\n".join(lines) + "\n"

    def links(self, container: str) -> list[Link]:
        """Return the links that a running container has to have."""
        if container == SERVER:
            links = [
                Link(container, "eth0", "server0", "lan", MTU, ("10.0.255.2/16",)),
                Link(container, "p0", "cable-s", "", MTU, ("10.7.0.1/24",)),
            ]
            if self.extra:
                links.append(Link(container, "eth1", "server1", "wan", MTU, ("172.16.0.2/24",)))
            return links
        if container == ROUTER:
            lan = ("10.0.255.1/16", "fd00::ffff/64")
            return [
                Link(container, "lan0", "router0", "lan", MTU, lan),
                Link(container, "wan0", "uplink", "wan", MTU, ("172.16.0.1/24",)),
                Link(container, "p0", "cable-r", "", MTU, ("10.7.0.2/24",)),
            ]
        replica = int(container.removeprefix("node_"))
        four = ipaddress.ip_address(f"10.0.{self.third}.0") + replica
        six = ipaddress.ip_address("fd00::") + replica
        routes = ("default 10.0.255.1", "fd01::/64 fd00::ffff", "blackhole 192.0.2.0/24")
        return [
            Link(
                container, "eth0", f"{container}-eth0", "lan", self.mtu,
                (f"{four}/16", f"{six}/64"), routes if self.routed else (),
            )
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Link:
    """A veth link as an administrator would describe it; routes as `what via`.

    One of the cable is on no bridge.
    """

    container: str
    inner: str
    outer: str
    bridge: str
    mtu: int
    addresses: tuple[str, ...]
    routes: tuple[str, ...] = ()
