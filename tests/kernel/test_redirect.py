"""Patches on a real kernel: what one interface receives leaves by the other, all of it."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field

import pytest

from actuators import redirects
from actuators.requests import Request, Verdict
from actuators.transport import Answer, send
from model.keys import SELF, Key, NsKey, link_key
from model.resources import Redirect
from observers.netlink import open_socket
from observers.tc import read_redirects
from tests.kernel.lab import Lab, sh

SOURCE = bytes.fromhex("020000000001")
FRAMES = {
    "ARP": "ffffffffffff 0806",
    "IPv4": "020000000002 0800",
    "IPv6": "020000000002 86dd",
    "STP": "0180c2000000 0026424203",
    "PAUSE": "0180c2000001 8808",
    "LACP": "0180c2000002 8809",
    "802.1X": "0180c2000003 888e",
    "LLDP": "0180c200000e 88cc",
    "VLAN 7": "020000000002 81000007 0800",
    "VLAN in VLAN": "020000000002 88a80005 81000007 0800",
}


@dataclass
class Patch:
    """Two veth pairs, a-here and b-here; their near ends are what is patched."""

    lab: Lab
    numbers: dict[Key, int] = field(default_factory=dict)

    def index(self, link: Key) -> int:
        return socket.if_nametoindex(link.dev)

    def free_index(self, link: Key) -> int:
        raise NotImplementedError(link)

    def namespace(self, ns: NsKey) -> int:
        raise NotImplementedError(ns)

    def pair(self, near: str, far: str) -> None:
        self.lab.ip("", "link", "add", "name", near, "type", "veth", "peer", "name", far)
        for dev in (near, far):
            self.lab.ip("", "link", "set", "dev", dev, "addrgenmode", "none", check=False)
            self.lab.ip("", "link", "set", "dev", dev, "up")

    def read(self, *devs: str) -> list[Redirect]:
        names = dict(socket.if_nameindex())
        wanted = {i: name for i, name in names.items() if name in devs}
        with open_socket() as sock:
            return read_redirects(SELF, sock, wanted, names)

    def send(self, requests: list[Request]) -> list[Answer]:
        with open_socket() as sock:
            return send(requests, {SELF: sock})

    def make(self, dev: str, to: str) -> None:
        answers = self.send(redirects.create(redirect(dev, to), self))
        assert all(a.verdict == Verdict.DONE for a in answers), list(map(str, answers))

    def filters(self, dev: str) -> str:
        return sh("tc", "filter", "show", "dev", dev, "parent", "ffff:")


def redirect(dev: str, to: str | None) -> Redirect:
    return Redirect(key=Key(SELF, "redirect", dev), target=link_key(SELF, to) if to else None)


@pytest.fixture
def patch(lab: Lab) -> Patch:
    made = Patch(lab)
    made.pair("a", "far-a")
    made.pair("b", "far-b")
    return made


@pytest.fixture
def both(patch: Patch) -> Patch:
    patch.make("a", "b")
    patch.make("b", "a")
    return patch


def passes(sender: str, receiver: str, frame: bytes) -> bool:
    """Send a frame out of one interface and tell whether the other receives the same bytes."""
    everything = socket.htons(3)  # ETH_P_ALL
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, everything) as rx,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as tx,
    ):
        rx.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: the VLAN tag that was taken off
        rx.bind((receiver, 3))
        rx.settimeout(1)
        tx.bind((sender, 0))
        tx.send(frame)
        try:
            while True:
                data, control, _flags, _from = rx.recvmsg(2048, 256)
                if frame in (data, _tagged(data, control)):
                    return True
        except TimeoutError:
            return False


def _tagged(data: bytes, control: list[tuple[int, int, bytes]]) -> bytes:
    """Put the tag back in that the kernel keeps beside the frame (tpacket_auxdata)."""
    for _level, _kind, raw in control:
        tci, tpid = int.from_bytes(raw[16:18], "little"), int.from_bytes(raw[18:20], "little")
        if tpid:
            return data[:12] + tpid.to_bytes(2, "big") + tci.to_bytes(2, "big") + data[12:]
    return data


@pytest.mark.proves("bridge patch")
@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("size", [2, 46, 1492])
def test_every_frame_passes_in_both_directions(both: Patch, name: str, size: int) -> None:
    del both
    destination, rest = FRAMES[name].split(" ", 1)
    frame = bytes.fromhex(destination) + SOURCE + bytes.fromhex(rest)
    frame += bytes(n % 256 for n in range(size))
    assert passes("far-a", "far-b", frame)
    assert passes("far-b", "far-a", frame)


@pytest.mark.parametrize("size", range(4))
def test_a_frame_passes_that_has_too_little_in_it_for_a_key(both: Patch, size: int) -> None:
    frame = b"\xff" * 6 + SOURCE + b"\x88\xb5" + bytes(size)
    assert passes("far-a", "far-b", frame)
    del both


def test_what_is_made_is_what_is_read_and_tc_shows_it(both: Patch) -> None:
    assert both.read("a", "b") == [redirect("a", "b"), redirect("b", "a")]
    assert all(found.alone_on == "qdisc" for found in both.read("a", "b"))
    shown = both.filters("a")
    assert "800::5e1" in shown
    assert "mirred (Egress Redirect to device b) stolen" in shown
    assert both.read() == []


def test_a_target_made_anew_is_seen_as_wrong_and_put_right_in_place(both: Patch) -> None:
    both.lab.ip("", "link", "del", "dev", "b")
    (before,) = both.read("a")
    assert before == redirect("a", None)
    both.pair("b", "far-b")
    assert both.read("a") == [redirect("a", None)], "a new interface is not the old one"
    frame = b"\xff" * 6 + SOURCE + b"\x08\x06" + bytes(46)
    assert not passes("far-a", "far-b", frame)

    answers = both.send(redirects.modify(before, redirect("a", "b"), both))
    assert [a.verdict for a in answers] == [Verdict.DONE]
    assert both.read("a") == [redirect("a", "b")]
    assert passes("far-a", "far-b", frame)
    assert both.filters("a").count("mirred (Egress") == 1


def test_what_is_made_twice_is_refused_and_stays_one(both: Patch) -> None:
    answers = both.send(redirects.create(redirect("a", "b"), both))
    assert [a.verdict == Verdict.DONE for a in answers] == [True, False]
    assert both.filters("a").count("mirred (Egress") == 1


def test_delete_leaves_nothing_and_may_come_twice(both: Patch) -> None:
    (before,) = both.read("a")
    for _ in range(2):
        answers = both.send(redirects.delete(before, both))
        assert {a.verdict for a in answers} == {Verdict.DONE}, list(map(str, answers))
    assert both.read("a") == []
    assert "ingress" not in sh("tc", "qdisc", "show", "dev", "a")
    assert both.filters("b"), "the other direction is another redirect"


@pytest.mark.parametrize("qdisc", ["ingress", "clsact"])
@pytest.mark.parametrize("preference", ["1", "1505", "40000"])
def test_filters_of_somebody_else_stay_as_they_are(
    patch: Patch, qdisc: str, preference: str
) -> None:
    sh("tc", "qdisc", "add", "dev", "a", qdisc)
    where = ("dev", "a", "ingress")
    match = ("u32", "match", "ip", "dst", "192.0.2.1/32", "flowid", ":1")
    sh("tc", "filter", "add", *where, "pref", preference, "protocol", "all", *match)
    theirs = sh("tc", "filter", "show", *where)
    assert patch.read("a") == []
    patch.make("a", "b")
    (made,) = patch.read("a")
    assert made == redirect("a", "b")
    assert made.alone_on == ("" if preference == "1505" else "preference")

    patch.pair("c", "far-c")
    patch.send(redirects.modify(made, redirect("a", "c"), patch))
    (made,) = patch.read("a")
    assert made == redirect("a", "c")
    answers = patch.send(redirects.delete(made, patch))
    assert [a.verdict for a in answers] == [Verdict.DONE]
    assert sh("tc", "filter", "show", *where) == theirs
    assert any(row["kind"] == qdisc for row in json.loads(sh("tc", "-j", "qdisc", "show")))


def test_a_filter_of_ours_that_no_longer_redirects_leads_nowhere(patch: Patch) -> None:
    sh("tc", "qdisc", "add", "dev", "a", "ingress")
    assert patch.read("a") == []
    patch.make("a", "b")
    (made,) = patch.read("a")
    where = ("dev", "a", "parent", "ffff:", "pref", "1505", "handle", "800::5e1")
    mirror = ("action", "mirred", "egress", "mirror", "dev", "b")
    sh("tc", "filter", "change", *where, "protocol", "all", "u32", *mirror)
    (wrong,) = patch.read("a")
    assert wrong.target is None
    patch.send(redirects.modify(wrong, redirect("a", "b"), patch))
    assert patch.read("a") == [made]
