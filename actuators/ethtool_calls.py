"""Running ethtool(8) once in the life of an interface, for what no typed setting covers.

The interface is marked by an alternative name in the same call, and only if the program succeeded.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from dataclasses import dataclass

from actuators.entering import in_namespace
from actuators.requests import Numbers, Request
from actuators.transport import send
from model import netlink as nl
from model.ethtool import mark
from model.resources import EthtoolCall, link_of

_SECONDS = 10  # how long the program may take
_LONGEST = 400  # characters of its output that an error holds
# ethtool has no exit codes that mean anything; these are the words of strerror(3) that it prints.
_CODES = (
    errno.EOPNOTSUPP, errno.ENODEV, errno.EBUSY, errno.EAGAIN, errno.ENOMEM, errno.ENETDOWN,
    errno.EPERM,
)  # fmt: skip


def create(call: EthtoolCall, numbers: Numbers) -> list[Request]:
    """Run the program, then mark the interface."""
    link = link_of(call.key)
    return [Request(call.key.ns, call=_Run(call, numbers.index(link) if link else 0))]


@dataclass(frozen=True, slots=True)
class _Run:
    """One run, comparable in tests."""

    call: EthtoolCall
    index: int

    def __call__(self, descriptor: int) -> None:
        in_namespace(descriptor, lambda: _run(self.call))
        message = nl.message(
            nl.RTM_NEWLINKPROP,
            nl.NLM_F_ACK | nl.NLM_F_CREATE | nl.NLM_F_EXCL,
            nl.IFINFO.pack(0, 0, self.index, 0, 0),
            nl.text(nl.IFLA_IFNAME, self.call.key.dev) if not self.index else b"",
            nl.nested(nl.IFLA_PROP_LIST, nl.text(nl.IFLA_ALT_IFNAME, mark(self.call))),
        )
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            sock.settimeout(_SECONDS)
            (answer,) = send([Request(self.call.key.ns, message)], {self.call.key.ns: sock})
        if answer.code:
            raise OSError(answer.code, f"ethtool ran, but its mark was refused: {answer}")


def _run(call: EthtoolCall) -> None:
    verb, *rest = call.argv
    try:
        done = subprocess.run(
            ["ethtool", verb, call.key.dev, *rest],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        # Not ENOENT, which would mean that the interface is gone.
        raise OSError(errno.EOPNOTSUPP, "the program ethtool is not installed") from None
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"ethtool did not end within {_SECONDS} s") from None
    if done.returncode:
        words = " ".join(done.stdout.decode(errors="replace").split())
        code = next((code for code in _CODES if os.strerror(code) in words), errno.EINVAL)
        raise OSError(code, f"ethtool {verb}: {words[:_LONGEST] or f'exit {done.returncode}'}")
