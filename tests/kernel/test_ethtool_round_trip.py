"""`ethtool` means what ethtool(8) means: the same words, given to both, make the same interface."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from socket import socket

import pytest
from pyroute2.ethtool.ioctl import ETHTOOL_SRINGPARAM, EthtoolRingParam

from actuators import ethtool_calls
from actuators import offloads as write_offloads
from actuators import settings as write_settings
from actuators.requests import Request, Verdict
from actuators.transport import Answer, send
from model import ethtool, settings
from model.keys import SELF, Key, link_key
from model.resources import EthtoolCall, Link, Offload, Setting
from model.settings import Which
from observers import links
from observers import offloads as read_offloads
from observers import settings as read_settings
from observers.namespaces import inside
from observers.netlink import open_socket
from tests.kernel.lab import Lab, sh

CASES = 2000
# What `ethtool --show-features` prints for ethtool's short names.
HEADS = {
    "rx": "rx-checksumming", "tx": "tx-checksumming", "sg": "scatter-gather",
    "tso": "tcp-segmentation-offload", "gso": "generic-segmentation-offload",
    "gro": "generic-receive-offload", "lro": "large-receive-offload", "rxvlan": "rx-vlan-offload",
    "txvlan": "tx-vlan-offload", "ntuple": "ntuple-filters", "rxhash": "receive-hashing",
}  # fmt: skip
GROUPS = {"tx": "tx-checksum-*", "sg": "tx-scatter-gather*", "tso": "tx-tcp*-segmentation"}
KERNEL = ("rx-checksum", "tx-generic-segmentation", "rx-gro", "rx-lro", "rx-vlan-hw-parse",
          "tx-vlan-hw-insert", "rx-ntuple-filter", "rx-hashing")  # fmt: skip


class _Numbers:
    """What an actuator asks for, by looking."""

    def __init__(self, sock: socket) -> None:
        self._sock = sock

    def index(self, link: Key) -> int:
        return look(self._sock, link.dev).index

    def free_index(self, link: Key) -> int:
        raise NotImplementedError

    def namespace(self, ns: object) -> int:
        raise NotImplementedError


@pytest.fixture
def sock(lab: Lab) -> Iterator[socket]:
    """A namespace with two pairs that are the same: one for ethtool, one for us."""
    assert lab
    for dev in ("theirs", "ours"):
        queues = ("numtxqueues", "8", "numrxqueues", "8")
        sh("ip", "link", "add", "name", dev, *queues, "type", "veth", "peer", "name", f"{dev}-2")
    with open_socket() as made:
        yield made


def look(sock: socket, dev: str) -> Link:
    (link,) = links.read_named(SELF, sock, [dev])
    return link


def do(sock: socket, requests: list[Request]) -> Answer:
    (answer,) = send(requests, {SELF: sock})
    return answer


def shown(dev: str) -> dict[str, bool]:
    """Read `ethtool --show-features`: name and whether it is on."""
    rows = (line.strip().partition(": ") for line in sh("ethtool", "-k", dev).splitlines()[1:])
    return {name: state.startswith("on") for name, _, state in rows}


def fixed(dev: str) -> set[str]:
    text = sh("ethtool", "-k", dev)
    return {line.partition(":")[0].strip() for line in text.splitlines() if "[fixed]" in line}


def by_ethtool(dump: dict[str, bool], names: list[str]) -> dict[str, bool]:
    """Return these features as a dump shows them; of a group, those that are not named too."""
    return {
        name: any(
            on for each, on in dump.items()
            if fnmatchcase(each, GROUPS[name]) and each not in names
        )
        if name in GROUPS and any(fnmatchcase(each, GROUPS[name]) for each in names)
        else dump[HEADS.get(name, name)]
        for name in names
    }  # fmt: skip


def offload_words(chance: random.Random, free: list[str], stuck: list[str]) -> str:
    """Write some settings: of what can be changed mostly, and sometimes of what is fixed."""
    names = chance.sample(free, chance.randint(1, 9))
    if chance.random() < 0.1:
        names += chance.sample(stuck, chance.randint(1, 2))
    if chance.random() < 0.3:  # a group and then exceptions from it
        names += [*chance.sample(sorted(GROUPS), 2), *chance.sample(free, 2)]
    return " ".join(f"{name} {chance.choice(('on', 'off'))}" for name in names)


@pytest.mark.proves("ethtool offload")
def test_the_same_words_make_the_same_offloads(
    sock: socket, measured: Callable[[str], None]
) -> None:
    stuck_labels = fixed("theirs") - {"vlan-challenged"}
    names = [*shown("theirs"), *HEADS, *KERNEL]
    stuck = sorted(stuck_labels & ethtool.FEATURES.keys())
    free = sorted(
        n for n in names
        if n in ethtool.FEATURES
        and HEADS.get(ethtool.FEATURES[n], ethtool.FEATURES[n]) not in stuck_labels
    )  # fmt: skip
    assert len(free) > 35
    chance = random.Random(3)
    wrong: list[str] = []
    tried: set[str] = set()
    refused = 0
    while len(tried) < CASES:
        text = offload_words(chance, free, stuck)
        if text in tried:
            continue
        tried.add(text)
        declared = ethtool.parse([f"-K {text}"]).offloads
        order = [name for name, _ in declared]
        sh("ethtool", "-K", "theirs", *text.split(), check=False)
        theirs = shown("theirs")
        wanted = Offload(key=Key(SELF, "offload", "ours"), features=declared)
        answer = do(sock, write_offloads.modify(wanted, order))
        ours = shown("ours")
        if ours != theirs:
            differ = {n: (theirs[n], ours[n]) for n in ours if ours[n] != theirs[n]}
            wrong.append(f"{text}: (ethtool, Relink) made {differ}")
            sh("ethtool", "-K", "ours", *text.split(), check=False)  # one fault is told once
        seen = by_ethtool(theirs, order)
        for dev in ("theirs", "ours"):
            read = read_offloads.read(SELF, sock, dev, order)
            if dict(read.features) != seen:
                wrong.append(f"{text}: {dev} read as {read.features}, ethtool -k shows {seen}")
        missed = {name for name, on in declared if seen[name] != on}
        told = set(re.findall(r"[:,] (\S+) (?:stays|is fixed)", answer.words))
        if missed != told or (answer.verdict is Verdict.UNSUPPORTED) != bool(missed):
            wrong.append(f"{text}: not as declared: {missed}; answer {answer}")
        refused += bool(missed)
    measured(f"{len(tried)} settings, {refused} of them beyond the driver, {len(wrong)} wrong")
    assert not wrong, f"{len(wrong)} of {len(tried)}:\n" + "\n".join(wrong[:20])
    assert CASES // 20 < refused < CASES * 3 // 4, refused  # both kinds are well represented


@pytest.mark.proves("ethtool offload")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rx-fcs on", "ours: rx-fcs is fixed off by the driver"),
        ("ufo on", "ours: ufo is unknown to this kernel"),
        ("sg off gso on", "ours: gso stays off: another offload setting stands against it"),
        ("lro on rx-all on gro on", "ours: lro is fixed off by the driver, rx-all is fixed off"),
    ],
)
def test_what_an_interface_cannot_is_unsupported(sock: socket, text: str, said: str) -> None:
    wanted = Offload(
        key=Key(SELF, "offload", "ours"), features=ethtool.parse([f"-K {text}"]).offloads
    )
    answer = do(sock, write_offloads.modify(wanted, dict(wanted.features)))
    assert answer.verdict is Verdict.UNSUPPORTED
    assert said in answer.words


@pytest.mark.proves("ethtool offload")
def test_off_is_off_where_there_is_nothing_to_switch(sock: socket) -> None:
    declared = ethtool.parse(["-K ufo off lro off rx-fcs off"]).offloads
    assert read_offloads.read(SELF, sock, "ours", dict(declared)).features == declared


def test_nothing_is_told_of_an_interface_that_is_gone(sock: socket) -> None:
    assert read_offloads.read(SELF, sock, "gone", ["tx"]).features == ()
    (setting,) = read_settings.read(SELF, sock, "gone", ["ring"])
    assert setting.values == ()
    wanted = Offload(key=Key(SELF, "offload", "gone"), features=(("tx", False),))
    assert do(sock, write_offloads.modify(wanted, ["tx"])).verdict is Verdict.VANISHED


def numbers(*words: str) -> dict[str, int]:
    """Read the current values of `ethtool --show-…`, by ethtool's names for setting them."""
    text = sh("ethtool", *words).rpartition("Current hardware settings:")[2]
    rows = re.findall(r"^([\w -]+):\s*(\d+)$", text, re.MULTILINE)
    return {name.lower().replace(" ", "-"): int(value) for name, value in rows}


