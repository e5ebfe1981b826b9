"""Each kind of link, with every setting of its table: what is asked for is what the kernel has.

It is read back by us and by `ip`. A kind without a sample fails, and so does a setting.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from actuators import links as write
from actuators.requests import Request, Verdict
from actuators.transport import send
from model.keys import SELF, Key, NsKey, link_key
from model.kinds import KINDS
from model.look import Look
from model.ownership import group_of
from model.resources import Link, differences
from observers import nsid
from observers.namespaces import Opened, open_all
from observers.plain import Plain
from observers.snapshot import index_of, observe
from tests.kernel.lab import Lab, container_key

SIOCGSKNS = 0x894C  # linux/sockios.h: a descriptor of a socket's namespace
NODE = container_key("node_1")
PARENT = link_key(SELF, "uplink0")
CHILD = link_key(NODE, "eth0")
Settings = dict[str, object]


@dataclass(frozen=True)
class Sample:
    """A kind's settings, what `ip -d -j link` says of them, and others for the living link."""

    kind: str
    settings: Settings = field(default_factory=dict)
    shown: Settings = field(default_factory=dict)
    after: Settings = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    proves: tuple[str, ...] = ()


def _tunnel(kind: str, remote: str, other: str, **more: object) -> Sample:
    told = {"vni": 77, "remote": remote, "ttl": 9, "tos": 16, "port": 4790, "df": "set", **more}
    said = {"id": 77, "ttl": 9, "tos": "0x10", "port": 4790, "df": "set", **more}
    six = "6" if ":" in remote else ""
    said[f"remote{six}"] = remote
    if local := said.pop("local", None):
        said[f"local{six}"] = local
    return Sample(kind, told, said, {"remote": other} if other else {}, (kind,))


def _mode(kind: str, mode: str, *, after: str = "", needs: str = "") -> Sample:
    later: Settings = {"mode": after} if after else {}
    needed = (needs or kind,)
    proved = (f"link {kind}", f"link {kind} {mode}")
    return Sample(kind, {"mode": mode}, {"mode": mode}, later, needed, proved)


SAMPLES = [
    Sample("veth", proves=("link veth",)),
    Sample("bridge", {"snooping": False}, {"mcast_snooping": 0}, {"snooping": True}),
    Sample("dummy", needs=("dummy",), proves=("link dummy",)),
    Sample("vlan", {"vlanid": 4094}, {"id": 4094, "protocol": "802.1Q"}, {}, ("8021q",),
           ("link vlan",)),
    *(_mode(kind, mode) for kind in ("macvlan", "macvtap")
      for mode in ("private", "vepa", "bridge", "passthru", "source")),
    *(_mode(kind, mode, after=after) for kind in ("ipvlan", "ipvtap")
      for mode, after in (("l2", "l3"), ("l3", "l3s"), ("l3s", "l2"))),
    _tunnel("vxlan", "192.0.2.1", "192.0.2.9", local="192.0.2.2", learning=False),
    _tunnel("vxlan", "fd00::1", "fd00::9", local="fd00::2", learning=True),
    _tunnel("geneve", "192.0.2.1", ""),
    _tunnel("geneve", "fd00::1", ""),
]  # fmt: skip


def _case(sample: Sample) -> object:
    marks = [pytest.mark.needs(*sample.needs)] if sample.needs else []
    if sample.proves:
        marks.append(pytest.mark.proves(*sample.proves))
    words = (sample.kind, *map(str, sample.settings.values()))
    return pytest.param(sample, marks=marks, id="-".join(words[:3]))


@pytest.mark.parametrize("sample", [_case(sample) for sample in SAMPLES])
def test_a_link_is_made_and_changed_as_its_table_says(lab: Lab, sample: Sample) -> None:
    lab.add("node_1")
    lab.ip("", *f"link add {PARENT.dev} type veth peer name far0".split())
    lab.ip("", *f"link set {PARENT.dev} up".split())  # a vlan cannot be up on one that is not
    wanted = _wanted(sample)
    with _opened() as opened:
        _make(opened, wanted)
        assert differences(_seen(opened, wanted), wanted) == ()
        assert _shown(lab, sample.shown) == (sample.kind, sample.shown)

        changed = replace(wanted, settings=_sorted(sample.settings | sample.after))
        _do(opened, write.modify(_seen(opened, wanted, changed), sample.after, _Numbers(opened)))
        assert differences(_seen(opened, wanted), changed) == ()

        _do(opened, write.delete(_seen(opened, wanted)))
        assert index_of(opened, CHILD) == 0


