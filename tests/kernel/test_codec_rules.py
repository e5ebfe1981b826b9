"""Our codec of rules and neighbours against pyroute2's, message by message, both ways."""

from __future__ import annotations

from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from actuators import neighbours as write_neighbours
from actuators import rules as write_rules
from actuators.transport import send
from model import netlink as nl
from model.keys import Key, NsKey
from model.ownership import PROTOCOL
from model.resources import Neighbour, Rule
from model.rule import rule
from observers import neighbours, rules
from observers.netlink import open_socket
from tests.kernel.lab import Lab
from tests.kernel.test_codec import HERE, _messages, _theirs

RULES = [
    rule(HERE, 4, mark=0x9E000001, table=4000000001, priority=100),
    rule(HERE, 6, mark=7, table=158, priority=101),
    rule(HERE, 4, protocol="udp", sports=(80, 80), table=158, priority=40000),
    rule(HERE, 6, protocol="tcp", sports=(8000, 8010), table=158, priority=40001),
    rule(HERE, 4, mark=9, protocol="tcp", sports=(1, 65534), table=254, priority=0),
    rule(HERE, 6, protocol="udp", sports=(53, 53), table=254, priority=9, specific=True),
]
MAC = "02:00:00:00:00:9e"
NEIGHBOURS = [
    Neighbour(key=Key(HERE, "neighbour", "mine0", ip), mac=MAC)
    for ip in ("169.254.0.158", "fe80::158", "10.9.9.9")
]


class _Numbers:
    def __init__(self, names: dict[int, str]) -> None:
        self.indexes = {name: index for index, name in names.items()}

    def index(self, link: Key) -> int:
        return self.indexes[link.dev]

    def free_index(self, link: Key) -> int:
        raise NotImplementedError(str(link))

    def namespace(self, ns: NsKey) -> int:
        raise NotImplementedError(str(ns))


@pytest.fixture
def names(lab: Lab) -> dict[int, str]:
    lab.ip("", "link", "add", "mine0", "up", "type", "bridge")
    return {row["ifindex"]: row["ifname"] for row in lab.show("", "link")}


@pytest.mark.parametrize("wanted", RULES, ids=lambda r: r.key.detail)
def test_a_rule_we_encode_is_what_pyroute2_reads(wanted: Rule) -> None:
    for verb in (write_rules.create, write_rules.delete):
        message: Any = fibmsg(verb(wanted)[0].message)
        message.decode()
        assert message["family"] == (2 if wanted.family == 4 else 10)
        assert message.get_attr("FRA_TABLE") == wanted.table
        assert message.get_attr("FRA_PRIORITY") == wanted.priority
        assert message.get_attr("FRA_FWMARK") == (wanted.mark or None)
        assert message.get_attr("FRA_PROTOCOL") == PROTOCOL
        number = {"": None, "tcp": 6, "udp": 17}[wanted.protocol]
        assert message.get_attr("FRA_IP_PROTO") == number
        ports = message.get_attr("FRA_SPORT_RANGE")
        assert ports == (f"{wanted.sports[0]}:{wanted.sports[1]}" if any(wanted.sports) else None)
        assert message.get_attr("FRA_SUPPRESS_PREFIXLEN") == (0 if wanted.specific else None)


