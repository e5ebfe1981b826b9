"""One running container, looked at from the host: its process, its interfaces, its health."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.engine import docker, environment
from tests.lab.waiting import patient


@dataclass(frozen=True, slots=True)
class Interface:
    """What tells one interface from its successor, and what it has."""

    index: int
    mac: str
    mtu: int
    state: str
    addresses: tuple[str, ...]
    master: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """A container by its id (or name)."""

    id: str

    def inspect(self) -> dict[str, Any]:
        """Return all that the engine knows of it."""
        found: dict[str, Any] = json.loads(docker("container", "inspect", self.id))[0]
        return found

    def pid(self) -> int:
        """Return its first process, 0 when it does not run."""
        return int(docker("container", "inspect", "--format", "{{.State.Pid}}", self.id))

    def restart(self) -> None:
        """Kill it and start it again."""
        docker("restart", "--time=0", self.id)

    def stop(self, seconds: int = 10) -> int:
        """Stop it in order, with so much time for SIGTERM, and return its exit code."""
        docker("stop", f"--time={seconds}", self.id)
        return int(self.inspect()["State"]["ExitCode"])

    def health(self) -> str:
        """Return `starting`, `healthy` or `unhealthy`."""
        return docker("container", "inspect", "--format", "{{.State.Health.Status}}", self.id)

    def exec(self, *words: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command in it and return how it ended."""
        return subprocess.run(
            ["docker", "exec", self.id, *words],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=patient(timeout),
            check=False,
        )

    def interfaces(self) -> dict[str, Interface]:
        """Return its interfaces without the loopback; none when it does not run."""
        pid = self.pid()
        return interfaces(pid) if pid else {}

    def in_network(self, *words: str) -> str:
        """Run a command of the host in its network namespace and return what it printed."""
        return in_network(self.pid(), *words)

    def log(self) -> str:
        """Return what it has printed."""
        return log_of(self.id)


def interfaces(pid: int) -> dict[str, Interface]:
    """Return the interfaces, without the loopback, of the network that a process is in."""
    try:
        found = json.loads(in_network(pid, "ip", "-json", "address", "show"))
    except subprocess.CalledProcessError:  # the process ended
        return {}
    return {entry["ifname"]: _interface(entry) for entry in found if entry["ifname"] != "lo"}


def in_network(pid: int, *words: str) -> str:
    """Run a command of the host in the network namespace of a process; return what it printed.

    Raises:
        subprocess.CalledProcessError: it failed, or the process has ended.
    """
    command = ["nsenter", f"--target={pid}", "--net", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def descriptors(pid: int) -> list[str]:
    """Return what each open descriptor of a process is (proc(5), /proc/pid/fd)."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:  # closed while we looked
            continue
    return sorted(found)


def connections(pid: int) -> list[str]:
    """Return those of `descriptors` that are an end of a connected Unix socket without a name.

    Those of the process's own network namespace: /proc/net/unix of proc(5), where the state 03 is
    SS_CONNECTED of linux/net.h.
    """
    rows = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
    connected = {f"socket:[{row[6]}]" for row in rows if row[5] == "03" and len(row) == 7}
    return [each for each in descriptors(pid) if each in connected]


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes (proc(5), VmRSS)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def log_of(id_: str) -> str:
    """Return what a container has printed, standard output and standard error together."""
    done = subprocess.run(
        ["docker", "logs", id_],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def _interface(entry: Mapping[str, Any]) -> Interface:
    addresses = (
        f"{address['local']}/{address['prefixlen']}"
        for address in entry["addr_info"]
        if address["scope"] == "global"
    )
    return Interface(
        index=entry["ifindex"],
        mac=entry["address"],
        mtu=entry["mtu"],
        state=entry["operstate"],
        addresses=tuple(sorted(addresses)),
        master=entry.get("master", ""),
    )
