"""Setting ring, coalesce and channel parameters: one ioctl for each group."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from actuators.ethtool import tell
from actuators.requests import Request
from model import settings
from model.resources import Setting


def modify(setting: Setting, changed: Iterable[str]) -> list[Request]:
    """Set the parameters named in `changed` as declared, and see that they then are so."""
    return [Request(setting.key.ns, call=_Set(setting, frozenset(changed)))]


@dataclass(frozen=True, slots=True)
class _Set:
    """One call, comparable in tests."""

    setting: Setting
    changed: frozenset[str]

    def __call__(self, descriptor: int) -> None:
        dev = self.setting.key.dev
        which = cast("settings.Which", self.setting.key.detail)
        wanted = {name: value for name, value in self.setting.values if name in self.changed}
        before = tell(descriptor, dev, settings.question(which))
        for name, most in settings.maxima(which, before).items():
            if wanted.get(name, 0) > most:
                raise OSError(errno.EOPNOTSUPP, f"{dev}: {which} {name} can be {most} at most")
        tell(descriptor, dev, settings.order(which, before, wanted))
        # A driver may round to what its hardware can.
        after = settings.values(which, tell(descriptor, dev, settings.question(which)))
        kept = [
            f"{name} at {after[name]}"
            for name, value in sorted(wanted.items())
            if after[name] != value
        ]
        if kept:
            raise OSError(errno.EOPNOTSUPP, f"{dev}: the driver keeps {which} {', '.join(kept)}")
