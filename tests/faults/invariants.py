"""What has to hold whenever the network has come to rest, whatever was done to it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from actuators.ovs_daemons import Place
from tests.faults import foreign, kernel
from tests.faults.engines import INSTANCE, PLANE
from tests.faults.kernel import Seen
from tests.faults.topology import BEHIND, CABLE, CABLE_OF, ROUTER, SERVER, Link
from tests.faults.world import CALLER, OTHER, PASSING, World
from tests.lab.ovs import DAEMONS, Tools

BRIDGES = ("lan", "wan")
# What forwards and translates, by where it is: words that nft(8) and ip(8) have to tell. And the
# link that it belongs to.
_TOLD = {
    PLANE: ("tcp dport 8080 dnat ip to 10.0.255.2:80", "10.0.255.2 dev lan"),
    SERVER: (
        "ether saddr",
        "ct direction reply meta mark set",
        "sport 80",
        "default 169.254.0.158",
    ),
    ROUTER: (f'iifname "lan0" dnat ip to {BEHIND}', 'oifname "lan0" snat ip to 10.0.255.1'),
}  # fmt: skip
_MARKED = {PLANE: "10.0.255.2", SERVER: "default 169.254.0.158"}  # the way to the server, and back
_RULES = 2  # of the way back
_TABLE = "table inet relink-"
_DOOR, _CALLER = "10.201.0.1", "10.201.0.2"  # of whoever asks for a forwarded port
_ADDRESS = re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b")
_ITS_LINK = {PLANE: f"{SERVER}:eth0", SERVER: f"{SERVER}:eth0", ROUTER: f"{ROUTER}:lan0"}
# ovs-vswitchd asks for a database that was away again after one, two, four and eight seconds (3.1).
UNTOLD = "Open vSwitch has not said what it sends to"


Looks = dict[str, Seen]  # by container, PLANE and OTHER


def look(world: World) -> Looks:
    """Look at every namespace that has links of ours."""
    return {name: world.engine.look(name) for name in (PLANE, OTHER, *world.containers)}


def look_again(world: World, looks: Looks, touched: set[str], wrong: Iterable[str]) -> Looks:
    """Look again where something was done, or differed, and at the data plane."""
    if "*" in touched or looks.keys() != {PLANE, OTHER, *world.containers}:
        return look(world)
    named = {each.partition(":")[0].rpartition(" ")[2] for each in wrong}
    # The plane first: what has become right there is right in its container by then.
    again = [name for name in looks if name in {PLANE, OTHER, *touched, *named}]
    return {**looks, **{name: world.engine.look(name) for name in again}}


def differences(world: World, looks: Looks) -> list[str]:
    """Return how what is there differs from what is declared and possible, empty if not at all."""
    plane = looks[PLANE]
    found = [each for name in BRIDGES for each in _bridge(name, plane, world.declared.mode)]
    found += _left(world, PLANE, set(), plane)
    wanted: set[str] = set()
    for container in world.containers:
        seen = looks[container]
        links = world.declared.links(container)
        for link in links:
            wanted.add(link.outer)
            found += _link(world, link, seen, plane)
        place, devs = world.place(container), [link.inner for link in links]
        found += [f"{container}:{dev}: tx offload" for dev in kernel.offloaded(place, devs)]
        found += _routes(container, links, seen)
        found += _left(world, container, {route for link in links for route in link.routes}, seen)
        known = {link.inner for link in links} | {"lo", *foreign.LINKS, *PASSING}
        known |= {world.beside.get(container, "lo")}
        found += [f"{container}: orphan {name}" for name in sorted(seen.links.keys() - known)]
    if not found and {SERVER, ROUTER} <= set(world.containers):  # dearer to look at
        found += _policy(world, looks)
    found += [
        f"orphan {name} in {OTHER}"
        for name in sorted(looks[OTHER].links.keys() - {"lo", *foreign.LINKS, *PASSING})
    ]
    known = wanted | {"lo", *foreign.LINKS, *BRIDGES, *PASSING}
    if world.declared.mode == "ovs":
        known |= {"ovs-netdev", foreign.SWITCH}  # the first is of its own datapath
        if not found:
            found += _ports(world, plane)
    found += [f"orphan {name}" for name in sorted(plane.links.keys() - known)]
    return found


def left(world: World) -> list[str]:
    """Return what is of ours although Relink has ended in order, empty if nothing is."""
    found = []
    for name in world.containers if world.engine.plane_goes else (PLANE, *world.containers):
        seen = world.engine.look(name)
        known = {"lo", *foreign.LINKS, *PASSING, world.beside.get(name, "lo")}
        if name == PLANE and world.declared.mode == "ovs":
            known |= {"ovs-netdev", foreign.SWITCH}
        found += [f"{name}: {link}" for link in sorted(seen.links.keys() - known)]
        found += [f"{name}: route {route}" for route in sorted(seen.marked)]
        if seen.marked_rules or _TABLE in kernel.translated(world.place(name)):
            found.append(f"{name}: rules or tables")
    return found


def silences(world: World) -> list[str]:
    """Return where nothing passes that should: over each switch, the cable, and a forwarded port.

    Who asks for the port is somebody in a namespace without links of ours, for this moment.
    """
    ways = [(node, "10.0.255.2") for node in world.nodes() if SERVER in world.containers]
    if {SERVER, ROUTER} <= set(world.containers):
        ways.append((SERVER, "10.7.0.2"))
        ways += [(ROUTER, "172.16.0.2")] * world.declared.extra
    found = [
        f"{name} hears nothing of {address}"
        for name, address in ways
        if not kernel.pings(world.place(name), address)
    ]
    if SERVER in world.containers and world.declared.translates:
        name, other = CALLER, world.engine.target(OTHER)
        refused = kernel.ip(
            [
                f"link add {name} type veth peer name {name} netns {other}",
                f"addr add {_DOOR}/30 dev {name}",
                f"link set {name} up",
            ],
            world.place(),
        ) + kernel.ip(
            [f"addr add {_CALLER}/30 dev {name}", f"link set {name} up"], world.place(OTHER)
        )
        if refused or not kernel.connects(
            world.place(OTHER), (_DOOR, 8080), world.place(SERVER), 80
        ):
            found.append(f"{OTHER} reaches no server over port 8080 {refused}")
        kernel.ip([f"link del {name}"], world.place())
    return found


def _bridge(name: str, plane: Seen, mode: str) -> Iterator[str]:
    bridge = plane.links.get(name)
    if bridge is None:
        yield f"bridge {name} is not there"
        return
    if "UP" not in bridge["flags"]:
        yield f"bridge {name} is down"
    if mode != "linux":
        return
    for told, is_, should in (
        ("kind", bridge["linkinfo"]["info_kind"], "bridge"),
        ("alias", bridge.get("ifalias"), f"relink {INSTANCE}: bridge {name}"),
        ("silent", bridge.get("inet6_addr_gen_mode"), "none"),
        ("snooping", bridge["linkinfo"]["info_data"]["mcast_snooping"], 0),
    ):
        if is_ != should:
            yield f"bridge {name}: {told} is {is_}, not {should}"


def _ports(world: World, plane: Seen) -> Iterator[str]:
    yield from (f"{each} does not run" for each in DAEMONS if not Tools(Place()).pid(each))
    switched = kernel.switched()
    wanted = {}
    for container in world.containers:
        for link in world.declared.links(container):
            should = (link.bridge, plane.links[link.outer]["ifindex"])
            is_ = switched.ports.get(link.outer)
            if link.bridge and is_ == (link.bridge, None):
                yield f"{container}:{link.inner}: {UNTOLD}"
            elif link.bridge and is_ != should:
                yield f"{container}:{link.inner}: its port is {is_}, not {should}"
            wanted[link.outer] = link.bridge
    yield from (f"bridge {name} is not plain" for name in set(BRIDGES) - switched.plain)
    for name, (bridge, _) in switched.ports.items():
        if bridge in BRIDGES and bridge not in (name, wanted.get(name)):
            yield f"orphan port {name} on {bridge}"


def _left(world: World, name: str, declared: set[str], seen: Seen) -> Iterator[str]:
    """Yield what has Relink's mark and nothing declares."""
    translates = world.declared.translates
    known = declared | ({_MARKED[name]} if translates and name in _MARKED else set())
    yield from (f"{name}: orphan route {route}" for route in sorted(seen.marked - known))
    most = _RULES if translates and name == SERVER else 0
    if seen.marked_rules > most:
        yield f"{name}: {seen.marked_rules} rules of ours, not {most}"


