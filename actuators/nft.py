"""Replacing the table that Relink has in nftables of a namespace, by nft(8), as a whole."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from dataclasses import dataclass

from actuators.entering import in_namespace
from actuators.requests import Request
from model import netlink as nl
from model.nft_json import script
from model.resources import NatTable

_SECONDS = 10
_NUMBERS = {os.strerror(code): code for code in errno.errorcode}
# What nft and the kernel say of a chain type or an expression that the kernel does not have;
# nothing else that we name can be absent.
_LACKING = frozenset({errno.ENOENT, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EINVAL})
_MODULES = "nf_tables, nft_ct, nft_chain_nat, nft_nat, nft_masq"


def create(table: NatTable) -> list[Request]:
    """Put the table as declared in the place of whatever has its name, in one transaction."""
    return [Request(table.key.ns, call=_runner(script(table.key.detail, table.rules)))]


modify = create


def delete(table: NatTable) -> list[Request]:
    """Remove the table; that it is gone already is no failure.

    Without nft(8): a teardown removes one for each container, and a program takes 10 ms.
    """
    return [Request(table.key.ns, call=_Removal(table.key.detail), gone_is_done=True)]


@dataclass(frozen=True, slots=True)
class _Removal:
    """One removal, comparable in tests."""

    name: str

    def __call__(self, descriptor: int) -> None:
        code, words = in_namespace(descriptor, self._remove)
        if code:
            raise OSError(code, words)

    def _remove(self) -> tuple[int, str]:
        nothing = nl.NFGEN.pack(socket.AF_UNSPEC, 0, socket.htons(nl.NFNL_SUBSYS_NFTABLES))
        batch = (
            nl.message(nl.NFNL_MSG_BATCH_BEGIN, 0, nothing)
            + nl.message(
                nl.NFT_MSG_DELTABLE, nl.NLM_F_ACK, nl.NFGEN.pack(nl.NFPROTO_INET, 0, 0),
                nl.text(nl.NFTA_TABLE_NAME, self.name),
            )
            + nl.message(nl.NFNL_MSG_BATCH_END, 0, nothing)
        )  # fmt: skip
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        with socket.socket(socket.AF_NETLINK, kind, nl.NETLINK_NETFILTER) as sock:
            sock.settimeout(_SECONDS)
            sock.send(batch)
            data = sock.recv(65536)
        _kind, flags, _sequence, start, end = next(iter(nl.messages(data)))
        return nl.decode_error(data, start, end, flags)


class _runner:  # noqa: N801 - a function with its argument, comparable in tests
    __slots__ = ("script",)

    def __init__(self, script: str) -> None:
        self.script = script

    def __call__(self, descriptor: int) -> None:
        try:
            done = in_namespace(descriptor, self._run)
        except FileNotFoundError:
            raise OSError(errno.EOPNOTSUPP, "the program nft is not installed") from None
        except subprocess.TimeoutExpired:
            raise OSError(errno.ETIMEDOUT, f"nft did not end within {_SECONDS} s") from None
        if done.returncode < 0:  # for want of memory, say
            raise OSError(errno.EAGAIN, f"nft was ended by signal {-done.returncode}")
        if done.returncode:
            words = done.stderr.strip().partition("\n")[0] or "nft failed and did not say why"
            code = _number(words)
            if code == errno.EOPNOTSUPP:
                words = f"this kernel lacks a part of nftables ({words}; modules {_MODULES})"
            raise OSError(code, words)

    def _run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nft", "-j", "-f", "-"],
            input=self.script,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )


def _number(words: str) -> int:
    """Return the errno that nft put in words, `Error: Could not process rule: No such file …`."""
    code = _NUMBERS.get(words.rpartition(": ")[2], errno.EINVAL)
    return errno.EOPNOTSUPP if code in _LACKING else code
