"""Writing kernel settings of a namespace that rtnetlink has no message for."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from actuators.entering import in_namespace
from actuators.requests import Request
from model.resources import Sysctl


def modify(sysctl: Sysctl) -> list[Request]:
    """Write the value as declared."""
    return [Request(sysctl.key.ns, call=_Write(sysctl.key.detail, sysctl.value))]


@dataclass(frozen=True, slots=True)
class _Write:
    """One write, comparable in tests."""

    name: str
    value: str

    def __call__(self, descriptor: int) -> None:
        # /proc/sys/net is that of the thread which opens it.
        try:
            in_namespace(descriptor, lambda: Path("/proc/sys", self.name).write_text(self.value))
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                words = f"{self.name} may not be written here; give the sidecar"
                setting = f"{self.name.replace('/', '.')}: {self.value}"
                raise OSError(errno.EPERM, f"{words} `sysctls: {{{setting}}}`") from error
            raise
