"""What becomes of Open vSwitch, where it is the switch: its database, its daemons, its ports."""

from __future__ import annotations

from actuators.ovs_daemons import Place
from tests.faults.kinds.fault import Fault, Touched
from tests.faults.world import World
from tests.lab.ovs import DAEMONS, Tools


def _told(*words: str) -> Fault:
    """Return a fault that somebody tells the database; {port} and {bridge} are filled in."""

    def fault(world: World) -> Touched:
        if world.declared.mode != "ovs":
            return None
        links = [link for name in world.containers for link in world.declared.links(name)]
        link = world.random.choice([link for link in links if link.bridge])
        other = "wan" if link.bridge == "lan" else "lan"
        filled = {"port": link.outer, "bridge": link.bridge, "other": other}
        Tools(Place()).vsctl("--no-wait", *(word.format(**filled) for word in words))
        return set()

    return fault


def _ended(*daemons: str) -> Fault:
    """Return a fault that ends daemons without a word."""

    def fault(world: World) -> Touched:
        if world.declared.mode != "ovs":
            return None
        tools = Tools(Place())
        for daemon in daemons:
            tools.kill(daemon)
        return set()

    return fault


SWITCH: dict[str, Fault] = {
    "port deleted": _told("del-port", "{port}"),
    # As somebody does who leaves it marked as ours; a port of theirs would be a conflict.
    "port moved to another bridge": _told(
        *("--", "--id=@port", "get", "port", "{port}"),
        *("--", "remove", "bridge", "{bridge}", "ports", "@port"),
        *("--", "add", "bridge", "{other}", "ports", "@port"),
    ),
    "bridge of Open vSwitch deleted": _told("del-br", "{bridge}"),
    "snooping switched on": _told("set", "bridge", "{bridge}", "mcast_snooping_enable=true"),
    "ovsdb-server killed": _ended(DAEMONS[0]),
    "ovs-vswitchd killed": _ended(DAEMONS[1]),
    "both daemons killed": _ended(*DAEMONS),
}
