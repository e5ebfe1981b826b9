"""What administrators do to links, routes and bridges that are not theirs."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults import foreign, kernel
from tests.faults.engines import PLANE
from tests.faults.kinds.fault import ALL, Fault, Touched, some
from tests.faults.topology import CABLE, CABLE_OF, ROUTER, SERVER, Link
from tests.faults.world import OTHER, World


def _do(world: World, lines: Sequence[str], place: str) -> None:
    """Do things with ip(8), and note it if the last of them, which matters, did not work."""
    told = kernel.ip(lines, place)
    if f"failed -:{len(lines)}\n" in told:
        world.idle.append(f"{lines[-1]}: {told}")


def _run(world: World, place: str, *words: str) -> None:
    """Run a program in a namespace, and note it if it did not do what it should."""
    try:
        kernel.run(*kernel.inside(place), *words)
    except RuntimeError as error:
        world.idle.append(str(error))


def _of_a_link(*lines: str, outer: bool = False) -> Fault:
    """Return a fault that does something to a link; {inner}, {outer}, {bridge}, … are filled in."""

    def fault(world: World) -> Touched:
        container, link = _any_link(world)
        words = {
            "inner": link.inner, "outer": link.outer, "bridge": link.bridge,
            "other": world.engine.target(OTHER),
            "address": world.random.choice(link.addresses), "mtu": str(link.mtu - 100),
            "mac": "02:00:00:00:00:99",
        }  # fmt: skip
        place = world.place() if outer else world.place(container)
        _do(world, [line.format(**words) for line in lines], place)
        return {container}

    return fault


def _membership(world: World) -> Touched:
    if world.declared.mode != "linux":  # else nothing is a port in the kernel's eyes
        return None
    links = [link for name in world.containers for link in world.declared.links(name)]
    link = world.random.choice([link for link in links if link.bridge])
    _do(world, [f"link set {link.outer} nomaster"], world.place())
    return {link.container}


def _any_link(world: World) -> tuple[str, Link]:
    container = world.random.choice(world.containers)
    return container, world.random.choice(world.declared.links(container))


def _route(*lines: str) -> Fault:
    def fault(world: World) -> Touched:
        if not world.declared.routed or not world.nodes():
            return None
        node = world.random.choice(world.nodes())
        _do(world, lines, world.place(node))
        return {node}

    return fault


def _prefix_route(world: World) -> Touched:
    container, link = _any_link(world)
    _do(world, [f"route flush dev {link.inner} proto kernel"], world.place(container))
    return {container}


def _qdisc(world: World) -> Touched:
    """Nobody declares one, so that it stays for as long as the link does."""
    container, link = _any_link(world)
    before = _which(world, container, link.inner)
    words = f"qdisc replace dev {link.inner} root tbf rate 10gbit burst 1mb latency 1ms"
    _run(world, world.place(container), "tc", *words.split())

    def harmed() -> str:
        if container not in world.containers:
            return ""
        now = world.engine.look(container).links.get(link.inner, {}).get("qdisc")
        if now == "tbf" or _which(world, container, link.inner) != before:
            return ""
        return f"{container}:{link.inner}: somebody's qdisc is {now}"

    if not world.idle:
        world.added[container, link.inner] = harmed
    return set()


def _offload(world: World) -> Touched:
    container, link = _any_link(world)
    _run(world, world.place(container), "ethtool", "-K", link.inner, "tx", "on")
    return {container}


def _cable(*lines: str) -> Fault:
    """Return a fault that does something to traffic control of an end of the cable."""

    def fault(world: World) -> Touched:
        end = world.random.choice(sorted(CABLE))
        for line in lines:
            _run(world, world.place(), "tc", *line.format(end=end).split())
        world.added.pop((CABLE_OF[end], end), None)
        return set()

    return fault


def _which(world: World, name: str, device: str) -> tuple[int, int | None, int | None]:
    """Return what tells a link from another, if it was not made anew by what touched it."""
    link = world.engine.look(name).links.get(device, {})
    return kernel.cookie(world.place(name)), link.get("ifindex"), link.get("link_index")


def _filter(world: World) -> Touched:
    """Nobody declares one, so that it stays for as long as the link does; it meets no packet."""
    end = world.random.choice(sorted(CABLE))
    before = _which(world, PLANE, end)
    words = f"filter replace dev {end} ingress pref 9 protocol ip u32"
    words += " match ip src 198.51.100.9/32 flowid 1:1"
    _run(world, world.place(), "tc", *words.split())

    def harmed() -> str:
        words = ("tc", "filter", "show", "dev", end, "ingress", "pref", "9")
        if "u32" in kernel.told(world.place(), *words) or _which(world, PLANE, end) != before:
            return ""
        return f"{end}: somebody's filter is gone"

    if not world.idle:
        world.added[CABLE_OF[end], end] = harmed
    return set()


def _translation(*lines: str) -> Fault:
    """Return a fault that does something to a table of nftables; {table} is filled in."""

    def fault(world: World) -> Touched:
        if not world.declared.translates:
            return None
        place = world.place(world.random.choice([PLANE, SERVER, ROUTER]))
        told = kernel.run(*kernel.inside(place), "nft", "list", "tables").split()
        table = next((word for word in told if word.startswith("relink-")), "none")
        for line in lines:  # it is not there while the container is new
            _run(world, place, "nft", *line.format(table=table).split())
        return set()

    return fault


def _everything_translating(world: World) -> Touched:
    """Somebody flushes all of nftables, what is theirs too, which they put there again."""
    name = world.random.choice([PLANE, SERVER, ROUTER])
    _run(world, world.place(name), "nft", "flush", "ruleset")
    foreign.put_table(world.place(name))
    return set()


def _way_back(*lines: str) -> Fault:
    """Return a fault that does something to how answers of what is forwarded leave the server."""

    def fault(world: World) -> Touched:
        if not world.declared.translates:
            return None
        _do(world, lines, world.place(SERVER))
        return set()

    return fault


def _bridge(*lines: str) -> Fault:
    def fault(world: World) -> Touched:
        if world.declared.mode != "linux":
            return None
        bridge = world.random.choice(["lan", "wan"])
        _do(world, [line.format(bridge=bridge) for line in lines], world.place())
        return {bridge}  # its ports stay what they are

    return fault


def _everything_deleted(world: World) -> Touched:
    lines = ["link delete lan", "link delete wan"]
    for container in world.containers:
        lines += [f"link delete {link.outer}" for link in world.declared.links(container)]
    kernel.ip(lines, world.place())
    return ALL


def _several(world: World) -> Touched:
    """Some things at once."""
    return drift(world, 3)


def _meanwhile(world: World) -> Touched:
    """More and more of one link, so that the last of it comes while Relink looks or writes."""
    container, link = _any_link(world)
    changes = ("mtu 1300", "alias somebody", "down")
    count = world.random.randrange(20, 400)  # of some 50 microseconds each
    lines = [f"link set {link.inner} {changes[at % 3]}" for at in range(count)]
    kernel.ip(lines, world.place(container))
    return {container}


DRIFT: dict[str, Fault] = {
    "inner end deleted": _of_a_link("link delete {inner}"),
    "outer end deleted": _of_a_link("link delete {outer}", outer=True),
    "inner end renamed": _of_a_link("link set {inner} down", "link set {inner} name mine"),
    "outer end renamed": _of_a_link(
        "link set {outer} down", "link set {outer} name mine", outer=True
    ),
    "inner end moved away": _of_a_link("link set {inner} netns {other}"),
    "outer end moved away": _of_a_link("link set {outer} netns {other}", outer=True),
    "inner end down": _of_a_link("link set {inner} down"),
    "outer end down": _of_a_link("link set {outer} down", outer=True),
    "inner end flaps": _of_a_link(*["link set {inner} down", "link set {inner} up"] * 3),
    "mtu changed": _of_a_link("link set {inner} mtu {mtu}"),
    "outer mtu changed": _of_a_link("link set {outer} mtu {mtu}", outer=True),
    "mac changed": _of_a_link("link set {inner} address {mac}"),
    "alias changed": _of_a_link("link set {inner} alias somebody"),
    "outer end no longer silent": _of_a_link(
        "link set {outer} addrgenmode eui64", "link set {outer} alias x", outer=True
    ),
    "address deleted": _of_a_link("addr delete {address} dev {inner}"),
    "addresses flushed": _of_a_link("addr flush dev {inner}"),
    "route deleted": _route("route delete default"),
    "IPv6 route deleted": _route("route delete fd01::/64"),
    "blackhole deleted": _route("route delete blackhole 192.0.2.0/24"),
    "route changed": _route("route replace default via 10.0.9.9 proto 158"),
    "route to the prefix deleted": _prefix_route,
    "offload switched on": _offload,
    "qdisc added": _qdisc,
    "qdisc of the cable deleted": _cable("qdisc delete dev {end} ingress"),
    "filter of the cable deleted": _cable("filter delete dev {end} ingress"),
    "filter of the cable added": _filter,
    "all of nftables flushed": _everything_translating,
    "table of nftables deleted": _translation("delete table inet {table}"),
    "table of nftables flushed": _translation("flush table inet {table}"),
    "rule of the way back deleted": _way_back("rule delete ipproto tcp sport 80"),
    "way back deleted": _way_back("route flush table all proto 158 default"),
    "bridge membership removed": _membership,
    "plugged into another bridge": _of_a_link(
        "link add foreign0 type bridge", "link set {outer} master foreign0", outer=True
    ),
    "bridge deleted": _bridge("link delete {bridge}"),
    "bridge down": _bridge("link set {bridge} down"),
    "bridge renamed": _bridge("link set {bridge} down", "link set {bridge} name mine"),
}


def drift(world: World, times: int = 1) -> set[str]:
    """Let some drift happen, as a part of another fault; return whose links it may touch."""
    return some(world, DRIFT.values(), times)


AT_ONCE: dict[str, Fault] = {
    "everything deleted": _everything_deleted,
    "three of these at once": _several,
    "another while one is repaired": _meanwhile,
}
