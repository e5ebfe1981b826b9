"""A laboratory of real network namespaces: a data plane of its own, containers, a monitor."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from actuators.transport import send
from model import netlink as nl
from model.facts import Facts
from model.keys import SELF, NsKey
from observers.plain import Plain
from reconciler.apply import Hands, Send
from reconciler.containers import Roster
from reconciler.passes import Pass, run
from reconciler.sources import Sources, load
from tests.lab.waiting import patient

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    if _libc.unshare(flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    encoded = (source.encode(), target.encode(), kind.encode(), flags, None)
    if _libc.mount(*encoded):
        raise OSError(ctypes.get_errno(), f"{target}: {os.strerror(ctypes.get_errno())}")


def private_run() -> None:
    """Give this process its own /run/netns, /run/relink and /run/openvswitch, for good."""
    unshare(CLONE_NEWNS)
    mount("none", "/", "none", 1 << 14 | 1 << 18)  # MS_REC | MS_PRIVATE
    for directory in ("/run/netns", "/run/relink", "/run/openvswitch"):
        Path(directory).mkdir(exist_ok=True)
        mount("tmpfs", directory, "tmpfs")
        Path(directory).chmod(0o755)


def sh(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _of_the_kernel(kind: int, data: bytes, start: int) -> bool:
    """Tell whether the kernel does this by itself: link-local addresses a second after carrier."""
    if kind in (nl.RTM_NEWADDR, nl.RTM_DELADDR):
        return bool(nl.IFADDR.unpack_from(data, start)[3] == 253)  # scope link
    if kind in (nl.RTM_NEWROUTE, nl.RTM_DELROUTE):
        return bool(nl.RTMSG.unpack_from(data, start)[5] == nl.RTPROT_KERNEL)
    return False


class Heard(NamedTuple):
    """A change: message type, name (of links only), id of the namespace (-1: here), family."""

    kind: int
    name: str
    namespace: int
    family: int

    @property
    def is_late_news(self) -> bool:
        """The kernel says this by itself when a link gets its carrier, up to seconds after.

        That is the link once more, and each IPv6 address that it already had (addrconf).
        """
        six = self.kind == nl.RTM_NEWADDR and self.family == socket.AF_INET6
        return six or self.kind == nl.RTM_NEWLINK


class Monitor:
    """Hears every change that somebody makes in a namespace that has an id here."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        self.sock.setsockopt(nl.SOL_NETLINK, nl.NETLINK_LISTEN_ALL_NSID, 1)
        self.sock.bind((0, 0))
        for group in (1, 4, 5, 7, 9, 11):  # links, tc, addresses, routes
            self.sock.setsockopt(nl.SOL_NETLINK, 1, group)

    def heard(self) -> list[Heard]:
        """Return all that was heard since the last call."""
        found: list[Heard] = []
        while True:
            try:
                data, control, _flags, _from = self.sock.recvmsg(65536, 64)
            except BlockingIOError:
                return found
            number = int.from_bytes(control[0][2][:4], sys.byteorder) if control else -1
            for kind, _f, _s, start, end in nl.messages(data):
                if _of_the_kernel(kind, data, start):
                    continue
                name = b""
                if kind in (nl.RTM_NEWLINK, nl.RTM_DELLINK):
                    name = nl.attributes(data, start + 16, end).get(nl.IFLA_IFNAME, b"")
                found.append(Heard(kind, name.rstrip(b"\0").decode(), number, data[start]))

    def settle(self) -> None:
        """Wait until the kernel has told what it tells late: carrier, by a second (linkwatch)."""
        while self.wait(1.2):
            self.heard()

    def wait(self, seconds: float) -> bool:
        return bool(select.select([self.sock], [], [], max(0.0, seconds))[0])

    def close(self) -> None:
        self.sock.close()


def settings(row: dict[str, Any]) -> object:
    """All of an interface that can be set; not its carrier, nor what the kernel makes of it."""
    told = ("ifindex", "ifname", "address", "mtu", "master", "group", "ifalias",
            "inet6_addr_gen_mode")  # fmt: skip
    addresses = [(a["local"], a["prefixlen"]) for a in row["addr_info"] if a["scope"] == "global"]
    return [row.get(key) for key in told], "UP" in row["flags"], addresses


def events(log: str) -> list[dict[str, Any]]:
    """What a sidecar has told in whole lines: it may be at the next one."""
    return [json.loads(line) for line in log.split("\n")[:-1] if line.startswith("{")]


