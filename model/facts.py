"""What desired state depends on beside the configuration and the containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from model.declared import BridgeMode, BridgeSpec
from model.keys import NsKey
from model.ownership import group_of

DEFAULT_MTU = 65535  # the largest that veth takes (ETH_MAX_MTU), and conlink's default
ALIAS_MAX = 255  # IFALIASZ - 1, linux/if.h; in bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the command line and the machine decide.

    Attributes:
        instance: whose links are ours.
        plane: where bridges and outer ends are.
        project, workdir: whose services are meant.
        bridge_mode: of bridges that name none.
        auto: what mode `auto` is here.
        datapath: of Open vSwitch bridges: the kernel's (`system`) or its own (`netdev`).
        mtu: of links that name none.
        keep_veth_offload: leave tx checksum offload of veth links on.
        underlay: MTU of the way to each tunnel's remote, where the kernel knows one.
    """

    instance: str
    plane: NsKey
    project: str = ""
    workdir: str = ""
    bridge_mode: BridgeMode = "auto"
    auto: Literal["linux", "ovs"] = "linux"
    datapath: Literal["system", "netdev"] = "netdev"
    mtu: int = DEFAULT_MTU
    keep_veth_offload: bool = False
    underlay: Mapping[str, int] = field(default_factory=dict)

    @property
    def group(self) -> int:
        """The interface group that marks what is ours."""
        return group_of(self.instance)

    def mode(self, bridge: BridgeSpec) -> BridgeMode:
        """Return what a bridge is here; never `auto`."""
        mode = bridge.mode or self.bridge_mode
        return self.auto if mode == "auto" else mode

    def alias(self, what: str) -> str:
        """Return the alias of an interface: for people, cut to what the kernel takes."""
        text = f"relink {self.instance}: {what}".encode()
        return text[:ALIAS_MAX].decode(errors="ignore")
