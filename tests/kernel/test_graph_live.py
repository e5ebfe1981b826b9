"""`reconcile graph --live` over real namespaces: what is broken, impaired or away is shown so."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.kernel.lab import Lab, sh

NET = """
bridges: [{bridge: s1}, {bridge: s2}]
links:
- {service: node, bridge: s1, ip: 10.0.0.1/24, mtu: 1500}
- {container: server, bridge: s1, ip: 10.0.0.9/24}
- {container: server, bridge: s2, ip: 172.16.0.1/24, dev: lan1}
- {container: away, bridge: s2, ip: 172.16.0.2/24}
"""
IMPAIRED = NET.replace("9/24", '9/24, netem: "delay 40ms"')
TUNNELLED = NET + "tunnels: [{type: vxlan, vni: 7, remote: 192.0.2.7, bridge: s2}]"


def make(lab: Lab, text: str) -> None:
    lab.add("node_1", "node_2", "server")
    done = lab.reconcile("--network-file", str(lab.config(text)), "--once")
    assert done.returncode == 0, done.stderr


def picture(lab: Lab, style: str = "json") -> subprocess.CompletedProcess[str]:
    words = ("graph", "--live", "--format", style)
    return lab.reconcile(*words, "--network-file", str(lab.directory / "net.yaml"))


def drawn(lab: Lab, *, code: int = 0) -> dict[str, dict[str, Any]]:
    """Return what the picture says of each thing, by its node and, of a link, its interface."""
    done = picture(lab)
    assert done.returncode == code, done.stderr
    document = json.loads(done.stdout)
    things = {f"{e['source']} {e['dev']}": e for e in document["edges"]}
    things |= {node["id"]: node for node in document["nodes"]}
    return {name: thing["live"] for name, thing in things.items() if "live" in thing}


READY = {"state": "Ready", "message": "", "drift": [], "netem": ""}


def test_what_is_as_declared_is_ready_and_what_does_not_run_is_told(lab: Lab) -> None:
    make(lab, NET)
    with lab.untouched():
        seen = drawn(lab)
    assert seen == {
        "container:node_1 eth0": READY,
        "container:node_2 eth0": READY,
        "container:server eth0": READY,
        "container:server lan1": READY,
        "container:away": READY | {"state": "Not running"},
        "container:away eth0": READY | {"state": "Not running"},
        "bridge:s1": READY,
        "bridge:s2": READY,
    }


def test_a_broken_link_is_shown_with_what_differs(lab: Lab) -> None:
    make(lab, NET)
    lab.ip("node_1", "link", "del", "eth0")
    lab.ip("node_2", "link", "set", "eth0", "mtu", "1400")
    lab.ip("", "link", "set", "server-lan1", "nomaster")
    lab.ip("server", "link", "set", "eth0", "down")
    seen = drawn(lab, code=2)
    assert seen["container:node_1 eth0"]["state"] == "Pending"
    assert seen["container:node_1 eth0"]["drift"] == ["not there"]
    assert seen["container:node_2 eth0"]["drift"] == ["mtu 1400 -> 1500"]
    assert seen["container:server lan1"]["drift"] == ["server-lan1: master none -> s2"]
    assert "up off -> on" in seen["container:server eth0"]["drift"]

    text = picture(lab, "dot").stdout
    assert "Pending: mtu 1400 -&gt; 1500" in text
    broken = [line for line in text.splitlines() if '-- "container:node_2"' in line]
    assert ["style=dotted" in line for line in broken] == [True]
    assert 'color="#a15c07"' in broken[0]


def test_a_deleted_bridge_is_shown_at_the_bridge(lab: Lab) -> None:
    make(lab, NET)
    lab.ip("", "link", "del", "s1")
    seen = drawn(lab, code=2)
    assert seen["bridge:s1"]["state"] == "Pending"
    assert seen["container:node_1 eth0"]["state"] == "Pending"
    assert seen["bridge:s2"] == READY


def test_somebody_else_s_interface_of_that_name_is_a_conflict(lab: Lab) -> None:
    lab.add("node_1")
    lab.ip("node_1", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    lab.config(NET)
    seen = drawn(lab, code=2)
    assert seen["container:node_1 eth0"]["state"] == "Conflict"
    text = picture(lab, "mermaid").stdout
    assert "Conflict:" in text
    assert "x--x" in text


def test_where_nothing_runs_the_declaration_is_drawn(lab: Lab) -> None:
    lab.config(NET)
    document = json.loads(picture(lab).stdout)
    states = {n["id"]: n["live"]["state"] for n in document["nodes"] if "live" in n}
    assert states == {
        "service:node": "Not running",
        "container:server": "Not running",
        "container:away": "Not running",
        "bridge:s1": "Pending",
        "bridge:s2": "Pending",
    }


@pytest.mark.needs("netem")
def test_an_impairment_is_shown_as_the_kernel_has_it(lab: Lab) -> None:
    make(lab, IMPAIRED)
    seen = drawn(lab)["container:server eth0"]
    assert (seen["state"], seen["netem"]) == ("Ready", "delay 40ms")
    text = picture(lab, "dot").stdout
    assert "~ delay 40ms" in text
    assert sum("style=dashed" in line for line in text.splitlines()) == 1

    sh("tc", "-n", "server", "qdisc", "change", "dev", "eth0", "root", "netem", "delay", "7ms")
    changed = drawn(lab, code=2)["container:server eth0"]
    assert (changed["state"], changed["netem"]) == ("Pending", "delay 7ms")
    assert any("delay 7ms" in words and "delay 40ms" in words for words in changed["drift"])


@pytest.mark.needs("netem")
def test_somebody_else_s_impairment_is_shown_too(lab: Lab) -> None:
    make(lab, NET)
    sh("tc", "-n", "node_1", "qdisc", "add", "dev", "eth0", "root", "netem", "loss", "10%")
    sh("tc", "qdisc", "add", "dev", "node_2-eth0", "root", "netem", "delay", "5ms")
    seen = {name: live["netem"] for name, live in drawn(lab).items() if "node" in name}
    assert seen == {
        "container:node_1 eth0": "netem of somebody else",
        "container:node_2 eth0": "node_2-eth0: netem of somebody else",
    }


@pytest.mark.needs("vxlan")
def test_a_tunnel_is_shown_with_its_bridge(lab: Lab) -> None:
    make(lab, TUNNELLED)
    seen = drawn(lab)
    assert seen["remote:192.0.2.7 vxlan-7"]["state"] == "Ready"
    assert seen["container:server lan1"]["message"] == "mtu 1450 to fit vxlan-7"
    lab.ip("", "link", "set", "vxlan-7", "down")
    assert drawn(lab, code=2)["remote:192.0.2.7 vxlan-7"]["drift"] == ["up off -> on"]
