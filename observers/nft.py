"""The table that Relink has in nftables of a namespace; no other table is asked for."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
from dataclasses import dataclass

from model import netlink as nl
from model.keys import Key, NsKey
from model.nft_json import FAMILY, normalised
from model.resources import NatTable
from observers.namespaces import entered
from observers.netlink import look_up

_SECONDS = 10  # more than nft ever takes; a pass must not hang


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A table is there, and what is in it cannot be told: the reason, in nft's words."""

    words: str


def is_there(sock: socket.socket, name: str) -> bool:
    """Tell whether there is a table `name` in the namespace that `sock` was opened in.

    Who has no right to ask has none to remove it.

    Raises:
        OSError: the namespace cannot be entered, or the kernel refused.
        StrandedError: the calling thread is lost.
    """
    with entered(sock), contextlib.suppress(PermissionError):
        return _exists(name)
    return False


def read(ns: NsKey, sock: socket.socket, name: str) -> NatTable | Unreadable | None:
    """Read the table `name` of the namespace that `sock` was opened in; None if there is none.

    The kernel is asked first, which takes no program: most namespaces have no table. A kernel
    without nf_tables has none either.

    Raises:
        OSError: the namespace cannot be entered, or the kernel refused.
        StrandedError: the calling thread is lost.
    """
    with entered(sock):
        if not _exists(name):
            return None
        try:
            done = subprocess.run(
                ["nft", "-j", "list", "table", FAMILY, name],
                capture_output=True,
                text=True,
                check=False,
                timeout=_SECONDS,
                env={**os.environ, "LC_ALL": "C"},
            )
        except FileNotFoundError:
            return Unreadable("the program nft is not installed")
        except subprocess.TimeoutExpired:
            return Unreadable(f"nft did not answer within {_SECONDS} s")
        if done.returncode:
            # Somebody may have removed it in the meantime.
            return Unreadable(_words(done)) if _exists(name) else None
    try:
        return NatTable(key=Key(ns, "nat", "", name), rules=normalised(done.stdout))
    except ValueError as error:  # a version of nft that says it in another way
        return Unreadable(str(error))


def _exists(name: str) -> bool:
    """Ask the kernel of the calling thread's namespace for a table."""
    asked = nl.message(
        nl.NFT_MSG_GETTABLE, 0, nl.NFGEN.pack(nl.NFPROTO_INET, 0, 0),
        nl.text(nl.NFTA_TABLE_NAME, name),
    )  # fmt: skip
    try:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, nl.NETLINK_NETFILTER
        ) as sock:
            sock.settimeout(_SECONDS)
            return next(iter(look_up(sock, [asked]))) is not None
    except OSError as error:
        # Without nfnetlink there is no such socket; without nf_tables it knows no such message
        # (nfnetlink_rcv_msg() in net/netfilter/nfnetlink.c).
        if error.errno in (errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP):
            return False
        raise


def _words(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"nft was ended by signal {-done.returncode}"
    return done.stderr.strip().partition("\n")[0] or "nft failed and did not say why"
