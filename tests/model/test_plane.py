"""What the data plane has whatever runs; bridges and tunnels as a whole are in test_desired.py."""

from __future__ import annotations

from model.declared import BridgeSpec, Config
from model.facts import ALIAS_MAX, Facts
from model.keys import HOST, SELF, NsKey
from model.plane import bridge_mac, plane
from model.problems import NOWHERE
from model.resources import Link, OvsBridge


def test_the_address_of_a_bridge_is_its_own_in_each_place() -> None:
    seen = [
        bridge_mac(instance, where, name)
        for instance in ("lab", "other")
        for where in (SELF, HOST, NsKey("pinned", "pinned", "lab"))
        for name in ("s1", "s2")
    ]
    assert len(set(seen)) == len(seen)
    assert bridge_mac("lab", SELF, "s1") == seen[0], "the same each time"
    assert all(mac.startswith("c2:") and len(mac) == 17 for mac in seen)
    first = int(seen[0][:2], 16)
    assert (first & 1, first & 2) == (0, 2), "of one station, locally administered"


def test_a_bridge_in_each_mode() -> None:
    bridges = tuple(
        BridgeSpec(NOWHERE, name, mode)  # type: ignore[arg-type]
        for name, mode in (("l", "linux"), ("o", "ovs"), ("p", "patch"), ("a", "auto"), ("d", None))
    )
    found = plane(Config(bridges=bridges), Facts(instance="lab", plane=SELF, bridge_mode="patch"))
    kinds = {
        (type(r), r.key.dev): getattr(r, "kind", "") for r in found.resources
    }  # fmt: skip
    assert kinds == {
        (Link, "l"): "bridge", (OvsBridge, "o"): "", (Link, "o"): "tun", (Link, "a"): "bridge",
    }  # fmt: skip
    assert found.because.keys() == {r.key for r in found.resources}
    assert not found.parts, "nobody waits for a bridge alone"
    bridge = next(r for r in found.resources if isinstance(r, Link) and r.key.dev == "l")
    assert bridge.settings == (("snooping", False),)
    assert bridge.mac == bridge_mac("lab", SELF, "l")


def test_the_alias_of_a_long_instance_is_cut_between_letters() -> None:
    alias = Facts(instance="ö" * 200, plane=SELF).alias("x")
    assert len(alias.encode()) in (ALIAS_MAX - 1, ALIAS_MAX)
    assert set(alias.removeprefix("relink ")) == {"ö"}