def test_rules_are_decoded_as_pyroute2_decodes_them(lab: Lab) -> None:
    lab.ip("", "rule", "add", "fwmark", "3", "table", "77", "priority", "5")
    for words in ("from 10.0.0.0/8", "iif lo", "fwmark 3/7", "not fwmark 3", "uidrange 0-5",
                  "fwmark 3 suppress_prefixlength 8", "ipproto icmp", "dport 80"):  # fmt: skip
        lab.ip("", "rule", "add", *words.split(), "table", "77")
    with open_socket() as sock:
        answers = send([r for one in RULES for r in write_rules.create(one)], {HERE: sock})
        assert [a.code for a in answers] == [0] * len(RULES)
        found = rules.read_all(HERE, sock)
        # The foreign one that a mark alone decides is seen, as foreign; narrower ones are not.
        assert {r.key.detail: r.owned for r in found} == {
            **{r.key.detail: True for r in RULES}, "ipv4 fwmark 0x3 table 77 priority 5": False,
        }  # fmt: skip
        for body in _messages(rules._ALL):
            ours, theirs = rules.decode(HERE, body, 0, len(body)), _theirs(fibmsg, 32, body)
            if ours is None:
                continue
            assert (ours.mark, ours.table, ours.priority, ours.owned) == (
                theirs.get_attr("FRA_FWMARK") or 0, theirs.get_attr("FRA_TABLE"),
                theirs.get_attr("FRA_PRIORITY") or 0, theirs.get_attr("FRA_PROTOCOL") == PROTOCOL,
            )  # fmt: skip
        assert {r for r in found if r.owned} == set(RULES)
        foreign = next(r for r in found if not r.owned)
        gone = [*RULES, foreign, *RULES]  # the last ones are gone already
        answers = send([r for one in gone for r in write_rules.delete(one)], {HERE: sock})
        assert {a.verdict.value for a in answers} == {"done"}
        assert rules.read_all(HERE, sock) == [foreign]


def test_a_neighbour_we_encode_is_what_pyroute2_reads(names: dict[int, str]) -> None:
    numbers = _Numbers(names)
    for wanted in NEIGHBOURS:
        message: Any = ndmsg(write_neighbours.create(wanted, numbers)[0].message)
        message.decode()
        assert message["ifindex"] == numbers.indexes["mine0"]
        assert message["state"] == nl.NUD_PERMANENT
        assert message.get_attr("NDA_DST") == wanted.key.detail
        assert message.get_attr("NDA_LLADDR") == MAC
        assert message.get_attr("NDA_PROTOCOL") == PROTOCOL


def test_neighbours_are_decoded_as_pyroute2_decodes_them(lab: Lab, names: dict[int, str]) -> None:
    numbers = _Numbers(names)
    for ip, state in (("10.9.9.9", "stale"), ("10.9.9.8", "permanent"), ("10.9.9.7", "reachable")):
        words = f"neigh add {ip} lladdr 02:00:00:00:00:01 dev mine0 nud {state}"
        lab.ip("", *words.split())
    with open_socket() as sock:
        requests = [r for one in NEIGHBOURS for r in write_neighbours.create(one, numbers)]
        assert [a.code for a in send(requests, {HERE: sock})] == [0] * len(requests)
        found = neighbours.read_all(HERE, sock, names)
        foreign = [n for n in found if not n.owned]
        assert [n.key.detail for n in foreign] == ["10.9.9.8"]
        assert sorted(n.key for n in found if n.owned) == sorted(n.key for n in NEIGHBOURS)
        assert {n.mac for n in found if n.owned} == {MAC}
        for body in _messages(neighbours._ALL):
            ours = neighbours.decode(HERE, names, body, 0, len(body))
            theirs = _theirs(ndmsg, 28, body)
            if ours is None:
                assert not theirs["state"] & nl.NUD_PERMANENT
                continue
            assert (ours.key.detail, ours.mac, names[theirs["ifindex"]]) == (
                theirs.get_attr("NDA_DST"), theirs.get_attr("NDA_LLADDR"), ours.key.dev,
            )  # fmt: skip
        moved = Neighbour(key=NEIGHBOURS[0].key, mac="02:00:00:00:00:9f")
        requests = write_neighbours.modify(moved, numbers)
        requests += [r for n in NEIGHBOURS[1:] * 2 for r in write_neighbours.delete(n, numbers)]
        assert {a.verdict.value for a in send(requests, {HERE: sock})} == {"done"}
        assert [n for n in neighbours.read_all(HERE, sock, names) if n.owned] == [moved]
