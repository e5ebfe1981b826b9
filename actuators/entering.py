"""Doing in a namespace what only a thread in it can do: starting a program, writing to /proc.

The thread is made for it and ends there, so that none has to find its way home.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from model import netlink as nl

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def in_namespace(descriptor: int, act: Callable[[], T]) -> T:
    """Call `act` in the namespace of an open socket, and return what it returns.

    Raises:
        OSError: the namespace cannot be entered; and whatever `act` raises.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            _enter(descriptor)
            results.append(act())
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, name="inside")
    try:
        thread.start()
    except RuntimeError as error:  # what Python makes of EAGAIN (3.11)
        raise OSError(errno.EAGAIN, "no thread can be started; see the limit of pids") from error
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _enter(descriptor: int) -> None:
    namespace = fcntl.ioctl(descriptor, nl.SIOCGSKNS)
    try:
        # os.setns is new in Python 3.12.
        if _libc.setns(namespace, _CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, f"entering the namespace: {os.strerror(code)}")
    finally:
        os.close(namespace)
