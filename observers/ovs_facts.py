"""What this machine can do about Open vSwitch: its datapath, its programs, its daemons.

Knows nothing of the database.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import struct
from pathlib import Path
from typing import Literal

from model import netlink as nl
from model.ovs import PROGRAMS, SBIN, SCHEMA_FILE

# linux/netlink.h, linux/genetlink.h
_NETLINK_GENERIC, _GENL_ID_CTRL = 16, 0x10
_CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_NAME = 3, 2
_GENLMSGHDR = struct.Struct("=BBxx")  # command, version
_FAMILY = "ovs_datapath"  # OVS_DATAPATH_FAMILY, linux/openvswitch.h

# struct flock of fcntl(2) where off_t has 64 bits: type, whence, start, length, pid
_FLOCK = struct.Struct("hhqqi4x")
_WHOLE_FILE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def datapath() -> Literal["system", "netdev"]:
    """Return `system` where the kernel has Open vSwitch's datapath, else `netdev`.

    Asking for a generic netlink family makes the kernel load the module that has it
    (genl_ctrl's request_module), where that is allowed; the list of modules tells neither that one
    can be loaded nor that one is built in.

    Raises:
        OSError: the kernel gives no socket, or does not answer.
    """
    question = nl.message(
        _GENL_ID_CTRL,
        0,
        _GENLMSGHDR.pack(_CTRL_CMD_GETFAMILY, 1),
        nl.text(_CTRL_ATTR_FAMILY_NAME, _FAMILY),
    )
    type_ = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, type_, _NETLINK_GENERIC) as sock:
        sock.settimeout(10)
        sock.send(question)
        data = sock.recv(65536)
    kind, _flags, _sequence, start, _end = next(iter(nl.messages(data)))
    if kind != nl.NLMSG_ERROR or not nl.I32.unpack_from(data, start)[0]:
        return "system"
    return "netdev"


def missing_program() -> str:
    """Return what the daemons need and this machine lacks, empty if they can be started."""
    search = f"{os.environ.get('PATH', '')}:{SBIN}"
    for name in PROGRAMS:
        if not shutil.which(name, path=search):
            return name
    return "" if Path(SCHEMA_FILE).exists() else SCHEMA_FILE


def daemon_pid(pidfile: Path) -> int:
    """Return the process that holds a daemon's pidfile, 0 if none does.

    A daemon of Open vSwitch keeps a lock on its pidfile for as long as it lives (lib/daemon-unix.c
    of its sources), and the kernel tells who has a lock. So what is returned is that daemon,
    whatever the file says and whoever has the number that a dead one had.
    """
    return _holder(pidfile)[1]


def namespace_of(pid: int) -> int:
    """Return the number of a process's network namespace, 0 if it cannot be told."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:  # it has ended, or may not be looked at
        return 0


def daemon_runs(pidfile: Path) -> bool:
    """Tell whether a daemon holds a pidfile, also one whose number is not to be seen from here."""
    return _holder(pidfile)[0]


def _holder(pidfile: Path) -> tuple[bool, int]:
    try:
        with pidfile.open("rb") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, _WHOLE_FILE)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False, 0
        raise
    kind, _whence, _start, _length, pid = _FLOCK.unpack(answer)
    return (False, 0) if kind == fcntl.F_UNLCK else (True, int(pid))


def answers(path: Path) -> bool:
    """Tell whether a server listens on a socket: the file may be left of one that was killed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(0)
        try:
            sock.connect(str(path))
        except BlockingIOError:  # its backlog is full
            return True
        except OSError:
            return False
    return True
