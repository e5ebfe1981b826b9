"""Setting offload features, all of an interface in one ioctl."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from actuators.ethtool import tell
from actuators.requests import Request
from model import offloads
from model.resources import Offload

# The kernel's names of the bits, which stay as they are while it runs.
_bits: dict[str, int] = {}


def modify(offload: Offload, _changed: Iterable[str] = ()) -> list[Request]:
    """Set all features as declared, and see that they then are so.

    All, whatever has changed: switching one brings others along that the kernel was told of before.
    """
    return [Request(offload.key.ns, call=_Set(offload))]


@dataclass(frozen=True, slots=True)
class _Set:
    """One call, comparable in tests."""

    offload: Offload

    def __call__(self, descriptor: int) -> None:
        dev, declared = self.offload.key.dev, dict(self.offload.features)
        if not _bits:
            number = offloads.count(tell(descriptor, dev, offloads.ask_count()))
            _bits.update(offloads.names(tell(descriptor, dev, offloads.ask_names(number))))
        number = max(_bits.values()).bit_length()
        masks = offloads.masks(declared, _bits)
        valid = sum(masks.values())
        wanted = sum(mask for name, mask in masks.items() if declared[name])
        # Bits that the interface cannot change are left out by the kernel, which succeeds.
        tell(descriptor, dev, offloads.order(number, valid, wanted))
        state = tell(descriptor, dev, bytearray(offloads.ask_state(number)))
        active, changeable = offloads.active(state), offloads.changeable(state)
        failed = [
            f"{name} {_why(masks[name], changeable, on=on)}"
            for name, on in declared.items()
            if bool(active & masks[name]) is not on
        ]
        if failed:
            raise OSError(errno.EOPNOTSUPP, f"{self.offload.key.dev}: {', '.join(failed)}")


def _why(mask: int, changeable: int, *, on: bool) -> str:
    """Say why a feature is not as it was told to be."""
    state = "off" if on else "on"
    if not mask:
        return "is unknown to this kernel"
    if not mask & changeable:
        return f"is fixed {state} by the driver"
    # netdev_fix_features() in net/core/dev.c: segmentation without checksums, for one.
    return f"stays {state}: another offload setting stands against it"
