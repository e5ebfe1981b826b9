"""Asking a namespace's kernel: one rtnetlink socket, dumps and look-ups, nothing decoded here."""

from __future__ import annotations

import errno
import ipaddress
import itertools
import os
import socket
from collections.abc import Iterable, Iterator

from model import netlink as nl

_RECEIVE = 256 * 1024  # the kernel fills at most 32 KiB of a dump at a time (net/netlink)
_DUMP_ATTEMPTS = 5
# An answer that came too late for its question is none to the next; who makes changes over the same
# sockets numbers from 2**31 (actuators/transport.py).
_numbers = itertools.count(1)


class DumpError(OSError):
    """A dump failed, or changed under our eyes each time that we tried."""


def open_socket() -> socket.socket:
    """Open an rtnetlink socket in the calling thread's namespace.

    Raises:
        OSError: the kernel or its limits do not allow it.
    """
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    # Strict checking makes the kernel honour the filters of a dump (since 4.20); the other two
    # keep acknowledgements small and make refusals speak.
    for option in (nl.NETLINK_GET_STRICT_CHK, nl.NETLINK_CAP_ACK, nl.NETLINK_EXT_ACK):
        sock.setsockopt(nl.SOL_NETLINK, option, 1)
    # A lost acknowledgement must not hang a pass: the kernel answers within the send call.
    sock.settimeout(10)
    return sock


def address_text(family: int, raw: bytes) -> str:
    """Return an address as `ipaddress` writes it, which is what is declared.

    inet_ntop(3) writes the last four bytes of some IPv6 addresses as IPv4: `::ffff:10.0.0.1`.
    """
    text = socket.inet_ntop(family, raw)
    if family == socket.AF_INET6 and "." in text:
        return str(ipaddress.IPv6Address(raw))
    return text


def dump(sock: socket.socket, request: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (data, start, end) of the body of each message that a dump returns.

    Raises:
        DumpError: the kernel refused, or could not give a consistent dump in five attempts.
    """
    for _ in range(_DUMP_ATTEMPTS):
        number = next(_numbers) & 0x7FFFFFFF
        sock.send(nl.numbered(request, number))
        found: list[tuple[bytes, int, int]] = []
        interrupted = False
        done = False
        while not done:
            data = sock.recv(_RECEIVE)
            for kind, flags, sequence, start, end in nl.messages(data):
                if sequence != number:
                    continue
                interrupted |= bool(flags & nl.NLM_F_DUMP_INTR)
                if kind == nl.NLMSG_DONE:
                    done = True
                    code = -nl.I32.unpack_from(data, start)[0] if end - start >= 4 else 0
                elif kind == nl.NLMSG_ERROR:
                    done = True
                    code, _words = nl.decode_error(data, start, end, flags)
                else:
                    found.append((data, start, end))
        if code == errno.EINTR or (interrupted and not code):
            continue
        if code:
            raise DumpError(code, os.strerror(code))
        yield from found
        return
    raise DumpError(errno.EINTR, "the namespace changed during each of five dumps")


def occurs(sock: socket.socket, request: bytes, attribute: bytes) -> bool:
    """Tell whether an encoded attribute is in any message of a dump; bytes like it may be, too.

    It costs a third of decoding the dump.

    Raises:
        DumpError: as of dump().
    """
    return any(attribute in data for data in {data for data, _, _ in dump(sock, request)})


def look_up(
    sock: socket.socket, requests: Iterable[bytes]
) -> Iterator[tuple[bytes, int, int] | None]:
    """Send requests that are answered by one message each; yield it, or None for "no such thing".

    Raises:
        OSError: the kernel refused for another reason than that the thing does not exist.
    """
    for request in requests:
        kind, flags, data, start, end = ask(sock, request)
        if kind == nl.NLMSG_ERROR:
            code, words = nl.decode_error(data, start, end, flags)
            if code not in (errno.ENODEV, errno.ENOENT):
                raise OSError(code, words or os.strerror(code))
            yield None
        else:
            yield data, start, end


def ask(sock: socket.socket, request: bytes) -> tuple[int, int, bytes, int, int]:
    """Send a request that is answered by one message; return its type, flags, data, start, end.

    Raises:
        OSError: it could not be sent, or its answer is lost.
    """
    number = next(_numbers) & 0x7FFFFFFF
    sock.send(nl.numbered(request, number))
    while True:
        data = sock.recv(_RECEIVE)
        for kind, flags, sequence, start, end in nl.messages(data):
            if sequence == number:
                return kind, flags, data, start, end