def _policy(world: World, looks: Looks) -> Iterator[str]:
    targets = kernel.redirected(list(CABLE), world.place())
    for (end, other), target in zip(CABLE.items(), targets, strict=True):
        if target != other:
            link = f"{CABLE_OF[end]}:p0"
            yield f"{link}: what arrives on {end} goes to {target or 'nowhere'}, not {other}"
    for name, words in _TOLD.items():
        tables = kernel.translated(world.place(name))
        told = tables + looks[name].ways
        if (is_ := tables.count(_TABLE)) != (should := int(world.declared.translates)):
            yield f"{_ITS_LINK[name]}: {name} has {is_} tables of ours, not {should}"
        if world.declared.translates:
            lacking = (each for each in words if each not in told)
            yield from (f"{_ITS_LINK[name]}: {name} lacks {each!r}" for each in lacking)
            table = _table(tables)
            if table != (was := world.tables.get((world.declared, name), table)):
                yield f"{_ITS_LINK[name]}: the table in {name} was\n{was}\nand is\n{table}"


def _table(tables: str) -> str:
    """Return Relink's table, without the MAC addresses of bridges, which are their namespace's."""
    return _ADDRESS.sub("MAC", kernel.table(tables, _TABLE))


def remember(world: World, looks: Looks) -> None:
    """Know what is the same in each later life of a link, and under the same network file."""
    for container in world.containers:
        links = looks[container].links
        for link in world.declared.links(container):
            world.macs.setdefault(f"{container}:{link.inner}", links[link.inner]["address"])
    if world.declared.translates and {SERVER, ROUTER} <= set(world.containers):
        for name in _TOLD:
            if (world.declared, name) not in world.tables:
                table = _table(kernel.translated(world.place(name)))
                world.tables[world.declared, name] = table


