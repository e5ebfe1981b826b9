"""Containers of a Docker engine, the sidecar one of them; a proxy is between it and the engine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound

from tests.faults import kernel
from tests.faults.daemon import Daemon
from tests.faults.engines import INSTANCE, PLANE, await_stop
from tests.faults.kernel import Seen
from tests.faults.proxy import Proxy
from tests.faults.unix_http import get
from tests.lab.images import ALPINE, RELINK

_IPV6 = {"net.ipv6.conf.default.disable_ipv6": "0"}  # of what is made in it later
ASIDE = "aside"  # a network of the engine's own


@dataclass(slots=True)
class Docker:
    """Containers are Docker's, so is the sidecar; the data plane is the sidecar's own or pinned."""

    directory: Path
    daemon: Daemon
    pinned: bool = False
    pids: dict[str, int] = field(default_factory=dict)
    proxy: Proxy = field(init=False)

    runtime = "docker"
    each = 3  # of a container: what tells of readiness, who keeps it, and of its end
    connections = 10  # that its client keeps open at most: DEFAULT_MAX_POOL_SIZE of the SDK

    def __post_init__(self) -> None:
        (self.directory / "engine").mkdir()
        self.proxy = Proxy(self.directory / "engine/docker.sock", self.daemon.place.socket)
        self.proxy.open()
        self.client.create_network(ASIDE, driver="bridge")
        if self.pinned:  # what is mounted in the sidecar's container appears here
            self._pins.mkdir()
            kernel.run("mount", "-t", "tmpfs", "tmpfs", str(self._pins))
            kernel.run("mount", "--make-shared", str(self._pins))

    @property
    def plane_goes(self) -> bool:
        """Tell whether the data plane ends with the sidecar."""
        return not self.pinned

    @property
    def _pins(self) -> Path:
        return self.directory / "netns"

    @property
    def client(self) -> Any:  # the SDK has no types
        """The engine itself, past the proxy."""
        return self.daemon.client

    def target(self, name: str) -> str:
        """Return how ip-link(8) knows the namespace of a container."""
        return str(self.process(name))

    def start(self, name: str) -> None:
        """Start a container; `node_3` is the third replica of a compose service."""
        labels = {}
        if name.startswith("node_"):
            labels = {
                "com.docker.compose.project": "faults",
                "com.docker.compose.service": "node",
                "com.docker.compose.container-number": name.removeprefix("node_"),
            }
        self.client.create_container(
            ALPINE, ["sleep", "864000"], name=name, labels=labels, stop_signal="SIGKILL",
            host_config=self.client.create_host_config(
                network_mode="none", restart_policy={"Name": "always"},
                sysctls=_IPV6,
            ),
        )  # fmt: skip
        self.client.start(name)

    def stop(self, name: str) -> None:
        """Stop a container, and forget it."""
        with contextlib.suppress(NotFound):
            self.client.remove_container(name, force=True)
        self.pids.pop(name, None)

    def restart(self, name: str) -> None:
        """Stop a container and start it again."""
        self.client.restart(name, timeout=0)
        self.pids.pop(name, None)

    def forget(self, name: str) -> None:
        """Know nothing of what a container was in an earlier life."""
        self.pids.pop(name, None)

    def path(self, name: str) -> str:
        """Return where the namespace of a container is, or that of the data plane."""
        if name == PLANE and self.pinned:
            return str(self._pins / f"relink-{INSTANCE}")
        return f"/proc/{self.process(name)}/ns/net"

    def process(self, name: str) -> int:
        """Return the process of a container, or of the sidecar, as it was when first asked for."""
        if name not in self.pids:
            container = INSTANCE if name == PLANE else name
            self.pids[name] = self.state(container)["Pid"]
        return self.pids[name]

    def look(self, name: str) -> Seen:
        """Look at the namespace of a container, or at the data plane."""
        return kernel.look(self.path(name))

    def state(self, name: str) -> dict[str, Any]:
        """Return what the engine says of a container's process."""
        state: dict[str, Any] = self.client.inspect_container(name)["State"]
        return state

    def restarted(self, names: Iterable[str]) -> bool:
        """Tell whether containers run, each by another process than was known."""
        for name in names:
            now = self.state(INSTANCE if name == PLANE else name)
            if not now["Running"] or now["Restarting"] or now["Pid"] == self.pids.get(name):
                return False
        return True

    def launch(self, file: Path, log: Path) -> None:
        """Start the sidecar's container."""
        assert log
        self.pids.pop(PLANE, None)
        with contextlib.suppress(NotFound):
            self.client.remove_container(INSTANCE, force=True)
        command = [
            "reconcile", "--instance", INSTANCE, "--network-file", f"/faults/{file.name}",
            "--runtime", "docker", "--docker-socket", "/faults/engine/docker.sock",
            "--interval", "3600", *self._plane,
        ]  # fmt: skip
        binds = [f"{self.directory}:/faults", f"{self.directory}/run:/run/relink"]
        if self.pinned:
            binds.append(f"{self._pins}:/run/netns:rshared")
        self.client.create_container(
            RELINK, command, name=INSTANCE,
            host_config=self.client.create_host_config(
                network_mode="none", pid_mode="host", restart_policy={"Name": "always"},
                cap_add=["SYS_ADMIN", "NET_ADMIN", "NET_BROADCAST"],
                security_opt=["apparmor=unconfined"],
                binds=binds, sysctls=_IPV6,
            ),
        )  # fmt: skip
        self.client.start(INSTANCE)

    @property
    def _plane(self) -> tuple[str, ...]:
        return ("--dataplane", "pinned") if self.pinned else ()

    def signal(self, number: signal.Signals) -> None:
        """Send the sidecar a signal.

        What the engine sends, whatever it is, makes it start nothing again (moby, daemon/kill.go).
        """
        if number in (signal.SIGSTOP, signal.SIGCONT):
            os.kill(pid := self.pid(), number)
            if number == signal.SIGSTOP:
                await_stop(pid)
        else:
            self.client.kill(INSTANCE, number.name)

    def ended(self) -> int:
        """Wait for the sidecar's end; return its exit code."""
        return int(self.client.wait(INSTANCE)["StatusCode"])

    def pid(self) -> int:
        """Return the sidecar's process."""
        return int(self.state(INSTANCE)["Pid"])

    def words(self, file: Path, *more: str, instance: str = INSTANCE) -> list[str]:
        """Return the words that run a Relink on a file, in the sidecar's container."""
        client = ("docker", f"--host=unix://{self.daemon.place.socket}", "exec", INSTANCE)
        own = ("--instance", instance, "--network-file", f"/faults/{file.name}")
        engine = ("--runtime", "docker", "--docker-socket", "/faults/engine/docker.sock")
        return [*client, "reconcile", *own, *engine, *self._plane, *more]

    def status(self) -> dict[str, Any] | None:
        """Return what the sidecar says of itself; None where it does not answer."""
        answer = get(self.directory / f"run/{INSTANCE}.sock", "/v1/status")
        status: dict[str, Any] | None = json.loads(answer) if answer else None
        return status

    def log(self) -> str:
        """Return what the sidecar has said."""
        with contextlib.suppress(APIError, OSError):
            return str(self.client.logs(INSTANCE).decode())
        return ""

    def close(self) -> None:
        """Take the sidecar's container away, and what is between it and the engine."""
        self.proxy.close()
        self.daemon.recover()
        self.daemon.empty()
        if self.pinned:
            kernel.run("umount", "--recursive", str(self._pins))
