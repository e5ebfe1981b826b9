"""What is there, read by ip(8), tc(8), nft(8) and ovs-vsctl(8), or as they read it.

Nothing of Relink has a hand in it, but for the layout of netlink messages.

Where a network namespace is, is told by its path, "" for our own.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model import netlink as nl
from tests.kernel.lab import CLONE_NEWNET

_GTXCSUM = 0x16  # ETHTOOL_GTXCSUM, linux/ethtool.h
_SIOCETHTOOL = 0x8946  # linux/sockios.h
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h
_MNT_DETACH = 2  # umount2(2)
_OURS = "158"  # rtm_protocol and FRA_PROTOCOL of what Relink adds (model/ownership.py)
_PATIENCE = 10.0  # seconds
_TRIES = 3  # of an echo
_ADDRESSES = nl.message(nl.RTM_GETADDR, nl.NLM_F_DUMP, nl.IFADDR.pack(0, 0, 0, 0, 0))
_LINKS = nl.message(nl.RTM_GETLINK, nl.NLM_F_DUMP, nl.IFINFO.pack(0, 0, 0, 0, 0))
_IFLA_CARRIER_CHANGES = 35  # linux/if_link.h
_IFA_CACHEINFO = 6  # linux/if_addr.h
_CACHED = struct.Struct("=IIII")  # struct ifa_cacheinfo: preferred and valid, s; made, changed
_OF_DAEMONS = ("datapath_version", "status", "rstp_status")  # ovs-vswitchd.conf.db(5)
_NFGENMSG = struct.Struct("=BBH")  # linux/netfilter/nfnetlink.h
_NFT_MSG_NEWGEN, _NFTA_GEN_ID = nl.NFNL_SUBSYS_NFTABLES << 8 | 15, 1  # linux/.../nf_tables.h
_GENERATION = nl.message(nl.NFNL_SUBSYS_NFTABLES << 8 | 16, 0, _NFGENMSG.pack(0, 0, 0))
_translated: dict[str, tuple[tuple[int, bytes] | None, str]] = {}  # by place
_libc = ctypes.CDLL(None, use_errno=True)


def inside(place: str) -> list[str]:
    """Return the words before a command that is to be run in a network namespace."""
    return ["nsenter", f"--net={place}"] if place else []


@contextmanager
def entered(place: str) -> Iterator[bool]:
    """Be in a network namespace for a while, and so is what is started there; tell if it is there.

    Raises:
        OSError: the way back is barred.
    """
    if not place:
        yield True
        return
    with contextlib.ExitStack() as stack:
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, back)
        try:
            there = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            there = -1
        else:
            stack.callback(os.close, there)
        if there < 0 or _libc.setns(there, CLONE_NEWNET):  # a file without a namespace
            yield False
            return
        try:
            yield True
        finally:
            if _libc.setns(back, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def told(place: str, *words: str, lines: Iterable[str] = ()) -> str:
    """Return what a program prints in a namespace, whatever it thinks of it."""
    with entered(place) as there:
        if not there:
            return ""
        done = subprocess.run(
            words, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
        )
    return done.stdout


def documents(text: str) -> list[Any]:
    """Return the JSON documents of a text, one after the other."""
    text, decoder = text.strip(), json.JSONDecoder()
    found = []
    while text:
        one, end = decoder.raw_decode(text)
        found.append(one)
        text = text[end:].lstrip()
    return found


class Teller:
    """An ip(8) that stays in a namespace and tells of it as often as it is asked.

    To start a program takes longer than all else that a look does. The namespace lives for as long
    as it has this in it.
    """

    def __init__(self, place: str) -> None:
        self.inode = inode(place)
        words = ("ip", "-j", "-d", "-s", "-force", "-batch", "-")
        with entered(place):
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )

    def is_in(self, place: str) -> bool:
        """Tell whether this is where it is."""
        return self.inode == inode(place)

    def rows(self, *lines: str) -> list[list[dict[str, Any]]]:
        """Return what ip(8) tells as JSON of each line.

        Raises:
            OSError: it has ended, or told nothing of one of them.
        """
        assert self._process.stdin
        assert self._process.stdout
        found = []
        for line in lines:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], _PATIENCE)[0]:
                raise TimeoutError(f"ip told nothing of {line}")
            found.append([row for row in json.loads(self._process.stdout.readline()) if row])
        return found

    def end(self) -> None:
        """Let it end, so that the namespace can."""
        self._process.communicate()


def is_namespace(place: str) -> bool:
    """Tell whether a namespace is pinned to a file, which nobody did who only made the file."""
    with contextlib.suppress(OSError):
        return Path(place).stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    return False


def inode(place: str) -> int:
    """Return what tells a namespace apart; 0 where there is none."""
    try:
        return Path(place or "/proc/thread-self/ns/net").stat().st_ino
    except OSError:
        return 0


def cookie(place: str) -> int:
    """Return what tells a namespace from every other there ever was; an inode is used again.

    Raises:
        OSError: the kernel has no such thing; 5.14 and later do.
    """
    with entered(place) as there:
        if not there:
            return 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            told = sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return int.from_bytes(told, sys.byteorder)


def rows(place: str, *lines: str) -> list[list[dict[str, Any]]]:
    """Return what ip(8) tells as JSON of each line; nothing of a namespace that is not there."""
    words = ("ip", "-j", "-d", "-s", "-force", "-batch", "-")
    found = [[row for row in one if row] for one in documents(told(place, *words, lines=lines))]
    return found if len(found) == len(lines) else [[] for _ in lines]


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at a namespace.

    Attributes:
        links: by name, as `ip -d -s link` and `ip -d addr` tell.
        routes: `what via`, of the main table.
        ways: `what via dev` of every table, and the rules, as text.
        marked: `what via` of every table, of routes with Relink's protocol number.
        marked_rules: how many rules have it.
    """

    links: dict[str, dict[str, Any]]
    routes: frozenset[str]
    ways: str
    marked: frozenset[str]
    marked_rules: int

    def addresses(self, dev: str) -> frozenset[str]:
        """Return the addresses of a link that are not link-local."""
        told = self.links.get(dev, {}).get("addr_info", ())
        return frozenset(
            f"{a['local']}/{a['prefixlen']}" for a in told if a.get("scope") == "global"
        )


