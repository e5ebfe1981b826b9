"""Containers that die while they are wired, namespaces that vanish, pids that are reused."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from actuators.requests import Request
from actuators.transport import Answer, send
from model.keys import NsKey
from model.replicas import Container
from reconciler.passes import run
from reconciler.status import judge
from tests.kernel.lab import Lab

NET = """
links:
- {service: node, bridge: s1, ip: 10.0.0.1/16, route: default via 10.0.255.1}
"""


@pytest.mark.parametrize("after", range(12))
def test_a_container_that_dies_between_two_messages(lab: Lab, after: int) -> None:
    lab.add("node_1", "node_2")
    sent = 0

    def dying_world(
        requests: Sequence[Request], sockets: Mapping[NsKey, socket.socket]
    ) -> list[Answer]:
        nonlocal sent
        answers: list[Answer] = []
        for request in requests:
            if sent == after:
                lab.remove("node_1")
                for ns in [ns for ns in sockets if ns.name == "node_1"]:
                    sockets[ns].close()  # an open socket would keep the namespace alive
                    del sockets[ns]  # type: ignore[attr-defined] # the pass's own dict
            sent += 1
            answers += send([request], sockets)
        return answers

    done = lab.converge(NET, sender=dying_world)
    assert done.outcome is not None
    assert all(f.key.ns.name != "node_2" for f in done.outcome.failures)
    assert lab.addresses("node_2", "eth0") == {"10.0.0.2/16"}
    lab.wait_for(lambda: lab.link("", "node_1-eth0") is None)
    assert lab.converge(NET).plan.steps == ()


def test_a_namespace_that_is_gone_before_the_look_is_blocked_not_an_error(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    roster = lab.roster(NET)
    lab.remove("node_1")
    done = run(roster.world(), decide=lambda plan, _d: plan)
    states = {str(k): (s.state, s.message) for k, s in judge(done).items()}
    assert states["node_1:eth0"] == ("Blocked", "its namespace is gone")
    assert states["node_2:eth0"][0] == "Ready"


def test_without_descriptors_no_container_seems_to_be_gone(lab: Lab) -> None:
    """However many are left: a look fails as a whole, or sees everything."""
    names = [f"node_{n}" for n in range(1, 6)]
    lab.add(*names)
    net = "links: [{service: node, bridge: s1, ip: 10.0.0.1/16}]"
    lab.converge(net)
    world = lab.roster(net).world()
    scope = frozenset(world.containers)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = max(int(file.name) for file in Path("/proc/self/fd").iterdir())
    seen = []
    for limit in range(last + 10):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            seen.append(sorted(run(world, scope).snapshot.absent.values()))
        except OSError:
            continue
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert seen, "20 more are enough for this"
    assert not any(seen)


def test_a_reused_pid_is_never_entered(lab: Lab) -> None:
    lab.add("node_1")
    stranger = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    try:
        lab.wait_for(lambda: _inode(stranger.pid) != _inode(os.getpid()))
        roster = lab.roster(NET)
        dead = Container(
            id="4f" * 32, name="dead", runtime="docker", netns=f"/proc/{stranger.pid}/ns/net",
            pid=stranger.pid, service="node", number=7,
        )  # fmt: skip
        roster.put(dead)
        done = run(roster.world(), decide=lambda plan, _d: plan)
        state = next(s for k, s in judge(done).items() if k.ns.name == "node_7")
        if _grouped(stranger.pid):
            assert (state.state, state.message) == ("Blocked", "its process is gone")
        assert lab.link("", "node_7-eth0") is None or not _grouped(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_container_without_a_control_group_is_known_by_its_files(
    lab: Lab, tmp_path: Path
) -> None:
    """As rootless podman makes them where it may not make groups."""
    lab.add("node_1")
    id_ = "4f" * 32
    hostname = tmp_path / "overlay-containers" / id_ / "userdata" / "hostname"
    hostname.parent.mkdir(parents=True)
    hostname.write_text("node\n")
    script = f"mount --bind {hostname} /etc/hostname && ip link set lo up && exec sleep 60"
    process = subprocess.Popen(["unshare", "--net", "--mount", "sh", "-c", script])
    try:
        mounts = Path(f"/proc/{process.pid}/mountinfo")
        lab.wait_for(lambda: f"{id_}/userdata/hostname" in mounts.read_text()
                     and Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")  # fmt: skip
        roster = lab.roster(NET)
        roster.put(
            Container(
                id=id_,
                name="grouped",
                runtime="podman",
                netns=f"/proc/{process.pid}/ns/net",
                pid=process.pid,
                service="node",
                number=7,
            )
        )
        run(roster.world())
        done = run(roster.world(), decide=lambda plan, _d: plan)
        state = next(s for k, s in judge(done).items() if k.ns.name == "node_7")
        assert (state.state, state.message) == ("Ready", "")
    finally:
        process.kill()
        process.wait()


def _inode(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def _grouped(pid: int) -> bool:
    """Tell whether this machine's control groups can tell whose process it is."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return any(line.rpartition(":")[2] not in ("", "/") for line in lines)


