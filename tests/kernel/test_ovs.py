"""Open vSwitch: real daemons in a data plane of their own, judged by pings and by its own tools.

The userspace datapath needs nothing of the kernel; the kernel's is proved where there is one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ovs.db.idl import Idl

from actuators import ovs_daemons
from actuators.ovs import commit
from actuators.requests import Verdict
from model.keys import SELF
from model.ovs import INSTANCE
from observers.ovs import Ovs
from observers.ovs_facts import daemon_pid, datapath, missing_program
from tests.kernel.lab import Lab, settings, sh
from tests.lab.ovs import Switch, bridge, load_tun, plug, port


@pytest.fixture
def switch(lab: Lab, tmp_path: Path) -> Iterator[Switch]:
    load_tun()
    made = Switch(lab, tmp_path / "ovs")
    yield made
    made.close()


def pair(lab: Lab, switch: Switch, kind: str = "netdev") -> None:
    """Two containers on one bridge."""
    ports = [plug(lab, "a", "10.0.0.1/24"), plug(lab, "b", "10.0.0.2/24")]
    done = switch.commit(
        ("create", bridge("br0", kind)), *(("create", port(p, "br0")) for p in ports)
    )
    assert [r for r in done.results if r.verdict is not Verdict.DONE] == []
    assert done.transactions == 1


@pytest.mark.proves("bridge ovs userspace datapath")
def test_two_containers_reach_each_other(lab: Lab, switch: Switch) -> None:
    pair(lab, switch)
    assert lab.pings("a", "10.0.0.2")
    assert switch.all() == {
        "br0": bridge("br0"),
        "a-eth0": port("a-eth0", "br0"),
        "b-eth0": port("b-eth0", "br0"),
    }
    assert all(each.owned for each in switch.all().values())
    row = switch.rows("Bridge")[0]
    assert row["fail_mode"] == "standalone"
    assert row["mcast_snooping_enable"] is False
    assert row["external_ids"] == ["map", [[INSTANCE, "lab"]]]
    # vswitchd makes the outer ends promiscuous itself; they only have to be up.
    assert "PROMISC" in (lab.link("", "a-eth0") or {})["flags"]


@pytest.mark.proves("bridge ovs kernel datapath")
@pytest.mark.needs("openvswitch")
def test_the_kernel_forwards(lab: Lab, switch: Switch) -> None:
    assert datapath() == "system"
    pair(lab, switch, "system")
    assert lab.pings("a", "10.0.0.2")
    shown = switch.appctl("dpctl/show")
    assert "system@ovs-system" in shown
    assert "a-eth0" in shown
    assert "b-eth0" in shown
    # The kernel goes on without ovs-vswitchd, and it finds its ports again.
    switch.kill("ovs-vswitchd")
    switch.start()
    assert switch.commit(("create", bridge("br0", "system"))).transactions == 0
    lab.wait_for(lambda: lab.pings("a", "10.0.0.2"))
    switch.commit(("delete", bridge("br0", "system")))


@pytest.mark.needs("openvswitch")
def test_a_bridge_moves_between_the_datapaths(lab: Lab, switch: Switch) -> None:
    pair(lab, switch, "netdev")
    done = switch.commit(("modify", bridge("br0", "system")))
    assert [r.words for r in done.results] == [""]
    assert lab.pings("a", "10.0.0.2")
    assert "a-eth0" in switch.appctl("dpctl/show", "system@ovs-system")
    switch.commit(("delete", bridge("br0", "system")))


@pytest.mark.needs("openvswitch")
def test_a_veth_that_comes_back_has_the_kernels_datapath_again(lab: Lab, switch: Switch) -> None:
    pair(lab, switch, "system")
    lab.remove("b")
    lab.wait_for(lambda: lab.link("", "b-eth0") is None)
    plug(lab, "b", "10.0.0.2/24")
    again = port("b-eth0", "br0")
    assert switch.commit(("delete", again), ("create", again)).transactions == 2
    lab.wait_for(lambda: lab.pings("a", "10.0.0.2"))
    switch.commit(("delete", bridge("br0", "system")))


@pytest.mark.lacks("openvswitch")
def test_what_the_kernel_lacks_is_told(switch: Switch) -> None:
    """Where it has a datapath, test_the_kernel_forwards shows the other answer."""
    done = switch.commit(("create", bridge("br0", "system")))
    assert [r.verdict for r in done.results] == [Verdict.UNSUPPORTED]
    assert "datapath `system`" in done.results[0].words


def test_200_ports_take_one_transaction(switch: Switch) -> None:
    for number in range(200):
        sh("ip", "link", "add", f"v{number}", "type", "veth", "peer", f"p{number}")
    before = switch.configuration()
    changes = [("create", port(f"v{number}", "br0")) for number in range(200)]
    started = time.perf_counter()
    done = switch.commit(("create", bridge("br0")), *changes)
    took = time.perf_counter() - started
    assert [r for r in done.results if r.verdict is not Verdict.DONE] == []
    assert done.transactions == 1
    assert switch.configuration() == before + 1
    assert len(switch.all()) == 201
    print(f"200 ports attached in {took:.2f} s")

    assert switch.commit(("create", bridge("br0")), *changes).transactions == 0
    assert switch.configuration() == before + 1

    moved = [("modify", port(f"v{number}", "br1")) for number in range(200)]
    started = time.perf_counter()
    done = switch.commit(("delete", bridge("br0")), ("create", bridge("br1")), *moved)
    took = time.perf_counter() - started
    assert [r for r in done.results if r.verdict is not Verdict.DONE] == []
    assert done.transactions == 1
    assert {each.bridge for each in switch.all().values() if hasattr(each, "bridge")} == {"br1"}
    print(f"200 ports moved in {took:.2f} s")


def test_nothing_of_somebody_else_is_touched(lab: Lab, switch: Switch) -> None:
    plug(lab, "a", "10.0.0.1/24")
    switch.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
    switch.vsctl("add-port", "br0", "a-eth0", "--", "br-set-external-id", "br0", "who", "me")
    columns = ("name", "ports", "datapath_type", "fail_mode", "external_ids", "other_config")
    before = [[row[c] for c in columns] for row in switch.rows("Bridge")]

    seen = switch.all()
    assert {name: each.owned for name, each in seen.items()} == {"br0": False, "a-eth0": False}
    done = switch.commit(
        ("modify", bridge("br0", mac="02:00:00:00:00:01")),
        ("delete", port("a-eth0", "br0")),
        ("create", bridge("br1")),
        ("create", port("a-eth0", "br1")),
        ("delete", bridge("br0")),
    )
    wanted = [Verdict.VANISHED, Verdict.VANISHED, Verdict.DONE, Verdict.VANISHED, Verdict.VANISHED]
    assert [r.verdict for r in done.results] == wanted
    assert "not ours" in done.results[0].words
    assert [[r[c] for c in columns] for r in switch.rows("Bridge") if r["name"] == "br0"] == before

    other = switch.connection.snapshot(SELF, "another").resources
    assert not any(each.owned for each in other.values())


def test_a_port_goes_with_its_veth(lab: Lab, switch: Switch) -> None:
    pair(lab, switch)
    lab.remove("b")
    lab.wait_for(lambda: lab.link("", "b-eth0") is None)
    assert switch.all()["b-eth0"].owned

    done = switch.commit(("delete", port("b-eth0", "br0")))
    assert done.transactions == 1
    assert set(switch.all()) == {"br0", "a-eth0"}
    assert "b-eth0" not in switch.appctl("dpif/show")


def test_a_veth_of_the_same_name_is_plugged_in_anew(lab: Lab, switch: Switch) -> None:
    pair(lab, switch)
    lab.remove("b")
    lab.wait_for(lambda: lab.link("", "b-eth0") is None)
    plug(lab, "b", "10.0.0.2/24")
    again = port("b-eth0", "br0")
    done = switch.commit(("delete", again), ("create", bridge("br0")), ("create", again))
    assert done.transactions == 2
    assert [r.key.dev for r in done.results] == ["b-eth0", "br0", "b-eth0"]
    assert all(r.verdict is Verdict.DONE for r in done.results)
    lab.wait_for(lambda: lab.pings("a", "10.0.0.2"))


def test_a_port_without_an_interface_is_told_in_its_own_words(switch: Switch) -> None:
    done = switch.commit(("create", bridge("br0")), ("create", port("nowhere", "br0")))
    assert [r.verdict for r in done.results] == [Verdict.DONE, Verdict.RETRY]
    assert "No such device" in done.results[1].words
    assert "No such device" in getattr(switch.all()["nowhere"], "error", "")
    done = switch.commit(("create", port("nowhere", "br9")))
    assert [r.words for r in done.results] == ["the bridge br9 is gone"]
    assert done.transactions == 0


def test_the_server_restarts(lab: Lab, switch: Switch) -> None:
    pair(lab, switch)
    switch.rang.clear()
    switch.kill("ovsdb-server")
    assert switch.rang.wait(5), "nobody said that it went"
    with pytest.raises(OSError, match=r"Connection refused|went away"):
        switch.all()
    with pytest.raises(OSError, match="not reachable"):
        switch.commit(("delete", bridge("br0")))
    switch.start()
    assert set(switch.all()) == {"br0", "a-eth0", "b-eth0"}
    assert switch.commit(("create", bridge("br0"))).transactions == 0
    # ovs-vswitchd waits for the server, a second at first, and packets in userspace with it (3.1).
    lab.wait_for(lambda: lab.pings("a", "10.0.0.2"))
    assert switch.commit(("create", bridge("br1"))).results[0].verdict is Verdict.DONE


def test_the_bell_rings_when_the_server_comes_back(switch: Switch) -> None:
    assert switch.rang.wait(5)
    switch.rang.clear()
    switch.kill("ovsdb-server")
    assert switch.rang.wait(5)
    switch.rang.clear()
    switch.start()
    assert switch.rang.wait(10), "nobody said that it came"  # its client tries after 1, 2, 4, 8 s


def test_what_is_done_once_more_before_anybody_looks_rings(switch: Switch) -> None:
    switch.commit(("create", bridge("br0")))
    snoop = ("--no-wait", "set", "bridge", "br0", "mcast_snooping_enable=true")
    switch.until(lambda: switch.all()["br0"] == bridge("br0"))
    switch.rang.clear()
    switch.vsctl(*snoop)
    assert switch.rang.wait(10)

    class Repairing:
        turn = switch.connection.turn

        @contextmanager
        def synced(self, deadline: float) -> Iterator[Idl]:
            with switch.connection.synced(deadline) as idl:
                yield idl
                switch.rang.clear()
                switch.vsctl(*snoop)

    assert commit(Repairing(), [("modify", bridge("br0"))], switch.instance).transactions == 1
    assert switch.rang.wait(10)
    assert switch.all()["br0"] == bridge("br0", plain=False)


def test_the_switch_is_killed_and_started_again(lab: Lab, switch: Switch) -> None:
    pair(lab, switch)
    switch.kill("ovs-vswitchd")
    plug(lab, "c", "10.0.0.3/24")
    done = commit(switch.connection, [("create", port("c-eth0", "br0"))], "lab", seconds=0.3)
    assert [r.verdict for r in done.results] == [Verdict.RETRY]
    assert "does it run?" in done.results[0].words
    assert getattr(switch.all()["c-eth0"], "error", "") == "ovs-vswitchd has not set it up"

    switch.start()
    switch.until(lambda: not any(getattr(p, "error", "") for p in switch.all().values()))
    lab.wait_for(lambda: lab.pings("a", "10.0.0.2"))
    lab.wait_for(lambda: lab.pings("a", "10.0.0.3"))
    assert switch.commit(("create", port("c-eth0", "br0"))).transactions == 0


def test_a_switch_that_has_ended_is_not_waited_for(lab: Lab, switch: Switch) -> None:
    new = plug(lab, "a", "10.0.0.1/24")
    switch.kill("ovs-vswitchd")
    pidfile = switch.place.pidfile("ovs-vswitchd")
    started = time.monotonic()
    done = commit(
        switch.connection, [("create", bridge("br0")), ("create", port(new, "br0"))], "lab",
        seconds=60, ended=lambda: not daemon_pid(pidfile),
    )  # fmt: skip
    assert {each.verdict for each in done.results} == {Verdict.RETRY}
    assert "has ended" in done.results[0].words
    assert time.monotonic() - started < 30, "less than it is waited for one that runs"


def test_somebody_pulls_a_port_out(lab: Lab, switch: Switch) -> None:
    pair(lab, switch)
    switch.until(lambda: True)
    switch.rang.clear()
    switch.vsctl("del-port", "b-eth0")
    assert switch.rang.wait(5)
    assert "b-eth0" not in switch.all()
    assert switch.commit(("create", port("b-eth0", "br0"))).transactions == 1
    assert lab.pings("a", "10.0.0.2")


def test_two_writers_at_once(lab: Lab, switch: Switch) -> None:
    """What somebody else commits between our look and our writing makes us look again."""
    pair(lab, switch)
    meddled = threading.Event()

    class Meddled(Ovs):
        @contextmanager
        def synced(self, deadline: float) -> Iterator[Idl]:
            with super().synced(deadline) as idl:
                if not meddled.is_set():
                    meddled.set()
                    switch.vsctl("br-set-external-id", "br0", INSTANCE, "another")
                yield idl

    connection = Meddled(lambda: None, switch.place.socket)
    try:
        done = commit(connection, [("delete", bridge("br0"))], "lab")
    finally:
        connection.close()
    assert [r.verdict for r in done.results] == [Verdict.VANISHED]
    assert done.transactions == 1  # the one that was refused
    assert "br0" in switch.all()


def test_the_containers_end_outlives_its_bridge(lab: Lab, switch: Switch) -> None:
    pair(lab, switch)

    def ends() -> list[object]:
        """What can be set on the ends; their carrier and own addresses come when they do."""
        return [settings(lab.link("a", "eth0") or {}), lab.index("", "a-eth0")]

    before = ends()
    switch.commit(
        ("create", bridge("br1")),
        ("modify", port("a-eth0", "br1")),
        ("modify", port("b-eth0", "br1")),
        ("delete", bridge("br0")),
    )
    assert lab.pings("a", "10.0.0.2")
    switch.commit(("delete", bridge("br1")))  # to a bridge of Linux
    assert lab.link("", "br1") is None
    sh("ip", "link", "add", "br1", "up", "type", "bridge")
    for outer in ("a-eth0", "b-eth0"):
        sh("ip", "link", "set", outer, "master", "br1")
    assert lab.pings("a", "10.0.0.2")
    for outer in ("a-eth0", "b-eth0"):  # and back
        sh("ip", "link", "set", outer, "nomaster")
    sh("ip", "link", "del", "br1")
    switch.commit(
        ("create", bridge("br1")),
        ("create", port("a-eth0", "br1")),
        ("create", port("b-eth0", "br1")),
    )
    assert lab.pings("a", "10.0.0.2")
    assert ends() == before


def test_a_bridge_says_nothing_by_itself(lab: Lab, switch: Switch) -> None:
    """Its own interface is a tap that stays down, with the address that it was given."""
    switch.commit(("create", bridge("br0", mac="02:00:00:00:00:01")))
    row = lab.link("", "br0") or {}
    assert row["linkinfo"]["info_kind"] == "tun"
    assert row["address"] == "02:00:00:00:00:01"
    assert "UP" not in row["flags"]
    assert switch.all()["br0"] == bridge("br0", mac="02:00:00:00:00:01")
    done = switch.commit(("modify", bridge("br0", mac="02:00:00:00:00:02")))
    assert done.transactions == 1
    assert (lab.link("", "br0") or {})["address"] == "02:00:00:00:00:02"


# ------------------------------------------------------------------ the daemons


def test_a_crash_keeps_the_daemons(lab: Lab, switch: Switch) -> None:
    """The next Relink finds them, knows that they are Relink's, and may end them."""
    pair(lab, switch)
    pidfiles = [switch.place.pidfile(each) for each in ("ovsdb-server", "ovs-vswitchd")]
    pids = [daemon_pid(each) for each in pidfiles]
    ovs_daemons.start(switch.place, "next", daemon_pid)
    assert [daemon_pid(each) for each in pidfiles] == pids
    following = Ovs(lambda: None, switch.place.socket)
    try:
        state = following.snapshot(SELF, "lab")
        assert state.started_by == "lab"
        assert len(state.resources) == 3
    finally:
        following.close()
    switch.commit(("delete", bridge("br0")))
    ovs_daemons.stop(switch.place, daemon_pid)
    assert [daemon_pid(each) for each in pidfiles] == [0, 0]
    assert not switch.place.socket.exists()