def read_one(sock: socket, dev: str, which: Which) -> dict[str, int]:
    (setting,) = read_settings.read(SELF, sock, dev, [which])
    assert setting.key == Key(SELF, "setting", dev, which)
    return dict(setting.values)


def setting(dev: str, which: Which, values: tuple[tuple[str, int], ...]) -> list[Request]:
    made = Setting(key=Key(SELF, "setting", dev, which), values=values)
    return write_settings.modify(made, [name for name, _ in values])


@pytest.mark.proves("ethtool channels")
def test_the_same_words_make_the_same_channels(sock: socket) -> None:
    for rx in range(1, 9):
        for text in (f"rx {rx}", f"tx {9 - rx}", f"rx {9 - rx} tx {rx}", f"rx 0x{rx}"):
            wanted = ethtool.parse([f"-L {text}"]).channels
            sh("ethtool", "-L", "theirs", *text.split(), check=False)
            assert do(sock, setting("ours", "channels", wanted)).code == 0
            told = numbers("-l", "theirs")
            assert {n: v for n, v in told.items() if n in dict(wanted)} == dict(wanted)
            assert numbers("-l", "ours") == told
            for dev in ("theirs", "ours"):
                read = read_one(sock, dev, "channels")
                assert read == {"combined": 0, "other": 0} | told
    answer = do(sock, setting("ours", "channels", (("rx", 9), ("tx", 2))))
    assert answer.verdict is Verdict.UNSUPPORTED
    assert answer.words == "ours: channels rx can be 8 at most"
    answer = do(sock, setting("ours", "channels", (("rx", 0), ("tx", 0))))
    assert answer.verdict is Verdict.REFUSED


