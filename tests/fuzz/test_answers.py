"""What comes from outside while Relink runs, changed at random: engines, the kernel, clients, nft.

An engine's answer is a container, none, or refused; names and labels in it are whatever somebody
wrote who may start containers.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model import netlink as nl
from model.keys import SELF
from model.nft_json import normalised
from model.problems import printable
from model.replicas import NUMBER_LABEL, PROJECT_LABEL, SERVICE_LABEL, Container
from observers import addresses, links, neighbours, routes, rules
from observers.engine import _NO_ANSWER, parse
from observers.events import _parsed, changed_id
from reconciler import control
from reconciler.control import Control
from tests.fuzz.effort import counted, tries

INFO = {
    "Id": "a" * 64, "Name": "/web",
    "State": {"Pid": 1234, "Running": True},
    "Config": {"Labels": {PROJECT_LABEL: "p", SERVICE_LABEL: "s", NUMBER_LABEL: "2"}},
    "HostConfig": {"NetworkMode": "none"},
}  # fmt: skip
NAMES = st.sampled_from(
    ["../../x", "$(touch x)", "%s", "{0}", "a\nb", "\x1b[2J", "x" * 10_000, "\0", "\u202e",
     "\ud800", "9" * 5_000, "-1", "٣", "²", "1e9", "", "relink-x", "container:", "host", "ns:"]
) | st.text()  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
PLACES = [(), ("Id",), ("Name",), ("State",), ("State", "Pid"), ("State", "Running"), ("Config",),
          ("Config", "Labels"), ("Config", "Labels", PROJECT_LABEL), ("HostConfig",),
          ("Config", "Labels", SERVICE_LABEL), ("Config", "Labels", NUMBER_LABEL),
          ("HostConfig", "NetworkMode")]  # fmt: skip


def _with(document: Any, path: tuple[str, ...], value: Any) -> Any:
    if not path:
        return value
    return {**document, path[0]: _with(document[path[0]], path[1:], value)}


def test_inspections(measured: Callable[[str], None]) -> None:
    with counted(measured) as count:

        @tries(300)
        @given(path=st.sampled_from(PLACES), value=VALUES)
        @example(path=("Config", "Labels", NUMBER_LABEL), value="9" * 5_000)
        @example(path=("State", "Pid"), value=float("inf"))
        @example(path=("State", "Pid"), value=1 << 40)
        def inspected(path: tuple[str, ...], value: Any) -> None:
            count.tried += 1
            text = json.dumps(_with(INFO, path, value))
            try:
                found = parse(json.loads(text), "docker")
            except _NO_ANSWER:
                count.refused += 1
                return
            if found is not None:
                _is_a_container(found)

        inspected()


def _is_a_container(found: Container) -> None:
    assert 0 < found.pid < 1 << 32
    assert found.netns == f"/proc/{found.pid}/ns/net", "no name leads to another path"
    assert 0 < found.number < 10**9
    texts = (found.id, found.name, found.project, found.service, found.workdir, found.shares)
    assert all(isinstance(text, str) for text in (*texts, *found.labels, *found.labels.values()))
    assert all(printable(text).isprintable() for text in texts)


@pytest.mark.parametrize(
    "label", ["9" * 5_000, "0", "-1", "٣", "²", "x", "", " 2", "2\n", "1" * 12, "../2"]
)
def test_a_number_that_is_none_makes_no_engine_silent(label: str) -> None:
    """Anybody who may start a container writes its labels: they concern that container alone."""
    found = parse(_with(INFO, ("Config", "Labels", NUMBER_LABEL), label), "docker")
    assert found is not None
    assert found.number == 1


def test_events(measured: Callable[[str], None]) -> None:
    keys = st.sampled_from(["Type", "Action", "Actor", "ID", "id", "status"])
    words = VALUES | st.sampled_from(["container", "start", "die"])
    shapes = st.dictionaries(keys, words | st.dictionaries(keys, words))
    with counted(measured) as count:

        @tries(300)
        @given(line=(shapes | VALUES).map(lambda each: json.dumps(each).encode()) | st.binary())
        @example(line=b"[" * 1_000_000)
        @example(line=b'{"a":' * 100_000)
        def heard(line: bytes) -> None:
            count.tried += 1
            try:
                found = changed_id(_parsed(line))
            except ValueError:
                count.refused += 1
                return
            assert found is None or isinstance(found, str)

        heard()


# ------------------------------------------------------------------------------------ the kernel

LINK = nl.IFINFO.pack(0, 1, 7, 1, 0) + b"".join((
    nl.text(nl.IFLA_IFNAME, "eth0"), nl.u32(nl.IFLA_MTU, 1500), nl.u32(nl.IFLA_GROUP, 5),
    nl.attribute(nl.IFLA_ADDRESS, bytes(6)),
    nl.nested(nl.IFLA_LINKINFO, nl.text(nl.IFLA_INFO_KIND, "vxlan"),
              nl.nested(nl.IFLA_INFO_DATA, nl.u32(1, 7))),
    nl.nested(nl.IFLA_PROP_LIST, nl.text(nl.IFLA_ALT_IFNAME, "other")),
))  # fmt: skip
ADDRESS = nl.IFADDR.pack(socket.AF_INET, 24, 0, 0, 7) + nl.attribute(1, bytes(4)) * 2
ROUTE = nl.RTMSG.pack(socket.AF_INET, 24, 0, 0, 254, 158, 0, 1, 0) + nl.attribute(1, bytes(4))
RULE = nl.RTMSG.pack(socket.AF_INET, 0, 0, 0, 254, 0, 0, 1, 0) + nl.u32(nl.FRA_PRIORITY, 5)
NEIGHBOUR = nl.NDMSG.pack(socket.AF_INET, 7, 128, 0, 1) + nl.attribute(1, bytes(4))
NO_MESSAGE = (struct.error, LookupError, ValueError)
NAMED = {7: "eth0"}
DECODERS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "link": (LINK, lambda body: links.decode(SELF, body, 0, len(body))),
    "address": (ADDRESS, lambda body: addresses.decode(SELF, NAMED, body, 0, len(body))),
    "route": (ROUTE, lambda body: list(routes.decode(SELF, NAMED, body, 0, len(body)))),
    "rule": (RULE, lambda body: rules.decode(SELF, body, 0, len(body))),
    "neighbour": (NEIGHBOUR, lambda body: neighbours.decode(SELF, NAMED, body, 0, len(body))),
    "messages": (nl.message(16, 0, LINK), lambda data: list(nl.messages(data))),
    "error": (nl.I32.pack(-22) + LINK, lambda body: nl.decode_error(body, 0, len(body), 0x300)),
}


@pytest.mark.parametrize("name", DECODERS)
def test_netlink(name: str, measured: Callable[[str], None]) -> None:
    """A message ends where it says or earlier, whatever lengths are in it."""
    body, decode = DECODERS[name]
    decode(body)
    with counted(measured) as count:

        @tries(150)
        @given(changes=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=6)), max_size=6),
               end=st.integers(0, 400))  # fmt: skip
        def decoded(changes: Iterable[tuple[int, bytes]], end: int) -> None:
            count.tried += 1
            data = bytearray(body)
            for at, instead in changes:
                data[at : at + len(instead)] = instead
            try:
                decode(bytes(data[: end or None]))
            except NO_MESSAGE:
                count.refused += 1

        decoded()


def test_listings_of_nft(measured: Callable[[str], None]) -> None:
    rule = {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 1, "expr": []}}
    with counted(measured) as count:

        @tries(150)
        @given(value=VALUES, inside=st.integers(0, 3))
        def listed(value: Any, inside: int) -> None:
            count.tried += 1
            shapes = (value, {"nftables": value}, {"nftables": [value]},
                      {"nftables": [{"rule": {**rule["rule"], "expr": value}}]})  # fmt: skip
            try:
                normalised(json.dumps(shapes[inside]))
            except ValueError:
                count.refused += 1

        listed()


# ------------------------------------------------------------------------------------ clients


def test_requests_to_the_control_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: Callable[[str], None]
) -> None:
    """It answers, or closes; and the next one who asks properly is answered."""
    monkeypatch.setattr(control, "directory", lambda: tmp_path / "relink")
    words = st.sampled_from(
        [b"GET ", b"POST ", b"/v1/status", b"/metrics", b" HTTP/1.1\r\n", b"\r\n", b"Host: x\r\n",
         b"Content-Length: ", b"99999999999", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n",
         b"-1", b"../../etc/passwd", b"%2e%2e", b"%s", b"\0", b"\xff" * 100, b"x" * 9000]
    )  # fmt: skip
    asked = st.lists(words | st.binary(max_size=20), max_size=12).map(b"".join)

    async def ask(request: bytes) -> None:
        reader, writer = await asyncio.open_unix_connection(str(control.path_of("x")))
        try:
            writer.write(request + b"\r\n\r\n")
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer == b"" or answer.startswith(b"HTTP/1.")
        except (ConnectionError, OSError):
            pass
        finally:
            writer.close()

    async def whole(requests: list[bytes]) -> None:
        served = Control("x", lambda: {"links": []}, lambda: b"")
        await served.start()
        try:
            for request in requests:
                await ask(request)
            assert await asyncio.to_thread(control.ask, "x") == {"links": []}
        finally:
            await served.stop()

    with counted(measured) as count:

        @tries(15)
        @given(requests=st.lists(asked, max_size=8))
        def requested(requests: list[bytes]) -> None:
            count.tried += len(requests)
            asyncio.run(whole(requests))

        requested()
