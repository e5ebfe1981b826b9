"""Link kinds: each one table. Adding a kind is one file here and one name in `_KINDS`."""

from __future__ import annotations

from model.kinds import bridge, veth
from model.kinds.table import Kind

_KINDS = (veth.KIND, bridge.KIND)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}

__all__ = ["KINDS", "Kind"]