@pytest.mark.proves("ethtool coalesce")
def test_the_same_words_make_the_same_coalescing(sock: socket) -> None:
    for dev in ("tap0", "tap1"):
        sh("ip", "tuntap", "add", dev, "mode", "tap")
    for frames in (1, 0, 64, 7, 33):
        sh("ethtool", "-C", "tap0", "rx-frames", str(frames))
        (wanted,) = ethtool.parse([f"--coalesce rx-frames {frames}"]).coalesce
        assert do(sock, setting("tap1", "coalesce", (wanted,))).code == 0
        assert numbers("-c", "tap0") == numbers("-c", "tap1") == {"rx-frames": frames}
        for dev in ("tap0", "tap1"):
            assert read_one(sock, dev, "coalesce")["rx-frames"] == frames
    answer = do(sock, setting("tap1", "coalesce", (("rx-frames", 65),)))
    assert (answer.verdict, answer.words) == (
        Verdict.UNSUPPORTED, "tap1: the driver keeps coalesce rx-frames at 64",
    )  # fmt: skip
    answer = do(sock, setting("tap1", "coalesce", (("rx-usecs", 5),)))
    assert answer.verdict is Verdict.UNSUPPORTED


@pytest.fixture
def card(sock: socket) -> str:
    """A network card in the test's namespace; it goes back when that ends, as hardware does."""
    assert sock
    sh("modprobe", "e1000")
    sh("nsenter", "--target=1", "--net", "ip", "link", "set", "eth0", "netns", str(os.getpid()))
    return "eth0"


@pytest.mark.qemu  # the machine's own card is nobody's to write to
@pytest.mark.proves("ethtool ring")
def test_the_same_words_make_the_same_ring_sizes(sock: socket, card: str) -> None:
    """What the driver of an e1000 takes: multiples of 8 from 80 to 4096."""
    for rx, tx in ((80, 4096), (512, 88), (4096, 1000)):
        sh("ethtool", "-G", card, "rx", str(rx), "tx", str(tx))
        assert read_one(sock, card, "ring") == {"rx": rx, "tx": tx, "rx-mini": 0, "rx-jumbo": 0}
        wanted = ethtool.parse([f"--set-ring rx {rx - 8} tx 0x{tx - 8:x}"]).ring
        answer = do(sock, setting(card, "ring", wanted))
        assert answer.code == 0, answer
        assert numbers("-g", card) == {"rx": rx - 8, "tx": tx - 8}
    answer = do(sock, setting(card, "ring", (("rx", 4104),)))
    assert (answer.verdict, answer.words) == (
        Verdict.UNSUPPORTED, f"{card}: ring rx can be 4096 at most",
    )  # fmt: skip
    answer = do(sock, setting(card, "ring", (("rx", 81),)))
    assert (answer.verdict, answer.words) == (
        Verdict.UNSUPPORTED, f"{card}: the driver keeps ring rx at 88",
    )  # fmt: skip


def test_an_order_for_ring_sizes_is_what_pyroute2_encodes() -> None:
    answer = settings.question("ring")
    maxima = (256, 0, 0, 512)
    answer[4:] = struct.pack("=8I", *maxima, 1, 2, 3, 4)
    order = settings.order("ring", answer, {"rx": 100, "tx": 200})
    theirs = EthtoolRingParam.from_buffer(order)
    assert theirs.cmd == ETHTOOL_SRINGPARAM
    assert (theirs.rx, theirs.rx_mini) == (100, 2)
    assert (theirs.rx_jumbo, theirs.tx) == (3, 200)
    assert settings.maxima("ring", answer) == {"rx": 256, "rx-mini": 0, "rx-jumbo": 0, "tx": 512}