LOOK = ("link show", "addr show", "route show table all", "rule show")


def look(place: str) -> Seen:
    """Look at a namespace; what is not there has nothing in it."""
    return seen(*rows(place, *LOOK))


def seen(
    links: list[dict[str, Any]],
    addresses: list[dict[str, Any]],
    routes: list[dict[str, Any]],
    rules: list[dict[str, Any]],
) -> Seen:
    """Make something of what ip(8) told of `LOOK`."""
    named = {row["ifname"]: row for row in links}
    for row in addresses:  # which says less of a link: not how silent it is
        named.setdefault(row["ifname"], row)["addr_info"] = row["addr_info"]
    ways = [f"{_route(row)} dev {row.get('dev', '')}" for row in routes]
    ways += [" ".join(f"{key} {value}" for key, value in row.items()) for row in rules]
    main = frozenset(_route(row) for row in routes if row["table"] == "main")
    marked = frozenset(_route(row) for row in routes if row.get("protocol") == _OURS)
    ours = sum(row.get("protocol") == _OURS for row in rules)
    return Seen(named, main, "\n".join(ways), marked, ours)


def _route(row: dict[str, Any]) -> str:
    kind = "" if row.get("type", "unicast") == "unicast" else f"{row['type']} "
    via = f" {row['gateway']}" if "gateway" in row else ""
    return f"{kind}{row['dst']}{via}"


def offloaded(place: str, devs: Sequence[str]) -> list[str]:
    """Return which of some links leave checksums to hardware that is not there."""
    found = []
    with entered(place) as there:
        if there:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                found = [dev for dev in devs if _offloaded(sock, dev)]
    return found


