"""Thousands of generated routes: `ip route add` and `route:` make the same of the same words."""

from __future__ import annotations

import ipaddress
import json
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import fields
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
CASES = 2000
BATCH = 100
SOURCES = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}
GATEWAYS = {4: ("10.0.0.254", "10.0.0.9", "172.16.0.1"), 6: ("fd00::fe", "fe80::1", "fd99::1")}
KINDS = {
    4: ("", "", "", "", "unicast ", "blackhole ", "unreachable ", "prohibit ", "throw ", "local ",
        "broadcast "),
    6: ("", "", "", "", "unicast ", "blackhole ", "unreachable ", "prohibit ", "throw ", "local "),
}  # fmt: skip
U32 = 2**32 - 1
NUMBERED = re.compile(r"scope \d")


def destination(chance: random.Random, family: int) -> str:
    """Write a prefix of any length, a bare address, or the default route."""
    if chance.random() < 0.08:
        return chance.choice(("default", "0.0.0.0/0" if family == 4 else "::/0"))
    if family == 4:
        size, base = 32, chance.randint(0x0B000000, 0x7EFFFFFF)
    else:
        size, base = 128, chance.randint(0x2000 << 112, (0x4000 << 112) - 1)
    if chance.random() < 0.2:
        return str(ipaddress.ip_address(base))
    length = chance.randint(1, size)
    return str(ipaddress.ip_network((base, length), strict=False))


def number(chance: random.Random, usual: tuple[int, ...], most: int) -> str:
    return str(chance.choice((*usual, chance.randint(1, most), most)))


def text_of(chance: random.Random) -> str:
    """Write one route of the language; some of them the kernel refuses, from either side."""
    family = chance.choice((4, 6))
    kind = chance.choice(KINDS[family])
    dst = destination(chance, family)
    words: list[str] = []
    bare = kind.strip() in route.DEVICELESS
    if not bare and kind in ("", "unicast ") and chance.random() < 0.6:
        gateway = chance.choice(GATEWAYS[family])
        prefix = chance.choice(("", "inet " if family == 4 else "inet6 "))
        onlink = chance.random() < 0.3 or gateway in ("172.16.0.1", "fd99::1")
        words.append(f"via {prefix}{gateway}" + (" onlink" if onlink else ""))
    if not bare and chance.random() < 0.3:
        words.append(f"src {chance.choice(SOURCES[family])}")
    if chance.random() < 0.4:
        word = chance.choice(("metric", "priority", "preference"))
        words.append(f"{word} {number(chance, (0, 1, 100, 1024), U32)}")
    if chance.random() < 0.4:
        tables = ("main", "local", "default", number(chance, (0, 1, 252, 255, 256), U32))
        words.append(f"table {chance.choice(tables)}")
    if family == 4 and chance.random() < 0.2:
        words.append(f"scope {chance.choice((*route.SCOPES, str(chance.randint(0, 255))))}")
    limits = [word for word in ("mtu", "advmss") if chance.random() < 0.2]
    words += [f"{word} {number(chance, (0, 68, 1280, 1400, 9000), 65535)}" for word in limits]
    chance.shuffle(words)
    flag = f"-{family} " if dst == "default" else chance.choice(("", "", f"-{family} "))
    return f"{flag}{kind}{dst} {' '.join(words)}".strip()


class _Numbers:
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
    sh("ip", "link", "add", "name", DEV, "type", "veth", "peer", "name", "other")
    for address in ("10.0.0.1/24", "10.0.0.2/24"):
        sh("ip", "address", "add", address, "dev", DEV)
    for address in ("fd00::1/64", "fd00::2/64"):
        sh("ip", "address", "add", address, "dev", DEV, "nodad")
    for dev in (DEV, "other"):
        sh("ip", "link", "set", dev, "addrgenmode", "none", "up")
    with open_socket() as sock:
        yield lab, sock, lab.index("", DEV)


def expected(spec: route.RouteSpec) -> Route:
    dev = "" if spec.type in route.DEVICELESS else DEV
    values = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name != "dev"}
    return Route(key=Key(SELF, "route", dev, spec.identity), **values)


def line(text: str, spec: route.RouteSpec) -> str:
    """Write a declaration for `ip -batch`, with the interface that Relink adds by itself."""
    words = text.split()
    if words[0] in ("-4", "-6"):
        words.pop(0)
    dev = [] if spec.type in route.DEVICELESS else ["dev", DEV]
    return " ".join(("route", "add", *words, *dev))


