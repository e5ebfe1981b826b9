"""Relink in one minute: plan, converge, repair, change, tear down; no engine and no root needed.

`make demo` runs it in namespaces of its own (`unshare`), so that nothing of the machine is touched.
Plain named network namespaces stand for containers.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from model.keys import SELF, Key, NsKey
from model.look import Look
from model.resources import Address, Link, Resource
from observers.doorbells import KernelDoorbell
from observers.namespaces import open_all
from observers.plain import Plain
from observers.snapshot import observe

NETWORK = """\
links:
- {service: node, bridge: lan, ip: [10.0.1.1/24, "fd00:1::1/64"], route: default via 10.0.1.254}
- {container: router, bridge: lan, ip: [10.0.1.254/24, "fd00:1::fe/64"]}
- {container: router, bridge: wan, dev: eth1, ip: 198.51.100.1/24}
- {container: internet, bridge: wan, ip: 198.51.100.2/24, route: 10.0.1.0/24 via 198.51.100.1}
"""
CONTAINERS = ("node_1", "node_2", "node_3", "router", "internet")
TTY = sys.stdout.isatty()


def say(text: str) -> None:
    print(f"\n\x1b[1;36m## {text}\x1b[0m" if TTY else f"\n## {text}", flush=True)


def run(*words: str, expect: int = 0) -> str:
    """Run a command, show it and what it prints, and check its exit code."""
    shown = shlex.join(words).replace(f"{sys.executable} -m reconciler.cli", "reconcile")
    print(f"\x1b[2m$ {shown}\x1b[0m" if TTY else f"$ {shown}", flush=True)
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode != expect:
        sys.exit(f"demo: {shown} ended with {done.returncode}, not {expect}")
    return done.stdout


def quiet(*words: str) -> None:
    subprocess.run(words, check=True)


class Clock:
    """Measures how long the kernel's state is not as it was, from the kernel's own events."""

    def __init__(self) -> None:
        self.containers = {NsKey("container", c.name, c.id): c for c in Plain().list()}
        self.bell = KernelDoorbell(SELF)
        with open_all([SELF], self.containers) as opened:
            self.bell.learn(opened, set(self.containers))
        self.good = self.look()

    def look(self) -> set[Resource]:
        with open_all([SELF], self.containers) as opened:
            found = observe(opened, Look(plane=SELF)).resources.values()
        return {r for r in found if isinstance(r, Address) or (isinstance(r, Link) and r.mac)}

    def without_outer_macs(self, found: set[Resource]) -> set[tuple[Key, object]]:
        """An outer end that is made anew has another random MAC; everything else is the same."""
        return {
            (r.key, (r.mtu, r.up, r.master) if isinstance(r, Link) else r.ip)
            for r in found
            if isinstance(r, Link | Address)
        }

    def measure(self, what: str, destroy: Callable[[], object]) -> None:
        destroy()
        started = time.perf_counter()
        good = self.without_outer_macs(self.good)
        while self.without_outer_macs(self.look()) != good:
            if time.perf_counter() - started > 10:
                sys.exit(f"demo: {what}: not repaired within 10 s")
            select.select([self.bell], [], [], 0.05)
            list(self.bell.heard())
        print(f"{what:<28} repaired after {(time.perf_counter() - started) * 1e3:5.1f} ms")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        Path("network.yaml").write_text(NETWORK, encoding="utf-8")
        for name in CONTAINERS:
            quiet("ip", "netns", "add", name)
        show()


def show() -> None:
    reconcile = (sys.executable, "-m", "reconciler.cli")
    here = (*reconcile, "--runtime", "netns", "--network-file", "network.yaml")
    enter = ("nsenter", "--net=/run/netns/node_1")
    forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    quiet("nsenter", "--net=/run/netns/router", "sh", "-c", forward)

    say("Five containers without any network, and a declaration")
    print(NETWORK, end="")
    say("The plan: what would change, and which line wants it")
    run(*here, "--dry-run", expect=2)

    say("The sidecar converges, and stays")
    log = Path("sidecar.log").open("w", encoding="utf-8")  # noqa: SIM115 - lives with the sidecar
    sidecar = subprocess.Popen(here, stderr=log)
    try:
        until(lambda: "All links connected" in Path("sidecar.log").read_text(encoding="utf-8"))
        run(*reconcile, "status")
        run(*enter, "ping", "-c", "2", "-i", "0.2", "198.51.100.2")
        run(*enter, "ping", "-c", "2", "-i", "0.2", "fd00:1::3")

        say("Somebody breaks it by hand; the kernel rings, Relink repairs")
        clock = Clock()
        for what, command in (
            ("interface deleted", "ip -n node_2 link del eth0"),
            ("address deleted", "ip -n node_3 addr del 10.0.1.3/24 dev eth0"),
            ("unplugged from its switch", "ip link set node_1-eth0 nomaster"),
            ("set down", "ip -n router link set eth1 down"),
            ("switch deleted", "ip link del lan"),
        ):
            clock.measure(what, lambda command=command: quiet(*command.split()))
            time.sleep(0.1)  # breakages one by one, as a person makes them
        run(*enter, "ping", "-c", "1", "198.51.100.2")

        say("The file changes; only the difference is applied, in place")
        before = run("ip", "-n", "node_2", "-o", "link", "show", "eth0").split(":")[0]
        changed = NETWORK.replace("10.0.1.1/24", "10.0.1.101/24").replace(
            "route: default", "mtu: 1400, route: default"
        )
        Path("network.yaml").write_text(changed, encoding="utf-8")
        until(lambda: "10.0.1.102/24" in output("ip", "-n", "node_2", "addr"))
        run("ip", "-n", "node_2", "-br", "addr", "show", "eth0")
        after = run("ip", "-n", "node_2", "-o", "link", "show", "eth0").split(":")[0]
        print(f"interface index {before} before, {after} after: the same interface")

        say("A stop takes everything away")
        sidecar.send_signal(signal.SIGTERM)
        if sidecar.wait(10):
            sys.exit("demo: the sidecar did not stop in order")
    finally:
        if sidecar.poll() is None:
            sidecar.kill()
        sidecar.wait()
        log.close()
    left = [output("ip", "-n", name, "-br", "link") for name in CONTAINERS]
    left.append(output("ip", "-br", "link"))
    interfaces = [line.split()[0] for part in left for line in part.splitlines()]
    print(f"interfaces left, beside loopback: {[i for i in interfaces if i != 'lo'] or 'none'}")
    if set(interfaces) != {"lo"}:
        sys.exit("demo: something is left")


def output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def until(what: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            sys.exit("demo: it did not happen within 10 s")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