def test_the_daemons_of_somebody_else_have_no_mark(tmp_path: Path) -> None:
    run = tmp_path / "theirs"
    run.mkdir()
    sh("ovsdb-tool", "create", str(run / "conf.db"), str(ovs_daemons.Place().schema))
    server = subprocess.Popen(
        ["ovsdb-server", str(run / "conf.db"), f"--remote=punix:{run}/db.sock",
         f"--unixctl={run}/ctl", "-vconsole:off", "-vsyslog:off"],
    )  # fmt: skip
    rang = threading.Event()
    connection = Ovs(rang.set, run / "db.sock")
    try:
        while True:
            try:
                state = connection.snapshot(SELF, "lab")
                break
            except OSError:
                assert rang.wait(10)
        assert state.started_by == ""
    finally:
        connection.close()
        server.send_signal(signal.SIGTERM)
        server.wait(10)


def test_a_pidfile_that_was_left_behind_names_nobody(tmp_path: Path) -> None:
    pidfile = tmp_path / "ovs-vswitchd.pid"
    assert daemon_pid(pidfile) == 0
    pidfile.write_text(f"{os.getpid()}\n")
    assert daemon_pid(pidfile) == 0
    place = ovs_daemons.Place(run=tmp_path)
    ovs_daemons.stop(place, daemon_pid)  # and we are still here


def test_what_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_program() == ""
    monkeypatch.setattr("observers.ovs_facts.SBIN", "")
    monkeypatch.setenv("PATH", "/nowhere")
    assert missing_program() == "ovsdb-tool"
    (tmp_path / "relink.db").write_text("not a database")
    with pytest.raises(OSError, match=r"relink\.db"):
        ovs_daemons.start(ovs_daemons.Place(run=tmp_path), "lab", daemon_pid)
