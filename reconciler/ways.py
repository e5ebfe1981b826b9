"""How wide the way to each tunnel's remote is: a fact that desired state depends on."""

from __future__ import annotations

from model.declared import Config
from model.keys import NsKey
from observers.namespaces import path_exists
from observers.underlay import mtus


def ways(plane: NsKey, config: Config) -> dict[str, int]:
    """Return the MTU of the way to each tunnel's remote; a plane that is not made yet has none."""
    if not path_exists(plane):
        return {}
    return mtus(plane, (str(tunnel.remote) for tunnel in config.tunnels))
