"""Link kinds: each one table. Adding a kind is one file here and one name in `_KINDS`."""

from __future__ import annotations

from model.kinds import (
    bridge,
    dummy,
    geneve,
    ipvlan,
    ipvtap,
    macvlan,
    macvtap,
    veth,
    vlan,
    vxlan,
)
from model.kinds.table import Kind

_KINDS = (veth, bridge, dummy, vlan, macvlan, macvtap, ipvlan, ipvtap, vxlan, geneve)
KINDS: dict[str, Kind] = {module.KIND.name: module.KIND for module in _KINDS}

__all__ = ["KINDS", "Kind"]
