"""The table in nftables: what is computed, written, listed and changed by others is compared."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actuators import nft as write_nft
from actuators.requests import Request, Verdict
from actuators.transport import Answer, send
from model import nft
from model.keys import NsKey
from model.nft import Entry, Forward, Nat, Return
from model.ownership import group_of
from model.resources import NatTable
from observers import nft as read_nft
from observers.namespaces import inside
from observers.netlink import open_socket
from tests.kernel.lab import Lab, container_key, sh

INSTANCE = "lab"
GROUP, NAME = group_of(INSTANCE), nft.name_of(INSTANCE)
PLANE = container_key("plane")
INSIDE = {"n1": {4: "10.0.0.11", 6: "fd00::11"}, "n2": {4: "10.0.0.12", 6: "fd00::12"}}


def run_in(ns: NsKey, requests: Iterable[Request]) -> list[Answer]:
    with inside(f"/run/netns/{ns.name}"):
        sock = open_socket()
    with sock:
        return send(list(requests), {ns: sock})


def done(ns: NsKey, requests: Iterable[Request]) -> None:
    assert [str(a) for a in run_in(ns, requests) if a.verdict is not Verdict.DONE] == []


def table(ns: NsKey, *entries: Entry) -> NatTable:
    return nft.table(nft.table_key(ns, INSTANCE), entries)


def observed(ns: NsKey, name: str = NAME) -> NatTable | read_nft.Unreadable | None:
    with inside(f"/run/netns/{ns.name}"):
        sock = open_socket()
    with sock:
        return read_nft.read(ns, sock, name)


def put(wanted: NatTable) -> None:
    done(wanted.key.ns, write_nft.create(wanted))
    assert observed(wanted.key.ns) == wanted


TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
KINDS: dict[int, Literal["tcp", "udp"]] = {TCP: "tcp", UDP: "udp"}


def forward(kind: int, outside: nft.Ports, address: str, inside: nft.Ports) -> Forward:
    return Forward(GROUP, KINDS[kind], outside, address, inside)


def replicas() -> list[Forward]:
    """Ports 80 and 81 of the plane are port 80 of the two containers."""
    return [
        forward(kind, (port, port), INSIDE[ns][version], (80, 80))
        for version in (4, 6)
        for kind in (TCP, UDP)
        for port, ns in ((80, "n1"), (81, "n2"))
    ]


@pytest.fixture
def plane(lab: Lab) -> Lab:
    lab.add("plane")
    return lab


@pytest.mark.usefixtures("plane")
@pytest.mark.parametrize(
    "words",
    ["flush table inet {}", "flush chain inet {} arrive", "add chain inet {} other",
     "insert rule inet {} arrive accept", "add set inet {} s {{ type ipv4_addr; }}",
     "add table inet {} {{ flags dormant; }}",
     "chain inet {} arrive {{ policy drop; }}"],
)  # fmt: skip
def test_whatever_somebody_does_to_the_table_is_seen(words: str) -> None:
    wanted = table(PLANE, *replicas())
    put(wanted)
    sh("ip", "netns", "exec", "plane", "nft", words.format(NAME))
    found = observed(PLANE)
    assert isinstance(found, NatTable)
    assert found != wanted
    put(wanted)


FOREIGN = """
table inet relink-5e100000 {
  chain c {
    type nat hook prerouting priority 0;
  }
}
table ip nat {
  chain PREROUTING {
    type nat hook prerouting priority -100;
    tcp dport 99 counter dnat to 10.9.9.9
  }
}
table ip6 NAME {
  set s {
    type inet_service
    elements = { 1, 2 }
  }
}
"""


def test_tables_of_others_are_the_same_byte_for_byte(plane: Lab) -> None:
    inside_plane = ("ip", "netns", "exec", "plane", "nft")
    path = plane.directory / "foreign.nft"
    path.write_text(FOREIGN.replace("NAME", NAME))
    sh(*inside_plane, "-f", str(path))
    before = sh(*inside_plane, "-a", "list", "ruleset")
    assert observed(PLANE) is None
    wanted = table(PLANE, *replicas())
    put(wanted)
    put(table(PLANE, replicas()[0]))
    for _ in range(2):  # that it is gone already is no failure
        done(PLANE, write_nft.delete(wanted))
        assert observed(PLANE) is None
    assert sh(*inside_plane, "-a", "list", "ruleset") == before


@pytest.mark.usefixtures("plane")
def test_a_failed_replacement_changes_nothing_and_says_why() -> None:
    wanted = table(PLANE, *replicas())
    put(wanted)
    broken = replace(wanted, rules=(*wanted.rules, wanted.rules[1].replace("arrive", "nowhere")))
    (answer,) = run_in(PLANE, write_nft.modify(broken))
    assert answer.verdict is Verdict.UNSUPPORTED
    assert "No such file or directory" in answer.words
    assert observed(PLANE) == wanted


def test_an_nft_that_speaks_otherwise_is_told_of(
    plane: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(table(PLANE, *replicas()))
    program = plane.directory / "bin/nft"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho '{\"nftables\": [1]}'\n")
    program.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        found = observed(PLANE)
    assert isinstance(found, read_nft.Unreadable)
    assert found.words.startswith("not a listing of nft")


def test_without_nft_it_is_unsupported(plane: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = table(PLANE, *replicas())
    put(wanted)
    where = plane.directory / "bin"
    where.mkdir()
    nsenter = shutil.which("nsenter")
    assert nsenter
    (where / "nsenter").symlink_to(nsenter)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(where))
        (answer,) = run_in(PLANE, write_nft.create(wanted))
        assert answer.verdict is Verdict.UNSUPPORTED
        assert answer.words == "the program nft is not installed"
        found = observed(PLANE)
        assert found == read_nft.Unreadable("the program nft is not installed")
        assert observed(PLANE, "relink-0") is None  # no program is needed to see that


def _addresses(version: int) -> st.SearchStrategy[str]:
    return st.ip_addresses(v=4 if version == 4 else 6).map(str)


_ANY = st.sampled_from([4, 6]).flatmap(_addresses)
_DEVICES = st.text(
    st.characters(codec="ascii", categories=["L", "N", "P", "S"], exclude_characters="/:%"),
    min_size=1, max_size=15,
).filter(lambda dev: not nft.unnameable(dev))  # fmt: skip


@st.composite
def _forwards(draw: st.DrawFn) -> Forward:
    length = draw(st.sampled_from([0, 0, 0, 1, 2, 9, 100]))
    first, inside_first = (draw(st.integers(1, 65535 - length)) for _ in range(2))
    if draw(st.booleans()):
        inside_first = first
    kind = draw(st.sampled_from([TCP, UDP]))
    return forward(kind, (first, first + length), draw(_ANY), (inside_first, inside_first + length))


_MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
_ENTRIES = st.lists(
    st.one_of(
        _forwards(),
        st.builds(Nat, _DEVICES, st.lists(_ANY, max_size=3).map(tuple), _ANY),
        st.builds(Return, _DEVICES, _MACS, st.integers(1, 0xFFFFFFFF)),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


@pytest.mark.usefixtures("plane")
def test_the_table_that_nft_lists_is_the_one_that_was_computed() -> None:
    count = 0

    @settings(max_examples=100, suppress_health_check=list(HealthCheck))
    @given(_ENTRIES)
    def round_trip(entries: list[Entry]) -> None:
        nonlocal count
        put(table(PLANE, *entries))
        assert table(PLANE, *reversed(entries)) == table(PLANE, *entries)
        count += len(entries)

    round_trip()
    assert count > 100
    print(f"\n{count} entries came back as they were computed")


@pytest.mark.usefixtures("plane")
def test_the_cost_of_a_look_and_of_a_replacement() -> None:
    many = [forward(TCP, (port, port), INSIDE["n1"][4], (port, port)) for port in range(1000, 2000)]
    for entries in ([], replicas(), many):
        wanted = table(PLANE, *entries)
        timed: dict[str, list[float]] = {"replace": [], "look": []}
        for _ in range(5):
            started = time.perf_counter()
            done(PLANE, write_nft.create(wanted))
            timed["replace"].append(time.perf_counter() - started)
            started = time.perf_counter()
            found = observed(PLANE)
            timed["look"].append(time.perf_counter() - started)
            assert found == (wanted if entries else None)
        words = ", ".join(f"{what} {1000 * min(s):.2f} ms" for what, s in timed.items())
        print(f"\n{len(entries)} forwards: {words}")
        assert min(timed["look"]) < 1, "a pass that looks at many tables would take seconds"
