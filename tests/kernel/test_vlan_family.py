"""Dummies and links stacked on another interface, declared in YAML, wherever the parent is."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from model import netlink as nl
from observers import nsid
from tests.kernel.lab import Lab, sh, unshare

CLONE_NEWPID = 0x20000000  # linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)

MODES = {"vlan": "vlanid: 7", "macvlan": "mode: bridge", "macvtap": "mode: bridge",
         "ipvlan": "mode: l2", "ipvtap": "mode: l2"}  # fmt: skip
SHOWN = {
    "vlan": {"id": 7, "protocol": "802.1Q"},
    **{kind: {"mode": "bridge"} for kind in ("macvlan", "macvtap")},
    **{kind: {"mode": "l2"} for kind in ("ipvlan", "ipvtap")},
}
FEATURE = {kind: "8021q" if kind == "vlan" else kind for kind in MODES}


def _kinds(*kinds: str) -> Any:
    return pytest.mark.parametrize(
        "kind",
        [
            pytest.param(
                kind, marks=[pytest.mark.needs(FEATURE[kind]), pytest.mark.proves(f"link {kind}")]
            )
            for kind in kinds or MODES
        ],
    )


@pytest.fixture
def host(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A namespace that process 1 lives in, of all processes that the test starts from here on.

    The test itself, which cannot move, is told that process's number for 1.
    """
    lab.add("host")
    with open("/proc/self/ns/pid", "rb") as own:  # noqa: PTH123 - for its descriptor
        unshare(CLONE_NEWPID)
        command = ["nsenter", "--net=/run/netns/host", "sh", "-c", "echo; exec sleep 1000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
            try:
                assert first.stdout
                first.stdout.readline()  # it is there
                sh("mount", "--bind", f"/proc/{first.pid}", "/proc/1")  # as in a /proc of theirs
                monkeypatch.setattr(nsid, "of_process", lambda _: nl.u32(nsid.PID, first.pid))
                yield "host"
            finally:
                sh("umount", "--lazy", "/proc/1", check=False)
                assert not _libc.setns(own.fileno(), CLONE_NEWPID)
                first.kill()


def _converge(lab: Lab, net: str) -> None:
    """Make what is declared, and see that nothing is left to do."""
    done = lab.converge(net)
    assert done.outcome
    assert (done.plan.obstacles, done.outcome.failures) == ((), ())
    assert lab.converge(net).plan.steps == ()


def _answers(lab: Lab) -> None:
    """Its carrier comes from its parent's, up to a second later (net/core/link_watch.c)."""
    lab.wait_for(lambda: lab.pings("node_1", "10.0.0.2"))


def _wire(lab: Lab, ns: str, one: str, other: str, mtu: int = 1500) -> None:
    """Two interfaces of one namespace with a wire between them."""
    lab.ip(ns, *f"link add {one} mtu {mtu} type veth peer name {other} mtu {mtu}".split())
    lab.ip(ns, "link", "set", one, "up")
    lab.ip(ns, "link", "set", other, "up")


def _link(lab: Lab, ns: str, dev: str) -> dict[str, Any]:
    found = lab.link(ns, dev)
    assert found, f"no {dev} in {ns}"
    return found


def _shows(lab: Lab, ns: str, dev: str, kind: str) -> None:
    info = _link(lab, ns, dev)["linkinfo"]
    assert info["info_kind"] == kind
    assert {name: info["info_data"].get(name) for name in SHOWN[kind]} == SHOWN[kind]


@pytest.mark.parametrize("base", ["host", "conlink"])
@_kinds()
def test_it_has_its_final_name_where_everything_is_called_so(
    lab: Lab, host: str, kind: str, base: str
) -> None:
    """The parent's namespace has an eth0: the parent; and one container an eth0 of its own."""
    where = host if base == "host" else ""
    lab.add("node_1", "node_2")
    _wire(lab, where, "eth0", "eth1")
    lab.ip("node_2", *["link", "add", "eth0", "type", "veth", "peer", "name", "mine"])
    other = "eth1" if kind == "vlan" else "eth0"  # a parent has a tag only once
    net = f"""
links:
- {{container: node_1, type: {kind}, base: {base}, outer-dev: eth0, {MODES[kind]},
    ip: [10.0.0.1/24, "fd00::1/64"], route: 10.9.0.0/16 via 10.0.0.254}}
- {{container: node_2, type: {kind}, base: {base}, outer-dev: {other}, {MODES[kind]},
    ip: [10.0.0.2/24, "fd00::2/64"]}}
"""
    before = [lab.index(where, dev) for dev in ("eth0", "eth1")], lab.index("node_2", "eth0")
    done = lab.converge(net)
    assert [(str(o.key), o.state) for o in done.plan.obstacles] == [("node_2:eth0", "conflict")]
    assert done.outcome
    assert done.outcome.failures == ()
    assert lab.link("node_2", "eth0")["linkinfo"]["info_kind"] == "veth"  # type: ignore[index]
    after = [lab.index(where, dev) for dev in ("eth0", "eth1")], lab.index("node_2", "eth0")
    assert after == before

    lab.ip("node_2", "link", "del", "eth0")
    _converge(lab, net)
    for number in (1, 2):
        _shows(lab, f"node_{number}", "eth0", kind)
        assert lab.addresses(f"node_{number}", "eth0") == {
            f"10.0.0.{number}/24", f"fd00::{number}/64"
        }  # fmt: skip
    assert "10.9.0.0/16 via 10.0.0.254" in lab.ip("node_1", "route")
    _answers(lab)
    _converge(lab, "links: []")
    assert lab.link("node_1", "eth0") is None
    assert [lab.index(where, dev) for dev in ("eth0", "eth1")] == before[0]


@_kinds()
def test_it_is_stacked_on_another_link_of_its_container(lab: Lab, kind: str) -> None:
    lab.add("node_1", "node_2")
    net = f"""
links:
- {{service: node, bridge: s1, dev: trunk0}}
- {{service: node, type: {kind}, base: local, outer-dev: trunk0, {MODES[kind]}, ip: 10.0.0.1/24}}
"""
    _converge(lab, net)
    _shows(lab, "node_1", "eth0", kind)
    _answers(lab)
    lab.ip("node_1", "link", "del", "trunk0")
    assert lab.link("node_1", "eth0") is None, "the kernel takes it with its parent"
    _converge(lab, net)
    _answers(lab)


@pytest.mark.needs("dummy")
@pytest.mark.proves("link dummy")
def test_a_dummy_has_what_is_declared(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    net = """
links:
- {service: node, type: dummy, ip: [10.0.0.1/24, "fd00::1/64"], mtu: 4000, mac: "02:00:00:00:00:01",
   route: 10.9.0.0/16 via 10.0.0.254}
"""
    _converge(lab, net)
    for number in (1, 2):
        row = _link(lab, f"node_{number}", "eth0")
        assert row["linkinfo"]["info_kind"] == "dummy"
        assert (row["mtu"], row["address"]) == (4000, f"02:00:00:00:00:0{number}")
        assert lab.addresses(f"node_{number}", "eth0") == {
            f"10.0.0.{number}/24", f"fd00::{number}/64"
        }  # fmt: skip
        assert "10.9.0.0/16" in lab.ip(f"node_{number}", "route")


@pytest.mark.needs("dummy", "macvlan")
@pytest.mark.proves("link veth", "link dummy", "link macvlan")
def test_another_kind_in_the_file_is_another_link(lab: Lab, host: str) -> None:
    lab.add("node_1")
    _wire(lab, host, "up0", "far0")
    kinds = {
        "veth": "bridge: s1",
        "macvlan": "type: macvlan, outer-dev: up0, mode: bridge",
        "dummy": "type: dummy",
    }
    for kind in ("veth", "macvlan", "dummy", "macvlan", "veth", "dummy", "veth"):
        net = f"links: [{{container: node_1, {kinds[kind]}, ip: 10.0.0.1/24}}]"
        _converge(lab, net)
        assert _link(lab, "node_1", "eth0")["linkinfo"]["info_kind"] == kind
        assert lab.addresses("node_1", "eth0") == {"10.0.0.1/24"}
        assert (lab.link("", "node_1-eth0") is not None) == (kind == "veth")


def _children(kinds: str) -> str:
    parents = {"macvlan": "up0", "macvtap": "up0", "vlan": "up1", "ipvlan": "up2", "ipvtap": "up2"}
    rows = [
        f"- {{container: node_1, type: {kind}, dev: {kind}0, outer-dev: {parents[kind]}, "
        f"{MODES[kind]}, ip: 10.0.{number}.1/24, mtu: 3000}}"
        for number, kind in enumerate(kinds.split())
    ]
    return "links:\n" + "\n".join(rows)


def _states(lab: Lab) -> dict[str, tuple[str, str]]:
    rows = json.loads(lab.reconcile("status", "--output", "json").stdout)["links"]
    return {row["key"].partition(":")[2]: (row["state"], row["message"]) for row in rows}


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param("macvlan macvtap", marks=pytest.mark.needs("macvlan", "macvtap")),
        pytest.param("vlan ipvlan ipvtap", marks=pytest.mark.needs("8021q", "ipvlan", "ipvtap")),
    ],
)
def test_a_parent_comes_goes_and_changes_and_the_kernel_rings(
    lab: Lab, host: str, kinds: str
) -> None:
    """Blocked, not failed, while there is none. An hour of ticks would be too late for all this."""
    lab.add("node_1")
    lab.config(_children(kinds))
    devs = [f"{kind}0" for kind in kinds.split()]
    took: dict[str, float] = {}

    def all_have(mtu: int) -> bool:
        return [(lab.link("node_1", dev) or {}).get("mtu") for dev in devs] == [mtu] * len(devs)

    with lab.sidecar("--interval", "3600"):
        lab.until_log("does not exist", 20)
        for dev, (state, message) in _states(lab).items():
            assert (state, message.startswith("host:up")) == ("Blocked", True), dev
        parents = [
            name for name in ("up0", "up1", "up2") if f"outer-dev: {name}" in _children(kinds)
        ]
        for name in parents:
            lab.ip(host, *f"link add {name} type veth peer name far-{name}".split())
            lab.ip(host, "link", "set", name, "up")
        took["appears"] = lab.wait_for(lambda: "All links connected" in lab.log())
        assert all_have(1500)
        for dev, (state, message) in _states(lab).items():
            assert state == "Ready", dev
            assert message.startswith("mtu 1500, that of host:up")
            assert message.endswith("instead of 3000")

        for name in parents:
            lab.ip(host, "link", "set", f"far-{name}", "mtu", "4000")
            lab.ip(host, "link", "set", name, "mtu", "4000")
        took["larger"] = lab.wait_for(lambda: all_have(3000))

        for name in parents:
            lab.ip(host, "link", "del", name)
        lab.wait_for(lambda: not any(lab.link("node_1", dev) for dev in devs))
        for name in parents:
            lab.ip(host, *f"link add {name} type veth peer name far-{name}".split())
            lab.ip(host, "link", "set", name, "up")
        took["comes back"] = lab.wait_for(lambda: all_have(1500))
        lab.wait_for(lambda: all(lab.addresses("node_1", dev) for dev in devs))

        # Somebody changes what can be changed.
        for dev, kind in zip(devs, kinds.split(), strict=True):
            index = lab.index("node_1", dev)
            if kind == "vlan":
                lab.ip("node_1", "link", "del", dev)
            else:
                other = "private" if kind.startswith("mac") else "l3"
                lab.ip("node_1", *f"link set {dev} type {kind} mode {other}".split())
            lab.wait_for(lambda dev=dev, kind=kind: _is_as_declared(lab, dev, kind))
            assert (lab.index("node_1", dev) == index) == kind.startswith("ip"), kind
        lab.ip("node_1", "link", "set", devs[0], "mtu", "1400")
        took["drift"] = lab.wait_for(lambda: all_have(1500))
    print({why: f"{seconds * 1000:.0f} ms" for why, seconds in took.items()})
    assert not any(lab.link("node_1", dev) for dev in devs), "stopped in order: removed"