def test_a_driver_without_such_a_setting_is_unsupported(sock: socket) -> None:
    assert read_one(sock, "ours", "ring") == {}
    assert read_one(sock, "ours", "coalesce") == {}
    for which, values in (("ring", (("rx", 64),)), ("coalesce", (("rx-usecs", 8),))):
        answer = do(sock, setting("ours", which, values))  # type: ignore[arg-type]
        assert answer.verdict is Verdict.UNSUPPORTED
        assert "not supported" in str(answer)


@pytest.mark.proves("ethtool call")
def test_a_call_runs_once_and_its_mark_dies_with_the_interface(sock: socket) -> None:
    sh("ip", "tuntap", "add", "tap0", "mode", "tap")
    (argv,) = ethtool.parse(["-s speed 100 duplex full"]).other
    call = ethtool.call(link_key(SELF, "tap0"), argv)
    answer = do(sock, ethtool_calls.create(call, _Numbers(sock)))
    assert answer.code == 0, answer
    assert "Speed: 100Mb/s" in sh("ethtool", "tap0")
    link = look(sock, "tap0")
    assert link.other_names == (ethtool.mark(call),)
    assert ethtool.calls_made(link) == [call.key]
    again = do(sock, ethtool_calls.create(call, _Numbers(sock)))
    assert again.verdict is Verdict.VANISHED  # look again: somebody has made it since
    sh("ip", "link", "del", "tap0")
    sh("ip", "tuntap", "add", "tap0", "mode", "tap")
    assert ethtool.calls_made(look(sock, "tap0")) == []


@pytest.mark.proves("ethtool call")
def test_a_call_is_made_in_the_namespace_of_its_socket(lab: Lab) -> None:
    lab.add("node_1")
    lab.ip("node_1", "tuntap", "add", "tap0", "mode", "tap")
    sh("ip", "tuntap", "add", "tap0", "mode", "tap")
    namespace = Path("/proc/thread-self/ns/net").readlink()
    with inside("/run/netns/node_1"):
        there = open_socket()
    with there:
        call = ethtool.call(link_key(SELF, "tap0"), ("--change", "speed", "100"))
        answer = do(there, ethtool_calls.create(call, _Numbers(there)))
        assert answer.code == 0, answer
        assert look(there, "tap0").other_names == (ethtool.mark(call),)
    assert Path("/proc/thread-self/ns/net").readlink() == namespace
    assert "100Mb/s" in sh("ip", "netns", "exec", "node_1", "ethtool", "tap0")
    assert "100Mb/s" not in sh("ethtool", "tap0")


@pytest.mark.proves("ethtool call")
@pytest.mark.parametrize(
    ("setting", "verdict", "said"),
    [
        ("-s speed 100", Verdict.UNSUPPORTED, "ethtool --change: netlink error: Operation not"),
        ("-s warp 9", Verdict.REFUSED, "unknown parameter 'warp'"),
        ("-s speed $(touch${IFS}hacked)", Verdict.REFUSED, "invalid value"),
        ("-s ; reboot", Verdict.REFUSED, "unknown parameter ';'"),
    ],
)
def test_a_call_that_fails_leaves_no_mark(
    sock: socket, setting: str, verdict: Verdict, said: str
) -> None:
    (argv,) = ethtool.parse([setting]).other
    call = ethtool.call(link_key(SELF, "ours"), argv)
    answer = do(sock, ethtool_calls.create(call, _Numbers(sock)))
    assert answer.verdict is verdict
    assert said in answer.words
    assert look(sock, "ours").other_names == ()


@pytest.mark.proves("ethtool call")
def test_a_call_for_an_interface_that_is_gone(sock: socket) -> None:
    key = Key(SELF, "ethtool", "gone", "0")
    (request,) = ethtool_calls.create(
        EthtoolCall(key=key, argv=("--change", "speed", "100")), _Here()
    )
    assert do(sock, [request]).verdict is Verdict.VANISHED


class _Here(_Numbers):
    def __init__(self) -> None:
        pass

    def index(self, link: Key) -> int:
        assert link
        return 0


@pytest.mark.proves("ethtool call")
def test_a_program_that_hangs_is_ended(
    sock: socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = shutil.which("sleep")
    (tmp_path / "ethtool").write_text(f"#!/bin/sh\nexec {sleep} 600\n")
    (tmp_path / "ethtool").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ethtool_calls, "_SECONDS", 0.3)
    call = ethtool.call(link_key(SELF, "ours"), ("--change", "speed", "100"))
    answer = do(sock, ethtool_calls.create(call, _Numbers(sock)))
    assert (answer.verdict, answer.words) == (Verdict.RETRY, "ethtool did not end within 0.3 s")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    answer = do(sock, ethtool_calls.create(call, _Numbers(sock)))
    assert answer.verdict is Verdict.UNSUPPORTED
    assert answer.words == "the program ethtool is not installed"
    monkeypatch.undo()
    assert look(sock, "ours").other_names == ()