def _link(world: World, link: Link, seen: Seen, plane: Seen) -> Iterator[str]:
    where = f"{link.container}:{link.inner}"
    inner, outer = seen.links.get(link.inner), plane.links.get(link.outer)
    if inner is None or outer is None:
        yield f"{where}: {'inner' if inner is None else 'outer'} end is not there"
        return
    for told, is_, should in (
        ("peer", inner.get("link_index"), outer["ifindex"]),
        ("mtu", inner["mtu"], link.mtu),
        ("outer mtu", outer["mtu"], link.mtu),
        ("up", "UP" in inner["flags"], True),
        ("outer up", "UP" in outer["flags"], True),
        ("master", outer.get("master", ""), link.bridge * (world.declared.mode == "linux")),
        ("alias", inner.get("ifalias", "").partition(" on ")[0], f"relink {INSTANCE}: {where}"),
        ("mac", inner["address"], _mac(world.macs.get(where, inner["address"]))),
        ("addresses", seen.addresses(link.inner), frozenset(link.addresses)),
        ("silent", outer.get("inet6_addr_gen_mode"), "none"),
    ):
        if is_ != should:
            yield f"{where}: {told} is {is_}, not {should}"


def _mac(address: str) -> str:
    """Return the address if it is one that Relink derives: local, and no group's; else what is."""
    first = int(address[:2], 16)
    return address if first & 3 == 2 and not address.endswith("00:99") else "a derived one"


def _routes(container: str, links: list[Link], seen: Seen) -> Iterator[str]:
    for link in links:
        for address in link.addresses:
            network = str(ipaddress.ip_interface(address).network)
            if network not in seen.routes:
                yield f"{container}:{link.inner}: route to {network} is not there"
        for route in link.routes:
            if route not in seen.routes:
                there = sorted(seen.routes)
                yield f"{container}:{link.inner}: route {route} is not there, of {there}"


class Standing(NamedTuple):
    """What tells that a link is the same as before.

    Its ends' indexes, bytes that only grow, when its addresses were given to it, and how often the
    carrier of each end has come and gone. One index does not: a link that Relink makes anew may
    have that of the one before.
    """

    ifindex: int
    peer: int
    received: int
    sent: int
    made: dict[bytes, int]  # by address
    carriers: tuple[int, int]
    bridge: tuple[str, int, int]  # of the kernel: its name, index, and carrier

    def goes_on(self, before: Standing, touched: set[str]) -> bool:
        """Tell whether this is what became of it; `touched` are containers and bridges."""
        counted = self.received >= before.received and self.sent >= before.sent
        both = self.made.keys() & before.made.keys()
        stayed = all(self.made[address] == before.made[address] for address in both)
        ends = (self.ifindex, self.peer) == (before.ifindex, before.peer)
        held = self.carriers == before.carriers
        plugged = before.bridge[0] in touched or self.bridge == before.bridge
        return counted and stayed and ends and held and plugged


Standings = dict[str, dict[str, Standing]]  # container → interface → how it stands


def standings(world: World, looks: Looks) -> Standings:
    """Return how each container's declared links stand."""
    found: Standings = {}
    outers = kernel.carriers(world.place())
    for container in world.containers:
        place, links = world.place(container), looks[container].links
        made, inners = kernel.made(place), kernel.carriers(place)
        found[container] = {}
        for link in world.declared.links(container):
            row, plane = links[link.inner], looks[PLANE].links
            bridge = plane[link.outer].get("master", "")
            number = plane[bridge]["ifindex"] if bridge in plane else 0
            index, peer = row["ifindex"], row["link_index"]
            counted = row["stats64"]
            found[container][link.inner] = Standing(
                index,
                peer,
                counted["rx"]["bytes"],
                counted["tx"]["bytes"],
                {address: at for (of, address), at in made.items() if of == index},
                (inners.get(index, 0), outers.get(peer, 0)),
                (bridge, number, outers.get(number, 0)),
            )
    return found
