"""`route` means what `ip route add` means: the same words, given to both, make the same route."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from socket import socket
from typing import Any

import pytest

from actuators import routes as actuator
from actuators.requests import Verdict
from actuators.transport import send
from model import route
from model.keys import SELF, Key
from model.resources import Route
from observers import routes as observer
from observers.netlink import open_socket
from tests.kernel.lab import Lab, sh

DEV = "eth0"


def texts() -> Iterator[str]:
    """Yield routes of every shape that the language has, and their combinations."""
    yield from ("default", "-4 all", "default via 10.0.0.254", "-6 default", "-4 default")
    yield from ("default via inet 10.0.0.254", "default via fd00::fe", "0.0.0.0/0", "::/0")
    for dst, via, src in (
        ("10.1.0.0/16", "10.0.0.254", "10.0.0.1"),
        ("192.0.2.7", "10.0.0.254", "10.0.0.1"),
        ("fd01::/64", "fd00::fe", "fd00::1"),
        ("fd01::7", "fd00::fe", "fd00::1"),
    ):
        yield from (f"{dst} via {via} onlink", f"unicast {dst}", f"{dst} priority 7")
        yield from (f"{dst} metric 4294967295", f"{dst} metric 0", f"{dst} preference 9")
        for gateway, source, rest in product(
            ("", f" via {via}"),
            ("", f" src {src}"),
            ("", " metric 5", " table 100", " table main", " table 4294967294 metric 1",
             " mtu 1400", " advmss 1360", " mtu 1400 advmss 1360 metric 3 table 9"),
        ):  # fmt: skip
            yield f"{dst}{gateway}{source}{rest}"
    yield from (f"10.1.0.0/16 scope {scope}" for scope in ("global", "site", "link", "host", "77"))
    yield "10.1.0.0/16 via 10.0.0.254 onlink scope global"
    yield from (f"10.1.0.0/16 table {table}" for table in ("default", "local", "0", "255", "256"))
    yield from ("local 192.0.2.7", "local 192.0.2.7 table main", "broadcast 10.0.0.77")
    yield from ("local fd01::7", "local fd01::7 table main", "fd01::/64 scope global")
    for kind, dst in product(sorted(route.DEVICELESS), ("10.1.0.0/16", "fd01::/64", "default")):
        yield from (f"{kind} {dst}", f"{kind} {dst} metric 7", f"{kind} {dst} table 100")
    yield from ("-6 blackhole default", "-6 unreachable default metric 9")


class _Numbers:
    """What an actuator asks for, in a namespace with one interface."""

    def __init__(self, index: int) -> None:
        self._index = index

    def index(self, link: Key) -> int:
        assert link.dev == DEV
        return self._index

    def free_index(self, link: Key) -> int:
        raise NotImplementedError

    def namespace(self, ns: object) -> int:
        raise NotImplementedError


@pytest.fixture
def kernel(lab: Lab) -> Iterator[tuple[Lab, socket, int]]:
    sh("ip", "link", "add", DEV, "type", "veth", "peer", "name", "other")
    sh("ip", "address", "add", "10.0.0.1/24", "dev", DEV)
    sh("ip", "address", "add", "fd00::1/64", "dev", DEV, "nodad")
    for dev in (DEV, "other"):
        sh("ip", "link", "set", dev, "addrgenmode", "none", "up")
    with open_socket() as sock:
        yield lab, sock, lab.index("", DEV)


def expected(spec: route.RouteSpec) -> Route:
    dev = "" if spec.type in route.DEVICELESS else DEV
    values = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name != "dev"}
    return Route(key=Key(SELF, "route", dev, spec.identity), **values)


def shown(lab: Lab) -> list[dict[str, Any]]:
    rows = [
        row
        for family in ("-4", "-6")
        for row in lab.show("", family, "route", "show", "table", "all")
        if row.get("protocol") != "kernel"
    ]
    for row in rows:
        row.pop("protocol", None)
    return rows


def words(text: str) -> list[str]:
    """Split a declaration as a shell would, with the interface that Relink adds by itself."""
    parts = text.split()
    family = [parts.pop(0)] if parts[0] in ("-4", "-6") else []
    if not family and ":" in text:
        family = ["-6"]
    dev = [] if route.parse(text).type in route.DEVICELESS else ["dev", DEV]
    return [*family, "route", "add", *parts, *dev]


def test_the_same_words_make_the_same_route(kernel: tuple[Lab, socket, int]) -> None:
    lab, sock, index = kernel
    wrong: list[str] = []
    tried = list(dict.fromkeys(texts()))
    for text in tried:
        wanted = expected(route.parse(text))
        try:
            sh("ip", *words(text))
        except AssertionError as error:
            wrong.append(f"{text}: {error}")
            continue
        (seen,) = observer.read_all(SELF, sock, {index: DEV})
        by_ip = shown(lab)
        undo = words(text)
        undo[undo.index("add")] = "del"
        sh("ip", *undo)
        assert not shown(lab), text
        if seen != wanted:
            wrong.append(f"{text}:\n  ip route add made {seen}\n  the language says {wanted}")

        (answer,) = send(actuator.create(wanted, _Numbers(index)), {SELF: sock})
        if answer.verdict != Verdict.DONE:
            wrong.append(f"{text}: {answer}")
            continue
        (again,) = observer.read_all(SELF, sock, {index: DEV})
        by_relink = shown(lab)
        if by_relink != by_ip or again != wanted or not again.owned or seen.owned:
            wrong.append(f"{text}:\n  by ip     {by_ip}\n  by Relink {by_relink}")
        (answer,) = send(actuator.modify(wanted, _Numbers(index)), {SELF: sock})
        if answer.verdict != Verdict.DONE or shown(lab) != by_ip:
            wrong.append(f"{text}: replacing it by itself: {answer} {shown(lab)}")
        (answer,) = send(actuator.delete(wanted, _Numbers(index)), {SELF: sock})
        if answer.verdict != Verdict.DONE or shown(lab):
            wrong.append(f"{text}: removing it: {answer} {shown(lab)}")
            sh("ip", *undo, check=False)
    assert len(tried) > 200
    assert not wrong, f"{len(wrong)} of {len(tried)}:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1/8", "10.0.0.0/33", "default via x", "default metric -1", "default scope 256",
     "fd00::/64 via 10.0.0.1", "default metric 4294967296", "10.0.0.0/8 nonsense 1"],
)  # fmt: skip
def test_what_ip_refuses_the_language_refuses(kernel: tuple[Lab, socket, int], text: str) -> None:
    lab, _sock, _index = kernel
    with pytest.raises(route.RouteError):
        route.parse(text)
    family = ["-6"] if ":" in text else []
    sh("ip", *family, "route", "add", *text.split(), "dev", DEV, check=False)
    assert not shown(lab)