def _offloaded(sock: socket.socket, dev: str) -> bool:
    value = (ctypes.c_uint32 * 2)(_GTXCSUM, 0)  # struct ethtool_value
    request = struct.pack("16sP16x", dev.encode(), ctypes.addressof(value))  # struct ifreq
    with contextlib.suppress(OSError):  # it is not there: others tell
        fcntl.ioctl(sock, _SIOCETHTOOL, request)
    return bool(value[1])


def made(place: str) -> dict[tuple[int, bytes], int]:
    """Return when each address was given to an interface, by its index, in 1/100 s since boot.

    An address that was away for a moment tells of itself by it: IFA_CACHEINFO, linux/if_addr.h.
    """
    found: dict[tuple[int, bytes], int] = {}
    for data, start, end in _dumped(place, _ADDRESSES):
        told = nl.attributes(data, start + nl.IFADDR.size, end)
        index = nl.IFADDR.unpack_from(data, start)[4]
        address = told.get(nl.IFA_LOCAL) or told[nl.IFA_ADDRESS]
        found[index, address] = _CACHED.unpack(told[_IFA_CACHEINFO])[2]
    return found


def carriers(place: str) -> dict[int, int]:
    """Return how often the carrier of each interface has come and gone, by its index.

    One that was down for a moment, or whose other end was, tells of itself by it.
    """
    return {
        nl.IFINFO.unpack_from(data, start)[2]: nl.U32.unpack(
            nl.attributes(data, start + nl.IFINFO.size, end)[_IFLA_CARRIER_CHANGES]
        )[0]
        for data, start, end in _dumped(place, _LINKS)
    }