@pytest.mark.parametrize("path", ["/proc/self/ns/net", "/proc/1/ns/net"])
def test_a_container_on_the_hosts_or_our_own_network_is_left_alone(lab: Lab, path: str) -> None:
    lab.add("node_1")
    roster = lab.roster(NET)
    ours = next(iter(roster.containers.values()))
    roster.put(replace(ours, id="node_2", name="node_2", number=2, netns=path))
    before = lab.ip("", "link")
    done = run(roster.world())
    state = next(s for k, s in judge(done).items() if k.ns.name == "node_2")
    assert state.state == "Blocked"
    # A machine's first process may have capabilities that we lack; then it cannot be entered.
    assert state.message.endswith("nothing is changed there") or "SYS_PTRACE" in state.message
    assert lab.ip("", "link") == before


def test_a_container_that_shares_anothers_namespace_is_blocked(lab: Lab) -> None:
    lab.add("node_1")
    roster = lab.roster(NET)
    ours = next(iter(roster.containers.values()))
    roster.put(replace(ours, id="node_2", name="node_2", number=2))
    done = run(roster.world(), decide=lambda plan, _d: plan)
    states = {str(k): (s.state, s.message) for k, s in judge(done).items()}
    assert states["node_1:eth0"][0] == "Ready"
    assert states["node_2:eth0"] == (
        "Blocked", "it uses the network of node_1; nothing is changed there",
    )  # fmt: skip


def test_outer_ends_and_bridges_send_nothing(lab: Lab) -> None:
    """From the first moment: a capture on every interface of the plane while links are made."""
    lab.add("node_1", "node_2")
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
    sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    with sniffer:
        lab.converge(NET)
        ours = {
            bytes.fromhex(row["address"].replace(":", ""))
            for row in lab.show("", "link")
            if row["ifname"] != "lo"
        }
        lab.monitor.settle()
        sniffer.settimeout(0)
        frames = []
        while True:
            try:
                frames.append(sniffer.recv(2048))
            except BlockingIOError:
                break
    assert frames, "the containers' own router solicitations show that the capture works"
    assert [f for f in frames if f[6:12] in ours] == []


def test_somebody_who_has_the_last_interface_index_is_no_matter(lab: Lab) -> None:
    lab.add("node_1")
    lab.ip("node_1", "link", "add", "name", "huge", "index", str(2**31 - 1), "type", "bridge")
    done = lab.converge(NET)
    assert done.outcome is not None
    assert done.outcome.failures == ()
    assert lab.addresses("node_1", "eth0") == {"10.0.0.1/16"}
    assert lab.converge(NET).plan.steps == ()


def test_a_name_that_is_not_text_is_a_name(lab: Lab) -> None:
    lab.add("node_1")
    lab.converge(NET)
    lab.ip("node_1", "link", "set", "eth0", "down")
    lab.ip("node_1", "link", "set", "eth0", "name", os.fsdecode(b"\xff"))
    file = str(lab.directory / "net.yaml")
    seen = lab.reconcile("--network-file", file, "--dry-run", "--output", "json")
    assert (seen.returncode, seen.stderr) == (2, "")
    assert lab.reconcile("--network-file", file, "--once").returncode == 0
    assert lab.addresses("node_1", "eth0") == {"10.0.0.1/16"}


@pytest.mark.parametrize("way", ["--once", "--dry-run", "status"])
def test_without_any_right_it_says_which_it_needs(lab: Lab, way: str) -> None:
    """As where compose's `user` has taken them away, whatever `cap_add` gives."""
    lab.add("node_1")
    lab.config(NET)
    command = [sys.executable, "-m", "reconciler.cli", "--runtime=netns", way]
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", *command, f"--network-file={lab.directory}/net.yaml"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("reconcile: not allowed to work with network namespaces")
    assert "Traceback" not in done.stderr
