"""Open vSwitch for one test: its daemons on private sockets in the test's data plane, a client."""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actuators import ovs_daemons
from actuators.ovs import Change, Committed, commit
from model.keys import SELF, Key
from model.resources import OvsBridge, OvsPort
from observers.ovs import Ovs
from observers.ovs_facts import daemon_pid
from tests.kernel.lab import Lab, sh
from tests.lab.features import guest


def bridge(name: str, datapath: str = "netdev", **more: Any) -> OvsBridge:
    return OvsBridge(key=Key(SELF, "ovs-bridge", name), datapath=datapath, **more)


def port(dev: str, on: str) -> OvsPort:
    return OvsPort(key=Key(SELF, "ovs-port", dev), bridge=on)


def load_tun() -> None:
    """Under User Mode Linux nothing else asks for it, and the userspace datapath needs it."""
    if guest() == "uml":
        sh("modprobe", "tun")


DAEMONS = ("ovsdb-server", "ovs-vswitchd")


@dataclass(frozen=True)
class Tools:
    """Daemons wherever somebody runs them, and the reference tools, as somebody else uses them."""

    place: ovs_daemons.Place

    def pid(self, daemon: str) -> int:
        """The number of a daemon that its lock tells, 0 if it does not run."""
        return daemon_pid(self.place.pidfile(daemon))

    def pids(self) -> list[int]:
        return [self.pid(daemon) for daemon in DAEMONS]

    def kill(self, daemon: str) -> None:
        """End one daemon without a word, by its number."""
        pid = self.pid(daemon)
        with Path(f"/proc/{pid}/comm").open() as comm:
            assert comm.read().strip() == daemon
        handle = os.pidfd_open(pid)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], 10)
        os.close(handle)

    def vsctl(self, *words: str) -> str:
        return sh("ovs-vsctl", f"--db=unix:{self.place.socket}", "--timeout=10", *words)

    def rows(self, table: str) -> list[dict[str, Any]]:
        told = json.loads(self.vsctl("--format=json", "list", table))
        return [dict(zip(told["headings"], row, strict=True)) for row in told["data"]]

    def names(self, table: str) -> set[str]:
        return {row["name"] for row in self.rows(table)}

    def appctl(self, *words: str) -> str:
        control = self.place.run / f"ovs-vswitchd.{self.pid('ovs-vswitchd')}.ctl"
        return sh("ovs-appctl", "-t", str(control), *words)

    def ofctl(self, command: str, bridge: str, *words: str) -> str:
        return sh("ovs-ofctl", command, f"unix:{self.place.run / bridge}.mgmt", *words)

    def configuration(self) -> int:
        """How many transactions asked ovs-vswitchd for something (next_cfg)."""
        return int(self.rows("Open_vSwitch")[0]["next_cfg"])

    def end(self) -> None:
        """End both, whoever started them, and remove their files."""
        ovs_daemons.stop(self.place, daemon_pid)
        for file in self.place.run.iterdir():
            file.unlink()


def start_theirs(place: ovs_daemons.Place) -> None:
    """Start daemons that nobody of Relink has started: their database has no mark."""
    database = place.run / "conf.db"
    sh("ovsdb-tool", "create", str(database), str(place.schema))
    common = ("--detach", "-vconsole:off", "-vsyslog:off", "-vfile:off")
    for daemon, words in (
        ("ovsdb-server", (str(database), f"--remote=punix:{place.socket}")),
        ("ovs-vswitchd", (f"unix:{place.socket}",)),
    ):
        if daemon == "ovs-vswitchd":
            sh("ovs-vsctl", f"--db=unix:{place.socket}", "--no-wait", "init")
        sh(daemon, *words, f"--pidfile={place.pidfile(daemon)}", *common)


class Switch:
    """The daemons, and a connection whose bell is an event that a test can wait for."""

    def __init__(self, lab: Lab, run: Path) -> None:
        self.place = ovs_daemons.Place(run=run)
        self.instance = lab.instance
        tools = Tools(self.place)
        self.kill, self.vsctl, self.rows = tools.kill, tools.vsctl, tools.rows
        self.appctl, self.configuration = tools.appctl, tools.configuration
        self.rang = threading.Event()
        self.start()
        self.connection = Ovs(self.rang.set, self.place.socket)

    def start(self) -> None:
        ovs_daemons.start(self.place, self.instance, daemon_pid)

    def commit(self, *changes: Change, instance: str = "") -> Committed:
        return commit(self.connection, changes, instance or self.instance)

    def all(self) -> dict[str, OvsBridge | OvsPort]:
        """What is there, by name."""
        seen = self.connection.snapshot(SELF, self.instance).resources
        return {key.dev: resource for key, resource in seen.items()}

    def until(self, what: Callable[[], bool], seconds: float = 15) -> None:
        """Wait for `what` to hold, looking again at each ring."""
        end = time.monotonic() + seconds
        while not what():
            assert self.rang.wait(end - time.monotonic()), f"not within {seconds} s: {self.all()}"
            self.rang.clear()

    def close(self) -> None:
        self.connection.close()
        ovs_daemons.stop(self.place, daemon_pid)


def plug(lab: Lab, name: str, address: str) -> str:
    """Make a container with one link; return its outer end, which is up."""
    if name not in lab.names:
        lab.add(name)
    outer = f"{name}-eth0"
    sh("ip", "link", "add", outer, "type", "veth", "peer", "eth0", "netns", name)
    lab.ip(name, "addr", "add", address, "dev", "eth0")
    lab.ip(name, "link", "set", "eth0", "up")
    lab.ip("", "link", "set", outer, "up")
    return outer
