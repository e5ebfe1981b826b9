"""The sidecar's life: containers come and go, files change, it dies and comes back."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.injection import injected
from tests.kernel.lab import Lab

NET = """
links:
- {service: node, bridge: s1, ip: 10.0.0.1/16}
- {container: server, bridge: s1, ip: 10.0.255.1/16}
"""


def test_containers_that_start_later_are_wired_at_once(lab: Lab) -> None:
    lab.config(NET)
    with lab.sidecar("--interval", "3600") as sidecar:
        lab.wait_for(lambda: "containers_listed" in lab.log())
        for i in range(1, 6):
            lab.add(f"node_{i}")
        lab.add("server")
        lab.wait_for(lambda: lab.link("", "server-eth0") and lab.pings("node_5", "10.0.255.1"))
        assert [lab.addresses(f"node_{i}", "eth0") for i in range(1, 6)] == [
            {f"10.0.0.{i}/16"} for i in range(1, 6)
        ]
        sidecar.send_signal(signal.SIGTERM)
        assert sidecar.wait(10) == 0
    assert lab.show("", "link", "show", "type", "bridge") == []
    assert all(lab.link(f"node_{i}", "eth0") is None for i in range(1, 6))


def test_who_is_told_to_stop_again_and_again_still_stops_in_order(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.config(NET)
    with lab.sidecar("--interval", "3600") as sidecar:
        lab.until_log("All links connected")
        sidecar.send_signal(signal.SIGTERM)
        for words, again in (('"stopping"', signal.SIGINT), ('"stopped"', signal.SIGTERM)):
            lab.until_log(words)
            sidecar.send_signal(again)
        end = time.monotonic() + 10
        while sidecar.poll() is None and time.monotonic() < end:  # at each moment of its end
            sidecar.send_signal(signal.SIGTERM)
        assert sidecar.poll() == 0
    assert lab.link("node_1", "eth0") is None


def test_a_container_restarted_again_and_again_has_its_link_each_time(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.config(NET)
    with lab.sidecar("--interval", "3600") as sidecar:
        lab.wait_for(lambda: "All links connected" in lab.log())
        server = lab.index("server", "eth0")
        descriptors = _descriptors(sidecar.pid)
        for _ in range(20):
            lab.restart("node_1")
            lab.wait_for(lambda: lab.addresses("node_1", "eth0") == {"10.0.0.1/16"})
        lab.wait_for(lambda: lab.pings("node_1", "10.0.255.1"))
        assert lab.index("server", "eth0") == server
        lab.wait_for(lambda: _descriptors(sidecar.pid) <= descriptors)


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_status_tells_the_truth(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    lab.ip("node_2", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")  # not ours
    lab.config(NET)
    with lab.sidecar("--interval", "3600"):
        lab.wait_for(lambda: "node_1:eth0" in lab.log())
        answer = lab.reconcile("status", "--output", "json")
        links = {link["key"]: link for link in json.loads(answer.stdout)["links"]}
        assert links["node_1:eth0"]["state"] == "Ready"
        assert links["node_2:eth0"]["state"] == "Conflict"
        assert answer.returncode == 2
        assert lab.reconcile("status", "--check").returncode == 1
        assert "All links connected" not in lab.log()
        lab.ip("node_2", "link", "del", "eth0")
        lab.wait_for(lambda: "All links connected" in lab.log())
        assert lab.reconcile("status", "--check").returncode == 0
        text = lab.reconcile("status").stdout
        assert [line.split()[:2] for line in text.splitlines()[:3]] == [
            ["LINK", "STATE"],
            ["node_1:eth0", "Ready"],
            ["node_2:eth0", "Ready"],
        ]
    assert lab.reconcile("status", "--check").returncode == 1, "no sidecar is not healthy"


def test_a_broken_file_keeps_the_old_configuration_in_force(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.config(NET)
    with lab.sidecar("--interval", "3600"):
        lab.wait_for(lambda: "All links connected" in lab.log())
        lab.config(NET.replace("10.0.0.1/16", "10.0.0.999/16"))
        lab.wait_for(lambda: "configuration_refused" in lab.log())
        lab.ip("node_1", "link", "del", "eth0")
        lab.wait_for(lambda: lab.addresses("node_1", "eth0") == {"10.0.0.1/16"})
        answer = json.loads(lab.reconcile("status", "--output", "json").stdout)
        assert "net.yaml:3:35" in answer["configuration_errors"][0]
        lab.config(NET.replace("10.0.0.1/16", "10.0.0.9/16"))
        lab.wait_for(lambda: lab.addresses("node_1", "eth0") == {"10.0.0.9/16"})
        answer = json.loads(lab.reconcile("status", "--output", "json").stdout)
        assert answer["configuration_errors"] == []


def test_the_sidecar_restarts_without_touching_anything(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.config(NET)
    with lab.sidecar("--on-exit", "keep"):
        lab.wait_for(lambda: "All links connected" in lab.log())
    with lab.untouched(), lab.sidecar() as second:
        lab.until_log("All links connected")
        second.kill()
        second.wait()
    with lab.untouched(), lab.sidecar("--on-exit", "keep"):
        lab.until_log("All links connected")


def test_a_log_that_has_no_room_ends_nothing(lab: Lab) -> None:
    lab.add("node_1", "server")
    file = lab.config(NET)
    words = ("--runtime", "netns", "--instance", lab.instance, "--interval", "3600")
    with Path("/dev/full").open("w") as full:
        sidecar = subprocess.Popen(
            [sys.executable, "-m", "reconciler.cli", *words, "--network-file", str(file)],
            stderr=full,
        )
    try:
        lab.wait_for(lambda: lab.addresses("node_1", "eth0"))
        lab.ip("node_1", "link", "delete", "eth0")
        lab.wait_for(lambda: lab.addresses("node_1", "eth0"))
        lab.wait_for(lambda: lab.reconcile("status").returncode == 0)
        sidecar.send_signal(signal.SIGTERM)
        assert sidecar.wait(10) == 0
    finally:
        sidecar.kill()
        sidecar.wait()
    assert lab.link("node_1", "eth0") is None


@pytest.mark.parametrize("where", ["pipe", "terminal"])
def test_a_log_that_nobody_reads_holds_nothing_up(lab: Lab, where: str) -> None:
    """An engine that hangs leaves the pipe full into which Relink writes its log."""
    lab.add("node_1", "server")
    file = lab.config(NET)
    words = ("--runtime", "netns", "--instance", lab.instance, "--interval", "3600")
    read, write = os.pipe() if where == "pipe" else pty.openpty()
    if where == "pipe":
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
        os.write(write, b"\n" * 4096)
    else:
        _fill(write)
    sidecar = subprocess.Popen(
        [sys.executable, "-m", "reconciler.cli", *words, "--network-file", str(file)],
        stderr=write,
        env={**os.environ, "NO_COLOR": "1"},
    )
    os.close(write)

    def repaired() -> bool:
        lab.ip("node_1", "link", "delete", "eth0")
        lab.wait_for(lambda: lab.addresses("node_1", "eth0"))
        return lab.reconcile("status").returncode == 0

    try:
        lab.wait_for(lambda: lab.addresses("node_1", "eth0"))
        lab.wait_for(lambda: lab.reconcile("status").returncode == 0)
        lab.wait_for(repaired)
        told = _read_up(read)  # somebody reads on
        lab.wait_for(repaired)
        told += _read_up(read)
        lost = re.findall(rb"lines_lost\W+(\d+)", told)
        assert len(lost) == 1, told
        assert int(lost[0]) >= 2
        sidecar.send_signal(signal.SIGTERM)
        assert sidecar.wait(10) == 0
    finally:
        sidecar.kill()
        sidecar.wait()
        os.close(read)
    assert lab.link("node_1", "eth0") is None


def _fill(descriptor: int) -> None:
    """Write until there is no room, also where a terminal passes on what it has been given."""
    os.set_blocking(descriptor, False)
    while select.select([], [descriptor], [], 0.2)[1]:
        with contextlib.suppress(BlockingIOError):
            os.write(descriptor, b".")
    os.set_blocking(descriptor, True)


def _read_up(descriptor: int) -> bytes:
    told = b""
    while select.select([descriptor], [], [], 0.1)[0]:
        told += os.read(descriptor, 65536)
    return told


def test_a_namespace_whose_answer_is_lost_is_looked_at_again(lab: Lab) -> None:
    """Nothing rings there any more, and the next tick is an hour away."""
    lab.add("node_1", "server")
    lab.config(NET)
    with lab.sidecar("--interval", "3600") as sidecar:
        lab.until_log("All links connected")
        before = (lab.link("node_1", "eth0") or {})["ifalias"]
        lab.monitor.settle()  # so that the alias is all that rings
        # The first two answers are of the data plane, about the outer end and its bridge.
        lost = injected(sidecar.pid, "recvfrom", "error=ENOBUFS:when=3", lab.directory / "strace")
        with lost:
            lab.ip("node_1", "link", "set", "eth0", "alias", "somebody")
            lab.until_log("could not be read: No buffer space available")
        lab.wait_for(lambda: (lab.link("node_1", "eth0") or {})["ifalias"] == before)
        lab.wait_for(lambda: lab.reconcile("status").returncode == 0)


def test_a_second_sidecar_of_one_instance_is_refused(lab: Lab) -> None:
    lab.add("node_1")
    lab.config(NET)
    with lab.sidecar():
        lab.wait_for(lambda: "All links connected" in lab.log())
        second = lab.reconcile("--network-file", str(lab.directory / "net.yaml"))
        assert second.returncode == 1
        assert "another Relink runs for instance 'lab'" in second.stderr


def test_two_instances_never_touch_each_other(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.converge(NET)
    lab.instance = "other"
    lab.converge("links: [{container: server, bridge: s9, dev: eth9, ip: 10.9.0.1/24}]")
    lab.monitor.heard()
    lab.instance = "lab"
    assert lab.converge(NET).plan.steps == ()
    lab.reconcile("--network-file", str(lab.directory / "net.yaml"), "--destroy")
    assert lab.addresses("server", "eth9") == {"10.9.0.1/24"}
    assert lab.link("", "s9")
    assert lab.link("", "s1") is None


def test_an_absent_engine_is_a_state_and_nothing_is_deleted_meanwhile(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.converge(NET)
    lab.config("links: [{service: node, bridge: s1, ip: 10.0.0.1/16}]")
    absent = str(lab.directory / "docker.sock")
    with lab.sidecar("--runtime", "docker", "--docker-socket", absent) as sidecar:
        lab.wait_for(lambda: "engine_lost" in lab.log() and "containers_listed" in lab.log())
        lab.add("node_2")
        lab.wait_for(lambda: lab.addresses("node_2", "eth0") == {"10.0.0.2/16"})
        assert lab.link("server", "eth0"), "nobody has heard every engine: nothing is deleted"
        answer = json.loads(lab.reconcile("status", "--output", "json").stdout)
        assert answer["engines"]["netns"] == "connected"
        assert absent in answer["engines"]["docker"]
        assert sidecar.poll() is None


def test_the_data_plane_in_the_hosts_namespace(lab: Lab) -> None:
    """Process 1 of a process namespace of our own stands for the host's."""
    lab.add("node_1", "server", "host")
    lab.config(NET)
    relink = (
        f"nsenter --net=/dev/fd/9 {sys.executable} -m reconciler.cli --runtime netns "
        f"--instance lab --dataplane host --network-file {lab.directory}/net.yaml"
    )
    # The process that becomes 1 lives in "host"; Relink, its child, in the namespace of this test.
    script = f"{relink} --once && {relink} --dry-run"
    enter = (
        "exec 9</proc/self/ns/net; exec nsenter --net=/run/netns/host "
        'unshare --pid --fork --mount-proc --propagation unchanged sh -c "$0"'
    )
    done = subprocess.run(
        ["sh", "-c", enter, script],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing to do" in done.stdout
    assert lab.link("host", "node_1-eth0")
    assert lab.link("", "node_1-eth0") is None
    assert lab.pings("node_1", "10.0.255.1")


def test_what_can_never_be_made_costs_nothing_while_it_waits(lab: Lab) -> None:
    """Also when its container is gone: nothing of it is tried again and again."""
    lab.add("node_1", "node_2")
    lab.ip("node_2", "link", "add", "mine0", "type", "bridge")
    route = "route: 203.0.113.0/24 via 10.0.9.9 src 10.0.0.1"
    lab.config(NET.replace("10.0.0.1/16}", f"10.0.0.1/16, {route}}}"))
    with lab.sidecar("--interval", "3600") as sidecar:
        lab.until_log("step_failed")  # replica 2 has no address 10.0.0.1 to prefer
        lab.until_log("node_1")
        lab.monitor.settle()
        waiting = _share(sidecar.pid, lab)
        lab.remove("node_2")
        lab.monitor.settle()
        gone = _share(sidecar.pid, lab)
        # One that spins takes all of it.
        assert waiting < 0.25
        assert gone < 0.25
        assert lab.reconcile("status").returncode == 0


def _share(pid: int, lab: Lab) -> float:
    """The share of two seconds that a process computes (proc(5): utime and stime)."""

    def computed() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    began, before = time.monotonic(), computed()
    while (left := began + 2 - time.monotonic()) > 0:
        lab.monitor.wait(left)
        lab.monitor.heard()
    return (computed() - before) / (time.monotonic() - began)


def test_a_pinned_plane_that_somebody_removes_is_made_again(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.config(NET)
    with lab.sidecar("--dataplane", "pinned", "--interval", "1"):
        lab.until_log("All links connected")
        lab.ip("", "netns", "del", "relink-lab")
        lab.wait_for(lambda: lab.link("relink-lab", "node_1-eth0"), 15)
        lab.wait_for(lambda: lab.pings("node_1", "10.0.255.1"))
        # Its doorbell is that of the new plane: an hour of ticks would not repair this in time.
        lab.ip("relink-lab", "link", "set", "node_1-eth0", "nomaster")
        lab.wait_for(lambda: (lab.link("relink-lab", "node_1-eth0") or {}).get("master") == "s1")


def test_a_bridge_that_becomes_free_frees_every_link_that_waited(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.ip("", "link", "add", "s1", "type", "bridge")
    lab.config(NET)
    with lab.sidecar("--interval", "3600"):
        lab.until_log("not_ready")
        lab.ip("", "link", "del", "s1")
        lab.until_log("All links connected")


def test_connected_is_said_again_after_more_is_declared(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.config("links: [{service: node, bridge: s1, ip: 10.0.0.1/16}]")
    with lab.sidecar("--interval", "3600"):
        lab.until_log("All links connected")
        lab.config(NET)
        lab.wait_for(lambda: lab.log().count("All links connected") == 2)
        assert lab.addresses("server", "eth0") == {"10.0.255.1/16"}


def test_a_file_behind_a_link_that_is_swapped(lab: Lab) -> None:
    """As Kubernetes mounts configuration: net.yaml -> ..data/net.yaml, ..data -> one of several."""
    lab.add("node_1")
    for number in (1, 2, 3):
        version = lab.directory / f"v{number}"
        version.mkdir()
        text = f"links: [{{service: node, bridge: s1, ip: 10.0.0.{number}/16}}]"
        (version / "net.yaml").write_text(text)
    (lab.directory / "..data").symlink_to("v1")
    (lab.directory / "net.yaml").symlink_to("..data/net.yaml")
    with lab.sidecar("--interval", "3600"):
        lab.until_log("All links connected")
        for number in (2, 3):
            (lab.directory / "new").symlink_to(f"v{number}")
            (lab.directory / "new").rename(lab.directory / "..data")
            lab.wait_for(lambda n=number: lab.addresses("node_1", "eth0") == {f"10.0.0.{n}/16"})


def test_what_stood_in_the_way_of_a_route_goes_and_it_is_tried_at_once(lab: Lab) -> None:
    lab.add("node_1")
    route = "route: 10.5.0.0/16 via 10.77.0.1"
    lab.config(NET.replace("10.0.0.1/16}", f"10.0.0.1/16, {route}}}"))
    with lab.sidecar("--interval", "3600"):
        for _ in range(6):  # by now the next try is seconds away
            lab.monitor.wait(0.5)
            lab.monitor.heard()
        lab.ip("node_1", "addr", "add", "10.77.0.2/24", "dev", "eth0")
        lab.until_log("All links connected", 3)


def test_a_directory_of_configuration_that_is_replaced(lab: Lab) -> None:
    lab.add("node_1")
    there, new = lab.directory / "there", lab.directory / "new"
    there.mkdir()
    (there / "net.yaml").write_text(NET)
    (lab.directory / "net.yaml").symlink_to("there/net.yaml")
    with lab.sidecar("--interval", "3600", "--network-file", str(there / "net.yaml")):
        lab.until_log("node_1:eth0")
        new.mkdir()
        (new / "net.yaml").write_text(NET.replace("10.0.0.1/16", "10.0.0.9/16"))
        there.rename(lab.directory / "old")
        new.rename(there)
        lab.wait_for(lambda: lab.addresses("node_1", "eth0") == {"10.0.0.9/16"})
        (there / "net.yaml").write_text(NET.replace("10.0.0.1/16", "10.0.0.8/16"))
        lab.wait_for(lambda: lab.addresses("node_1", "eth0") == {"10.0.0.8/16"})