def _is_as_declared(lab: Lab, dev: str, kind: str) -> bool:
    data = (lab.link("node_1", dev) or {}).get("linkinfo", {}).get("info_data", {})
    return bool(
        {name: data.get(name) for name in SHOWN[kind]} == SHOWN[kind]
        and lab.addresses("node_1", dev)
    )


@pytest.mark.needs("macvlan")
def test_the_data_plane_is_the_hosts_and_holds_the_parent(lab: Lab) -> None:
    """With a process 1 of its own, which lives in "host"; Relink is its child, and elsewhere."""
    lab.add("node_1", "node_2", "host")
    _wire(lab, "host", "eth0", "eth1")
    file = lab.config(
        "links: [{service: node, type: macvlan, base: conlink, outer-dev: eth0, mode: bridge, "
        "ip: 10.0.0.1/24}]"
    )
    relink = (
        f"nsenter --net=/dev/fd/9 {sys.executable} -m reconciler.cli --runtime netns "
        f"--instance lab --dataplane host --network-file {file}"
    )
    enter = (
        "exec 9</proc/self/ns/net; exec nsenter --net=/run/netns/host "
        'unshare --pid --fork --mount-proc --propagation unchanged sh -c "$0"'
    )
    done = subprocess.run(
        ["sh", "-c", enter, f"{relink} --once && {relink} --dry-run"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing to do" in done.stdout
    _answers(lab)
