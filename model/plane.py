"""What the data plane should have whatever runs: its bridges and tunnels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from model.declared import BridgeSpec, Config, TunnelSpec
from model.facts import Facts
from model.keys import Key, NsKey, link_key
from model.kinds import geneve, vxlan
from model.resources import Link, OvsBridge, OvsPort, Qdisc, Resource
from model.wanted import Claim, Join, Wiring

_IP_HEADER = {4: 20, 6: 40}  # RFC 791, RFC 8200
_KINDS = {"vxlan": vxlan, "geneve": geneve}
_ETHERNET = 1500
# IFLA_INFO_KIND of the interface that Open vSwitch makes for each bridge, by its datapath.
LOCAL_PORT = {"system": "openvswitch", "netdev": "tun"}


def plane(config: Config, facts: Facts) -> Wiring:
    """Return what the data plane should have: bridges, and tunnels plugged into them."""
    resources: list[Resource] = []
    because: dict[Key, str] = {}
    parts: dict[Key, tuple[Key, ...]] = {}
    joins: list[Join] = []
    notes: dict[Key, str] = {}
    bridges: dict[Key, str] = {}
    claims: dict[Key, tuple[Claim, ...]] = {}
    modes = {bridge.name: facts.mode(bridge) for bridge in config.bridges}
    for bridge in config.bridges:
        made = _bridge(bridge, facts)
        resources += made
        because.update((r.key, f"{bridge.place} (bridge {bridge.name})") for r in made)
    for tunnel, name in zip(config.tunnels, tunnel_names(config.tunnels), strict=True):
        mode = modes[tunnel.bridge]
        made = _tunnel(tunnel, name, mode, facts)
        key = made[0].key
        resources += made
        because.update((r.key, f"{tunnel.place} (tunnel {name})") for r in made)
        parts[key] = tuple(r.key for r in made)
        bridges[key] = tunnel.bridge
        claims[key] = (Claim("interface name", str(facts.plane), name),)
        if mode == "patch":
            joins.append(Join(key, tunnel.bridge, key))
        if not tunnel.mtu:
            notes[key] = _of_mtu(tunnel, facts)
    return Wiring(
        tuple(resources),
        because,
        parts,
        bridges=bridges,
        claims=claims,
        joins=tuple(joins),
        notes=notes,
    )


def bridge_mac(instance: str, plane: NsKey, name: str) -> str:
    """Return the hardware address of a bridge: locally administered, the same each time.

    Without one of its own a Linux bridge has the lowest of its ports', which changes as they come
    and go (br_stp_recalculate_bridge_id(), net/bridge).
    """
    seed = f"{instance}\0{plane.kind}\0{name}".encode()
    digest = hashlib.blake2b(seed, digest_size=5, person=b"relink-bridge").hexdigest()
    return ":".join(["c2", *(digest[i : i + 2] for i in range(0, 10, 2))])


def _bridge(bridge: BridgeSpec, facts: Facts) -> list[Resource]:
    mac = bridge_mac(facts.instance, facts.plane, bridge.name)
    match facts.mode(bridge):
        case "linux":
            return [
                Link(
                    key=link_key(facts.plane, bridge.name),
                    kind="bridge",
                    mac=mac,
                    up=True,
                    group=facts.group,
                    alias=facts.alias(f"bridge {bridge.name}"),
                    silent=True,
                    # With it the bridge itself sends membership reports (seen on 6.18); without it
                    # groups are flooded, as by a plain switch.
                    settings=(("snooping", False),),
                )
            ]
        case "ovs":
            key = Key(facts.plane, "ovs-bridge", bridge.name)
            # Open vSwitch makes the bridge's own interface; it is marked and raised like ours.
            own = Link(
                key=link_key(facts.plane, bridge.name),
                kind=LOCAL_PORT[facts.datapath],
                up=True,
                group=facts.group,
                alias=facts.alias(f"bridge {bridge.name}"),
                silent=True,
            )
            return [OvsBridge(key=key, datapath=facts.datapath, mac=mac), own]
    return []  # a patch is nothing by itself


def tunnel_names(tunnels: Iterable[TunnelSpec]) -> list[str]:
    """Return the interface name of each tunnel: `<type>-<vni>`, as conlink's.

    A second one with the same type and vni has a hash of its remote and port instead of the type.
    """
    names: list[str] = []
    for tunnel in tunnels:
        name = f"{tunnel.type}-{tunnel.vni}"
        if name in names:
            seed = f"{tunnel.type} {tunnel.remote} {tunnel.port}".encode()
            # With the largest vni the 15 characters that a name may have.
            name = f"{tunnel.type[0]}{tunnel.vni}-{hashlib.blake2b(seed).hexdigest()[:5]}"
        names.append(name)
    return names


def tunnel_mtu(tunnel: TunnelSpec, facts: Facts) -> int:
    """Return the largest packet that a tunnel takes without fragments of the outer ones, in bytes.

    Without a route to the remote the way there is taken for an Ethernet.
    """
    below = facts.underlay.get(str(tunnel.remote), _ETHERNET)
    overhead = _IP_HEADER[tunnel.remote.version] + _KINDS[tunnel.type].OVERHEAD
    return tunnel.mtu or max(below - overhead, 68)


def _of_mtu(tunnel: TunnelSpec, facts: Facts) -> str:
    mtu = tunnel_mtu(tunnel, facts)
    if str(tunnel.remote) in facts.underlay:
        return f"mtu {mtu}, which fits the way to {tunnel.remote}"
    return f"no route to {tunnel.remote}; mtu {mtu}, as for an Ethernet"


def _tunnel(tunnel: TunnelSpec, name: str, mode: str, facts: Facts) -> list[Resource]:
    settings: dict[str, object] = {
        "vni": tunnel.vni,
        "remote": str(tunnel.remote),
        "port": tunnel.port or _KINDS[tunnel.type].PORT,
    }
    if tunnel.local:
        settings["local"] = str(tunnel.local)
    given = {"ttl": tunnel.ttl, "tos": tunnel.tos, "df": tunnel.df}
    settings.update((key, value) for key, value in given.items() if value)
    link = Link(
        key=link_key(facts.plane, name),
        kind=tunnel.type,
        mtu=tunnel_mtu(tunnel, facts),
        up=True,
        master=tunnel.bridge if mode == "linux" else "",
        group=facts.group,
        alias=facts.alias(f"{name} to {tunnel.remote} on {tunnel.bridge}"),
        silent=True,
        settings=tuple(sorted(settings.items())),
    )
    made: list[Resource] = [link]
    if mode == "ovs":
        made.append(OvsPort(key=Key(facts.plane, "ovs-port", name), bridge=tunnel.bridge))
    if tunnel.netem:
        made.append(Qdisc(key=Key(facts.plane, "qdisc", name, "root"), netem=tunnel.netem))
    return made
