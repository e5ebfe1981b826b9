"""Telling a container, in its own namespace, that its links are as declared: a socket's name.

The kernel lists an abstract Unix socket in /proc/net/unix of the namespace that it was made in, and
in no other (unix(7)), and takes it away with the process that holds it, however that ends. Refuses
to know when the word is true.
"""

from __future__ import annotations

import socket

from actuators.entering import in_namespace

_LONGEST = 107  # bytes of a name, beside the NUL that makes it abstract (unix(7))


def name_of(instance: str) -> bytes:
    """Return the name, as the tools look for it in /proc/net/unix: `@relink/ready/INSTANCE`.

    One that is too long for the kernel is cut.
    """
    return _abstract(f"relink/ready/{instance}")


def _abstract(name: str) -> bytes:
    return b"\0" + name.encode()[:_LONGEST]


def keep(instance: str) -> socket.socket:
    """Take the name `@relink/kept/INSTANCE` in the calling thread's namespace, for as long as open.

    Raises:
        OSError: somebody has it (EADDRINUSE), or the limit of open files is reached.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.bind(_abstract(f"relink/kept/{instance}"))
    except OSError:
        sock.close()
        raise
    return sock


def prepare(descriptor: int) -> socket.socket:
    """Make a socket without a name in the namespace of an open one. It pins that namespace.

    Raises:
        OSError: the namespace cannot be entered, or the limit of open files is reached.
    """
    return in_namespace(
        descriptor, lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    )


def announce(sock: socket.socket, instance: str) -> None:
    """Give a prepared socket its name. Nobody can connect to it: it does not listen.

    Raises:
        OSError: somebody in the container has a socket of that name.
    """
    sock.bind(name_of(instance))
