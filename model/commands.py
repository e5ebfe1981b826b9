"""Which commands a container has run already, kept by its own kernel: routes that carry nothing.

A command is marked in the container's namespace by blackhole routes in a table of its own that no
rule uses, so that no packet ever meets them. They go with the namespace, which is to say with this
life of the container, and nothing else has to remember them. Refuses to know how commands are run.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence

from model.keys import Key
from model.resources import Command, Route

# The priorities of a command's two routes: it was started; it ended with the exit code 0.
_STARTED = 1
_ENDED = 2
_CODES = 256  # exit codes are 0 to 255 (wait(2): the low eight bits)


def digest(argv: Sequence[str]) -> str:
    """Return what tells a command from others of its container: 32 bits in 8 hex digits.

    The bits are the address of its marker. Equal commands of one container are one command; two
    different ones share a digest with a probability of 1 in 4 294 967 296.
    """
    packed = b"".join(word.encode(errors="surrogatepass") + b"\0" for word in argv)
    return hashlib.blake2b(packed, digest_size=4, person=b"relink-command").hexdigest()


def marker(command: Key, group: int, code: int | None) -> Route:
    """Return the route that says that a command was started (`code` None) or how it ended.

    The two stand side by side: the second is added to the first, in one message.

    Args:
        command: the key of a `Command`.
        group: `model.ownership.group_of` the instance, which is the number of the table.
        code: exit code, 0 to 255.

    Raises:
        ValueError: `code` is no exit code.
    """
    if code is not None and not 0 <= code < _CODES:
        raise ValueError(f"{code} is no exit code; they are 0 to {_CODES - 1}")
    dst = f"{ipaddress.IPv4Address(int(command.detail, 16))}/32"
    metric = _STARTED if code is None else _ENDED + code
    return Route(
        key=Key(command.ns, "route", "", f"{dst} metric {metric} table {group}"),
        family=4,
        dst=dst,
        metric=metric,
        table=group,
        type="blackhole",
    )


def is_marker(route: Route, group: int) -> bool:
    """Tell whether a route is a marker of the instance with this group, and no route to anywhere.

    One in our table that lacks our protocol number is somebody else's, and says nothing.
    """
    return (
        route.table == group
        and route.owned
        and route.type == "blackhole"
        and route.family == 4
        and route.dst.endswith("/32")
        and _STARTED <= route.metric < _ENDED + _CODES
    )


def decode(routes: Iterable[Route], group: int) -> list[Command]:
    """Return the commands that the routes observed say were started, ordered by key.

    An end without a start says nothing. Of several ends (somebody added one), the highest counts.
    """
    seen: dict[Key, set[int]] = {}
    for route in routes:
        if is_marker(route, group):
            address = int(ipaddress.IPv4Address(route.dst.removesuffix("/32")))
            key = Key(route.key.ns, "command", "", f"{address:08x}")
            seen.setdefault(key, set()).add(route.metric)
    return [
        Command(key=key, code=max(metrics) - _ENDED if len(metrics) > 1 else None)
        for key, metrics in sorted(seen.items())
        if _STARTED in metrics
    ]