def test_every_kind_and_every_setting_has_a_sample() -> None:
    for kind in KINDS.values():
        mine = [sample for sample in SAMPLES if sample.kind == kind.name]
        told = {name for sample in mine for name in sample.settings}
        assert mine, kind.name
        assert told == {attribute.name for attribute in kind.attributes}
        live = {attribute.name for attribute in kind.attributes if attribute.in_place}
        assert {name for sample in mine for name in sample.after} == live
        modes = {sample.settings.get("mode") for sample in mine}
        assert "mode" not in told or modes >= _words(kind.name)


def _words(kind: str) -> set[object]:
    """Return the modes that a kind knows."""
    from model.kinds import ipvlan, macvlan

    return set(macvlan.MODES if kind.startswith("mac") else ipvlan.MODES)


class _Numbers:
    """The kernel's numbers, asked each time; it chooses new ones by itself."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened

    def index(self, link: Key) -> int:
        return index_of(self.opened, link)

    def free_index(self, link: Key) -> int:
        del link
        return 0

    def id_of(self, ns: NsKey, seen_from: NsKey) -> int:
        which = nsid.of_descriptor(self.namespace(ns))
        return nsid.given(self.opened.sockets[seen_from], which)

    def namespace(self, ns: NsKey) -> int:
        if ns not in self.opened.descriptors:  # closed with the rest
            made = fcntl.ioctl(self.opened.sockets[ns], SIOCGSKNS)
            self.opened.descriptors[ns] = made
        return self.opened.descriptors[ns]


@contextmanager
def _opened() -> Iterator[Opened]:
    found = {container_key(c.name): c for c in Plain().list()}
    with open_all([SELF], {NODE: found[NODE]}) as opened:
        yield opened


def _wanted(sample: Sample) -> Link:
    kind, modes = KINDS[sample.kind], sample.settings.values()
    return Link(
        key=CHILD, kind=kind.name, settings=_sorted(sample.settings),
        peer=link_key(SELF, "node_1-eth0") if kind.pair else None,
        parent=PARENT if kind.stacked else None,
        # A passthru child has its parent's (macvlan_common_newlink(), drivers/net/macvlan.c).
        mac="c2:00:00:00:00:07" if kind.has_mac and "passthru" not in modes else None,
        mtu=1400, up=True, group=group_of("lab"), alias="node_1 eth0", silent=True, promote=True,
    )  # fmt: skip


def _sorted(settings: Settings) -> tuple[tuple[str, object], ...]:
    return tuple(sorted(settings.items()))


def _make(opened: Opened, wanted: Link) -> None:
    peer = wanted.peer and Link(
        key=wanted.peer, kind="veth", peer=wanted.key, mtu=wanted.mtu, group=wanted.group
    )
    _do(opened, write.create(wanted, peer, _Numbers(opened)))
    _do(opened, write.complete(wanted, _Numbers(opened)))


def _do(opened: Opened, requests: list[Request]) -> None:
    answers = send(requests, opened.sockets)
    assert [str(a) for a in answers if a.verdict != Verdict.DONE] == []


def _seen(opened: Opened, wanted: Link, instead: Link | None = None) -> Link:
    parents = {wanted.key: wanted.parent} if wanted.parent else {}
    seen = observe(opened, Look(plane=SELF, parents=parents)).resources[wanted.key]
    assert isinstance(seen, Link)
    return replace(instead, index=seen.index) if instead else seen


def _shown(lab: Lab, about: Settings) -> tuple[object, Settings]:
    """Return the kind and, of `about`, what ip(8) says of the link."""
    row = next(row for row in lab.show(NODE.name, "link") if row["ifname"] == CHILD.dev)
    data = row["linkinfo"].get("info_data", {})
    return row["linkinfo"]["info_kind"], {name: data.get(name) for name in about}