def by_ip(lines: list[str], family: int) -> set[int]:
    """Run many commands of one family; return the numbers of those that failed."""
    done = subprocess.run(
        ["ip", f"-{family}", "-force", "-batch", "-"],
        input="\n".join(lines) + "\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    failed = [row for row in done.stderr.splitlines() if row.startswith("Command failed -:")]
    return {int(row.rpartition(":")[2]) - 1 for row in failed}


def shown(family: int) -> list[dict[str, Any]]:
    rows = json.loads(sh("ip", f"-{family}", "-j", "-d", "route", "show", "table", "all") or "[]")
    mine = [row for row in rows if row.get("protocol") != "kernel"]
    for row in mine:
        row.pop("protocol", None)
    return sorted(mine, key=json.dumps)


def read(sock: socket, index: int) -> dict[Key, Route]:
    return {each.key: each for each in observer.read_all(SELF, sock, {index: DEV})}


def covers_gateway(made: route.RouteSpec | Route) -> bool:
    network = ipaddress.ip_network(made.dst)
    return any(ipaddress.ip_address(each) in network for each in GATEWAYS[made.family])


def batches() -> Iterator[tuple[int, list[tuple[str, route.RouteSpec]]]]:
    """Yield routes of one family that differ in what identifies them, enough of them."""
    chance = random.Random(7)
    seen: set[str] = set()
    # ip 6.1 takes a scope's name for the last number before it that the same process was given, so
    # that names and numbers never come together. And a route that the kernel would look for
    # others' gateways by comes alone.
    waiting: dict[tuple[int, bool, bool], dict[str, tuple[str, route.RouteSpec]]] = {}
    while len(seen) < CASES * 11 // 10:
        text = text_of(chance)
        if text in seen:
            continue
        seen.add(text)
        spec = route.parse(text)
        wide = covers_gateway(spec)
        group = waiting.setdefault((spec.family, bool(NUMBERED.search(text)), wide), {})
        group.setdefault(spec.identity, (text, spec))
        if wide or len(group) == BATCH:
            yield spec.family, list(group.values())
            group.clear()
    for (family, *_), group in waiting.items():
        if group:
            yield family, list(group.values())


@pytest.mark.proves("route")
def test_thousands_of_routes_are_what_ip_makes_of_the_same_words(
    kernel: tuple[Lab, socket, int],
    measured: Callable[[str], None],
) -> None:
    _lab, sock, index = kernel
    wrong: list[str] = []
    made = refused = 0
    for family, cases in batches():
        specs = [(text, spec, expected(spec)) for text, spec in cases]
        failed = by_ip([line(text, spec) for text, spec, _ in specs], family)
        seen, dump = read(sock, index), shown(family)
        for place, (text, _, wanted) in enumerate(specs):
            if place in failed:
                if wanted.key in seen:
                    wrong.append(f"{text}: refused, and yet {seen[wanted.key]}")
            elif seen.get(wanted.key) != wanted:
                wrong.append(f"{text}:\n  ip made  {seen.get(wanted.key)}\n  expected {wanted}")
        if len(seen) != len(specs) - len(failed):
            strange = seen.keys() - {wanted.key for _, _, wanted in specs}
            wrong.append(f"{len(seen)} routes of {len(specs) - len(failed)}: {strange}")
        sh("ip", f"-{family}", "route", "flush", "table", "all", "protocol", "boot")
        for row in shown(family):  # ip does not flush what looks like the kernel's own last resort
            which = (row["type"], row["dst"], "table", row["table"], "metric", str(row["metric"]))
            sh("ip", f"-{family}", "route", "del", *which)
        assert not shown(family)

        numbers = _Numbers(index)
        requests = [r for _, _, wanted in specs for r in actuator.create(wanted, numbers)]
        answers = send(requests, {SELF: sock})
        for place, ((text, _, _), answer) in enumerate(zip(specs, answers, strict=True)):
            if (answer.verdict is not Verdict.DONE) != (place in failed):
                wrong.append(f"{text}: ip {'failed' if place in failed else 'made it'}; {answer}")
        if shown(family) != dump:
            by_us = shown(family)
            wrong.append(
                f"by ip only {[r for r in dump if r not in by_us][:3]}\n"
                f"by Relink only {[r for r in by_us if r not in dump][:3]}"
            )
        ours = read(sock, index)
        if ours != seen or not all(each.owned for each in ours.values()):
            wrong.append("what we made does not read as what ip made")
        # A route that covers its own gateway can be made, but not replaced: EHOSTUNREACH (6.18).
        again = [each for each in ours.values() if not covers_gateway(each)]
        requests = [r for each in again for r in actuator.modify(each, numbers)]
        for each, answer in zip(again, send(requests, {SELF: sock}), strict=True):
            if answer.code:
                wrong.append(f"replacing {each} by itself: {answer}")
        if shown(family) != dump:
            wrong.append("replacing by itself changed something")
        requests = [r for each in ours.values() for r in actuator.delete(each, numbers)]
        if bad := [a for a in send(requests, {SELF: sock}) if a.code] or shown(family):
            wrong.append(f"removing: {bad[0]}")
            sh("ip", f"-{family}", "route", "flush", "table", "all", "proto", "158", check=False)
        made += len(specs) - len(failed)
        refused += len(failed)
    measured(f"{made} routes made, {refused} refused by ip too, {len(wrong)} wrong")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])
    assert made >= CASES, (made, refused)
