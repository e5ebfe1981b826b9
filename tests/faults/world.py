"""A live network for faults: namespaces for containers, a sidecar, and things that are not ours."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from actuators.ovs_daemons import Place
from tests.faults import foreign, kernel
from tests.faults.docker import Docker
from tests.faults.engines import PLANE, Named
from tests.faults.topology import ROUTER, SERVER, Declared
from tests.kernel.lab import Monitor
from tests.lab.containers import connections, descriptors
from tests.lab.ovs import Tools
from tests.lab.waiting import until

_NUMBER = re.compile(r":\[[0-9]+\]$")  # of a socket, a pipe or a namespace
OTHER = "elsewhere"  # a namespace that no link is declared for
CALLER = "caller"  # an interface from OTHER into the data plane, to see what passes
PASSING = ("foreign0", "foreign1", "foreign2", "taken", CALLER)  # what faults put there themselves


@dataclass(slots=True)
class World:
    """The whole of it, with what is declared now and which containers run.

    Attributes:
        engine: what containers are.
        random: where every choice comes from.
        stopped: how many seconds Relink is stopped at times; $FAULTS_STOPPED, or 1.
        seconds: how long a network may take until it is as declared again.
        afterwards: what undoes a fault that lasts until the network is as declared in spite of it.
        theirs: what is not ours in each, as it was told when it was put there: "" for all but what
            an engine or Open vSwitch has made, which is by its name.
        added: by container and interface, what tells of a thing that somebody has added to a link
            of ours whether it came to harm, and how: "" for no, as when its link has gone.
        furnished: the cookie of the data plane that has something of somebody else's.
        idle: why the last fault is none, where it did not come about.
        macs: the MAC address that each link had when it was first as declared.
        tables: what Relink's tables were when a network file was first in force, by namespace.
        beside: the interface that somebody else has made in a container, by container.
    """

    engine: Named | Docker
    random: Random
    seconds: float = 30.0
    stopped: float = field(default_factory=lambda: float(os.environ.get("FAULTS_STOPPED", "1")))
    declared: Declared = field(default_factory=Declared)
    previous: Declared = field(default_factory=Declared)
    containers: list[str] = field(default_factory=list)
    beside: dict[str, str] = field(default_factory=dict)
    theirs: dict[str, dict[str, str]] = field(default_factory=dict)
    added: dict[tuple[str, str], Callable[[], str]] = field(default_factory=dict)
    furnished: int = 0
    idle: list[str] = field(default_factory=list)
    macs: dict[str, str] = field(default_factory=dict)
    tables: dict[tuple[Declared, str], str] = field(default_factory=dict)
    monitor: Monitor = field(default_factory=Monitor)
    afterwards: list[Callable[[], object]] = field(default_factory=list)

    # ------------------------------------------------------------------ containers

    def start(self, name: str) -> None:
        """Start a container that has something of its own, as most have."""
        self.engine.start(name)
        if name != OTHER:
            self.containers.append(name)
        self._put_foreign(name)

    def stop(self, name: str) -> None:
        """Stop a container, and all that is in it."""
        self._leave(name)
        self.engine.stop(name)
        self.containers.remove(name)
        self.beside.pop(name, None)

    def restart(self, name: str, times: int = 1) -> None:
        """Stop a container and start it again."""
        self._leave(name)
        for _ in range(times):
            self.engine.restart(name)
        self.started_again(name)

    def started_again(self, name: str) -> None:
        """Put what was in a container into its new life."""
        self.engine.forget(name)
        if name == PLANE:
            self.furnish()
        else:
            self._put_foreign(name)
        if name in self.beside:
            self.know_beside(name)

    def _put_foreign(self, name: str) -> None:
        """Put things that are not ours into a namespace that is new, and know what they are."""
        place = self.engine.path(name)
        foreign.put(place)
        self.theirs[name] = {"": foreign.told(place)}

    def harmed(self, name: str) -> str:
        """Return what of others' things in a namespace is not what it was, "" if all is."""
        place = self.engine.path(name)
        for device, was in self.theirs[name].items():
            if device == foreign.SWITCH:
                now = kernel.switch(device)
            else:
                now = foreign.told_of(place, device) if device else foreign.told(place)
            if now != was:
                return f"in {name}, not ours:\n{was}\n{now}"
        return ""

    def _leave(self, name: str) -> None:
        """See once more that nothing of others' has come to harm, before it goes.

        Raises:
            AssertionError: something has.
        """
        if name in self.theirs and (harm := self.harmed(name)):
            raise AssertionError(harm)

    def know_beside(self, name: str) -> None:
        """Learn which interface its engine has given a container: the engine counts them."""
        links = self.engine.look(name).links
        device = next(each for each in sorted(links) if each.startswith("eth"))
        self.beside[name] = device
        self.theirs[name][device] = foreign.told_of(self.engine.path(name), device)

    def forget_beside(self, name: str) -> None:
        """Take in that its engine has taken an interface from a container."""
        del self.theirs[name][self.beside.pop(name)]

    def place(self, name: str = PLANE) -> str:
        """Return where the namespace of a container is, or that of the data plane."""
        return self.engine.path(name)

    def nodes(self) -> list[str]:
        """Return the replicas that run."""
        return [name for name in self.containers if name not in (SERVER, ROUTER)]

    # --------------------------------------------------------------------- the file

    @property
    def file(self) -> Path:
        """Where the network is declared."""
        return self.engine.directory / "network.yaml"

    def declare(self, declared: Declared) -> None:
        """Replace the file, as editors do."""
        self.previous, self.declared = self.declared, declared
        self.write(declared.text())

    def write(self, text: str) -> None:
        """Put any text in the file's place."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    # ------------------------------------------------------------------ the sidecar

    def launch(self) -> None:
        """Start the sidecar."""
        self.engine.launch(self.file, self.log_file)

    def relaunch(self) -> set[str]:
        """Start the sidecar again; return what its end has touched."""
        self.launch()
        self.furnish()
        return {"*"} if self.engine.plane_goes else set()

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the sidecar; return its exit code."""
        self.engine.signal(how)
        return self.engine.ended()

    @property
    def log_file(self) -> Path:
        """What every sidecar of this network has said."""
        return self.engine.directory / "relink.log"

    def log_since(self, at: int) -> str:
        """Return what of the log is beyond its first so many bytes."""
        with self.log_file.open("rb") as file:
            file.seek(at)
            return file.read().decode()

    @property
    def traced(self) -> Path:
        """What strace(1) tells of the sidecar, while it does."""
        return self.engine.directory / "strace"

    def said_of(self, key: str) -> str:
        """Return what status says of a link that is not Ready, "" of one that is."""
        links = (self.engine.status() or {"links": ()})["links"]
        states = {link["key"]: link for link in links if link["state"] != "Ready"}
        return f"{states[key]['state']}: {states[key]['message']}" if key in states else ""

    def log_tail(self) -> str:
        """Return the end of the log, for a failure."""
        return "\n".join(self.log_text().splitlines()[-40:])

    def log_text(self) -> str:
        """Return what the sidecar has said; it is in the file, or its engine has it."""
        return self.log_file.read_text() if self.log_file.exists() else self.engine.log()

    def size(self) -> dict[str, int]:
        """Return what the sidecar holds: descriptors, threads, processes, and memory in KiB.

        `process` tells one life of it from another.
        """
        pid = self.engine.pid()
        process = Path(f"/proc/{pid}")
        told = dict(
            line.split(":", 1)
            for line in (process / "status").read_text().splitlines()
            if ":" in line
        )
        return {
            "process": pid,
            "descriptors": len(list((process / "fd").iterdir())),
            "threads": int(told["Threads"]),
            "processes": sum(
                len((task / "children").read_text().split())
                for task in (process / "task").iterdir()
            ),
            "containers": len(self.containers),
            "rss": int(told["VmRSS"].split()[0]),
        }

    def descriptors(self) -> dict[str, int]:
        """Return how many descriptors of each kind the sidecar has; connections are told apart."""
        pid = self.engine.pid()
        connected = set(connections(pid))
        return dict(
            Counter(
                "connection" if each in connected else _NUMBER.sub("", each)
                for each in descriptors(pid)
            )
        )

    # ----------------------------------------------------------------- its lifetime

    def open(self, replicas: int = 3) -> None:
        """Start all of it."""
        self.start(OTHER)
        self.declare(self.declared)
        for name in (SERVER, ROUTER, *(f"node_{n}" for n in range(1, replicas + 1))):
            self.start(name)
        self.launch()
        self.furnish()

    def furnish(self) -> None:
        """Put things that are not ours into a data plane that is new, once it is there."""
        place = self.place() or "/proc/thread-self/ns/net"
        until(lambda: kernel.is_namespace(place), "there is a data plane")
        if kernel.cookie(place) != self.furnished:
            self.furnished = kernel.cookie(place)
            self._put_foreign(PLANE)
            if self.declared.mode == "ovs":
                switch = Tools(Place())
                until(lambda: all(switch.pids()), "Open vSwitch runs")
                switch.vsctl("add-br", foreign.SWITCH, "--", "set", "bridge", foreign.SWITCH,
                             "datapath_type=netdev", "external_ids:owner=somebody")  # fmt: skip
                self.theirs[PLANE][foreign.SWITCH] = kernel.switch(foreign.SWITCH)

    def close(self) -> None:
        """End all of it, by the names that it was given."""
        self.undo()
        self.engine.close()
        if self.declared.mode == "ovs":
            Tools(Place()).end()
        for name in (*self.containers, OTHER):
            with contextlib.suppress(RuntimeError):
                self.engine.stop(name)
        self.monitor.close()

    def undo(self) -> bool:
        """Undo what lasted until now; tell whether there was anything."""
        undone = bool(self.afterwards)
        while self.afterwards:
            self.afterwards.pop()()
        return undone

    def wait(self, until: float) -> None:
        """Wait until the kernel tells of a change, or for a moment."""
        self.monitor.wait(max(0.0, min(0.05, until - time.monotonic())))
        try:
            self.monitor.heard()
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # more than it could hear, which is a change as well
                raise