class Lab:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.names: list[str] = []
        self.monitor = Monitor()
        self.instance = "lab"
        self.sidecars: list[subprocess.Popen[bytes]] = []

    # ------------------------------------------------------------- containers

    def add(self, *names: str) -> None:
        for name in names:
            sh("ip", "netns", "add", name)
            self.names.append(name)
            # So that the monitor hears it; a sidecar that runs may have been quicker.
            sh("ip", "netns", "set", name, "auto", check=False)

    def remove(self, *names: str) -> None:
        for name in names:
            sh("ip", "netns", "del", name)
            self.names.remove(name)

    def restart(self, name: str) -> None:
        self.remove(name)
        self.add(name)

    # ---------------------------------------------------------------- the tool

    def config(self, text: str, name: str = "net.yaml") -> Path:
        path = self.directory / name
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(path)
        return path

    def roster(self, text: str, **facts: Any) -> Roster:
        loaded = load(Sources((str(self.config(text)),), (), {}))
        made = Roster(loaded.config, Facts(instance=self.instance, plane=SELF, **facts))
        made.replace("netns", Plain().list())
        return made

    def converge(self, text: str, *, sender: Send = send, **facts: Any) -> Pass:
        """One pass, in this process."""
        world = self.roster(text, **facts).world()
        return run(world, decide=lambda plan, _d: plan, hands=Hands(send=sender))

    def preview(self, text: str) -> Pass:
        return run(self.roster(text).world())

    def reconcile(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "reconciler.cli", "--runtime", "netns",
             "--instance", self.instance, *words],
            capture_output=True, text=True, check=False, timeout=patient(60),
        )  # fmt: skip

    @contextmanager
    def sidecar(
        self, *words: str, file: Path | None = None, through: Sequence[str] = ()
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A real sidecar on net.yaml, or `file`; stopped by SIGTERM if it still runs.

        `through` are words that put a command somewhere else.
        """
        file = file or self.directory / "net.yaml"
        out = (self.directory / "sidecar.log").open("wb")
        process = subprocess.Popen(
            [*through, sys.executable, "-m", "reconciler.cli", "--runtime", "netns",
             "--instance", self.instance, "--network-file", str(file), *words],
            stdout=out, stderr=out,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"the sidecar did not stop:\n{self.log()}") from None
            finally:
                out.close()

    def log(self) -> str:
        return (self.directory / "sidecar.log").read_text()

    def events(self) -> list[dict[str, Any]]:
        return events(self.log())

    # --------------------------------------------------------------- the kernel

    def ip(self, ns: str, *words: str, check: bool = True) -> str:
        where = ("-n", ns) if ns else ()
        return sh("ip", *where, *words, check=check)

    def show(self, ns: str, *words: str) -> list[dict[str, Any]]:
        where = ("-n", ns) if ns else ()
        text = sh("ip", *where, "-j", "-d", *words, check=False)
        rows: list[dict[str, Any]] = json.loads(text or "[]")
        return [row for row in rows if row]

    def links(self, ns: str) -> list[dict[str, Any]]:
        """Return all that ip(8) tells of each link: `addr` says less of it than `link` (6.1)."""
        rows = {row["ifname"]: row for row in self.show(ns, "link")}
        return [{**rows.get(row["ifname"], {}), **row} for row in self.show(ns, "addr")]

    def link(self, ns: str, dev: str) -> dict[str, Any] | None:
        return next((row for row in self.links(ns) if row["ifname"] == dev), None)

    def addresses(self, ns: str, dev: str) -> set[str]:
        row = self.link(ns, dev) or {}
        return {
            f"{a['local']}/{a['prefixlen']}"
            for a in row.get("addr_info", ())
            if a.get("scope") == "global"
        }

    def index(self, ns: str, dev: str) -> int:
        row = self.link(ns, dev)
        return int(row["ifindex"]) if row else 0

    def pings(self, ns: str, target: str) -> bool:
        words = ("ip", "netns", "exec", ns, "ping", "-c1", "-W1", target)
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Nothing may be written anywhere while the body runs.

        A link's own late news (its carrier, up to seconds after it was made) is told apart by what
        it says: everything that can be set is as it was.
        """
        self.monitor.settle()
        before = self._settings()
        yield
        heard = [h for h in self.monitor.heard() if not h.is_late_news]
        assert heard == [], "something was written"
        assert self._settings() == before

    def _settings(self) -> list[object]:
        return [(ns, settings(row)) for ns in ("", *self.names) for row in self.show(ns, "addr")]

    def number(self, name: str) -> int:
        """Return the id by which the monitor knows a container's namespace."""
        rows = json.loads(sh("ip", "-j", "netns", "list"))
        return next(int(row.get("id", -2)) for row in rows if row["name"] == name)

    def wait_for(self, what: Callable[[], Any], seconds: float = 10, why: str = "") -> float:
        """Wait for `what` to hold, looking again whenever the kernel says that something changed.

        Return the seconds that it took.
        """
        started = time.perf_counter()
        while not what():
            left = started + patient(seconds) - time.perf_counter()
            if left <= 0:
                tail = self.log()[-3000:] if (self.directory / "sidecar.log").exists() else ""
                raise AssertionError(f"not within {seconds} s: {why or what}\n{tail}")
            self.monitor.wait(min(left, 0.2))
            self.monitor.heard()
        return time.perf_counter() - started

    def until_log(self, words: str, seconds: float = 10) -> None:
        """Wait for the sidecar to say something, without listening to the kernel."""
        end = time.monotonic() + patient(seconds)
        while words not in self.log():
            assert time.monotonic() < end, f"no {words!r} within {seconds} s:\n{self.log()}"
            time.sleep(0.02)  # a file rings no bell that is worth its code here

    def close(self) -> None:
        self.monitor.close()
        for name in list(self.names):
            sh("ip", "netns", "del", name, check=False)


def container_key(name: str) -> NsKey:
    return NsKey("container", name, name)