def _dumped(place: str, request: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (datagram, start, end) of each body of a dump in a namespace; none if it is gone."""
    with entered(place) as there, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        if not there:
            return
        sock.send(request)
        while True:
            data = sock.recv(1 << 16)
            for kind, _flags, _sequence, start, end in nl.messages(data):
                if kind == nl.NLMSG_DONE:
                    return
                yield data, start, end


def redirected(devs: Sequence[str], place: str) -> list[str]:
    """Return for each interface where u32 of preference 1505 sends what arrives, "" for nowhere."""
    lines = [f"filter show dev {dev} ingress pref 1505" for dev in devs]
    answers = documents(told(place, "tc", "-j", "-force", "-batch", "-", lines=lines))
    targets = []
    for answer in answers:
        found = [
            str(action["to_dev"])
            for row in answer
            for action in row.get("options", {}).get("actions", ())
            if action.get("kind") == "mirred"
        ]
        targets.append(found[0] if found else "")
    return targets if len(targets) == len(devs) else [""] * len(devs)


@dataclass(frozen=True, slots=True)
class Switched:
    """What Open vSwitch has.

    Attributes:
        plain: the bridges that learn by themselves, and do not ask for groups.
        ports: for each port its bridge, and the index of what it sends to, 0 for none; None as long
            as ovs-vswitchd has not told the database, which forgets it when it ends.
    """

    plain: frozenset[str] = frozenset()
    ports: dict[str, tuple[str, int | None]] = field(default_factory=dict)


def switched() -> Switched:
    """Return what Open vSwitch has; nothing where its database does not answer."""
    asked = (
        ("name,ports,fail_mode,mcast_snooping_enable", "Bridge"),
        ("_uuid,name,interfaces", "Port"),
        ("_uuid,ifindex", "Interface"),
    )
    words = ["ovs-vsctl", "--db=unix:/run/openvswitch/db.sock", "--timeout=1", "--format=json"]
    for n, (columns, table) in enumerate(asked):
        words += [*(["--"] if n else []), f"--columns={columns}", "list", table]
    answers = documents(told("", *words))
    if len(answers) != len(asked):
        return Switched()
    bridges, ports, interfaces = (answer["data"] for answer in answers)
    indexes = {tuple(uuid): at if isinstance(at, int) else None for uuid, at in interfaces}
    bridge_of = {each: name for name, held, *_ in bridges for each in _uuids(held)}
    plain = (name for name, _, *rest in bridges if rest == ["standalone", False])
    sends_to = {
        name: (bridge_of[tuple(uuid)], indexes.get(each))
        for uuid, name, held in ports
        for each in _uuids(held)
        if tuple(uuid) in bridge_of
    }
    return Switched(frozenset(plain), sends_to)


def switch(bridge: str) -> str:
    """Return what somebody has told Open vSwitch of a bridge, and not what its daemons tell of it.

    Nothing where its database does not answer.
    """
    words = ("ovs-vsctl", "--db=unix:/run/openvswitch/db.sock", "--timeout=5")
    lines = told("", *words, "list", "bridge", bridge).splitlines()
    return "\n".join(line for line in lines if line.split(" ")[0] not in _OF_DAEMONS)


def _uuids(held: list[Any]) -> list[tuple[str, ...]]:
    """Return what a column that holds one or some references holds (RFC 7047, 5.1)."""
    return [tuple(each) for each in held[1]] if held[0] == "set" else [tuple(held)]


def translated(place: str) -> str:
    """Return what translates packets in a namespace, as nft(8) tells it.

    It is asked again when a transaction has changed something since: the kernel counts them.
    """
    generation = _generation(place)
    if generation and (known := _translated.get(place)) and known[0] == generation:
        return known[1]
    text = told(place, "nft", "list", "ruleset")
    _translated[place] = (generation, text)
    return text


def table(tables: str, start: str) -> str:
    """Return of what nft(8) has told the table that starts so; "" if there is none."""
    _, found, rest = tables.partition(start)
    return found + rest.partition("\n}")[0]


def _generation(place: str) -> tuple[int, bytes] | None:
    """Return which namespace this is, and how often its tables have changed; None if untold."""
    with entered(place) as there:
        if not there:
            return None
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, nl.NETLINK_NETFILTER) as sock:
            sock.send(_GENERATION)
            data = sock.recv(1 << 12)
            namespace = sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    for kind, _flags, _sequence, start, end in nl.messages(data):
        if kind == _NFT_MSG_NEWGEN:
            told = nl.attributes(data, start + _NFGENMSG.size, end)
            return int.from_bytes(namespace, sys.byteorder), told[_NFTA_GEN_ID]
    return None


def pings(place: str, address: str) -> bool:
    """Tell whether an address answers a namespace, which may have to learn of its neighbour."""
    words = (*inside(place), "ping", "-c1", "-W2", address)
    return any(subprocess.run(words, capture_output=True, check=False).returncode == 0
               for _ in range(_TRIES))  # fmt: skip


def connects(source: str, to: tuple[str, int], target: str, port: int) -> bool:
    """Tell whether a connection from one namespace comes out at a TCP port of another, and back."""
    with contextlib.ExitStack() as stack:
        with entered(target):
            listener = stack.enter_context(socket.create_server(("", port)))
        with entered(source):
            client = stack.enter_context(socket.socket())
        listener.settimeout(_PATIENCE)
        client.settimeout(_PATIENCE)
        try:
            client.connect(to)
            server = stack.enter_context(listener.accept()[0])
            server.sendall(b"relink")
            return client.recv(16) == b"relink"
        except OSError:
            return False


def ip(lines: Iterable[str], place: str) -> str:
    """Do things with ip(8), all of them whatever becomes of each; return what went wrong."""
    done = subprocess.run(
        [*inside(place), "ip", "-force", "-batch", "-"],
        input="\n".join(lines) + "\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stderr


def vanish(name: str, after: float) -> None:
    """Unmount and remove a named namespace so many seconds from now, without a program between."""
    end = time.monotonic() + after
    while time.monotonic() < end:
        pass  # shorter than what a sleep can be trusted with
    file = Path("/run/netns") / name
    _libc.umount2(str(file).encode(), _MNT_DETACH)
    file.unlink()


def run(*words: str, check: bool = True) -> str:
    """Run a program; return what it printed.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
