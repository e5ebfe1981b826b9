"""Tunnels between namespaces that stand for hosts: each has the data plane of its own Relink."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model.facts import Facts
from model.keys import NsKey
from observers.plain import Plain
from reconciler.apply import Hands
from reconciler.containers import Roster
from reconciler.passes import Pass, run
from reconciler.sources import Sources, load
from reconciler.ways import ways
from tests.kernel.lab import Lab, sh

FAMILIES = [4, 6]
UNDERLAY = {4: "198.51.100.{}", 6: "fd00:198::{}"}
IP_HEADER = {4: 20, 6: 40}


def _plane(host: str) -> str:
    """The data plane of a Relink with `--dataplane pinned`, whose instance is the host's name."""
    return f"relink-{host}"


def _hosts(lab: Lab, *hosts: str, mtu: int = 1500) -> None:
    """Hosts on one switch, numbered from 1, each with a container of its own: `in-<host>`."""
    lab.ip("", "link", "add", "lan", "type", "bridge")
    lab.ip("", "link", "set", "lan", "up")
    for number, host in enumerate(hosts, 1):
        lab.add(_plane(host), f"in-{host}")
        lab.ip("", *f"link add {host} type veth peer name eth0 netns {_plane(host)}".split())
        lab.ip("", *f"link set {host} mtu {mtu} master lan up".split())
        lab.ip(_plane(host), *f"link set eth0 mtu {mtu} up".split())
        for form, bits in zip(UNDERLAY.values(), (24, 64), strict=True):
            address = f"{form.format(number)}/{bits}"
            nodad = ("nodad",) if ":" in address else ()
            lab.ip(_plane(host), "address", "add", address, "dev", "eth0", *nodad)


def _converge(lab: Lab, host: str, text: str) -> Pass:
    """One pass of the host's Relink, as `--once` makes it; and a second one, that does nothing."""
    loaded = load(Sources((str(lab.config(text, f"{host}.yaml")),), (), {}))
    plane = NsKey("pinned", "pinned", host)
    underlay = ways(plane, loaded.config)
    roster = Roster(loaded.config, Facts(instance=host, plane=plane, underlay=underlay))
    roster.replace("netns", [c for c in Plain().list() if not c.name.startswith("relink-")])
    done = run(roster.world(), decide=lambda plan, _: plan, hands=Hands())
    assert done.outcome
    assert (done.plan.obstacles, done.outcome.failures) == ((), ())
    assert run(roster.world()).plan.steps == ()
    return done


def _net(number: int, *tunnels: str, link: str = "") -> str:
    rows = "".join(f"- {{bridge: s1, {words}}}\n" for words in tunnels)
    host = f"h{number}"
    return (
        f"links:\n- {{container: in-{host}, bridge: s1, ip: 10.0.0.{number}/24{link}}}\n"
        f"tunnels:\n{rows}"
    )


def _whole_packet(ns: str, target: str, mtu: int) -> bool:
    """Tell whether a packet as large as the MTU arrives, which nobody on the way may fragment."""
    size = str(mtu - 28)  # IPv4 and ICMP headers
    words = ("ip", "netns", "exec", ns, "ping", "-c1", "-W2", "-M", "do", "-s", size, target)
    return "1 received" in sh(*words, check=False)


def _fragments(host: str, version: int) -> int:
    """How many fragments of outer packets a host has made (nstat(8), since it was made)."""
    name = "IpFragCreates" if version == 4 else "Ip6FragCreates"
    words = ("ip", "netns", "exec", _plane(host), "nstat", "-asz", "-j", name)
    return int(json.loads(sh(*words))["kernel"][name])


def _tunnels(lab: Lab, host: str) -> dict[str, dict[str, Any]]:
    rows = lab.show(_plane(host), "link")
    kinds = ("vxlan", "geneve")
    return {r["ifname"]: r for r in rows if r.get("linkinfo", {}).get("info_kind") in kinds}


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        pytest.param(kind, version, marks=[
            pytest.mark.needs(kind), pytest.mark.proves(f"{kind} v{version} underlay")
        ], id=f"{kind}-v{version}")
        for kind in ("vxlan", "geneve") for version in FAMILIES
    ],
)  # fmt: skip
def test_a_packet_of_full_size_passes_unfragmented(lab: Lab, kind: str, version: int) -> None:
    _hosts(lab, "h1", "h2")
    form = UNDERLAY[version]
    fits = 1500 - IP_HEADER[version] - 8 - 8 - 14
    for number, other in ((1, 2), (2, 1)):
        done = _converge(
            lab,
            f"h{number}",
            _net(number, f"type: {kind}, vni: 77, remote: '{form.format(other)}'"),
        )
        notes = {str(key): note for key, note in done.desired.notes.items()}
        assert notes[f"in-h{number}:eth0"] == f"mtu {fits} to fit {kind}-77"
        assert f"mtu {fits}" in notes[f"pinned:{kind}-77"]
    assert {row["mtu"] for row in _tunnels(lab, "h1").values()} == {fits}
    assert lab.link("in-h1", "eth0")["mtu"] == fits  # type: ignore[index]
    lab.wait_for(lambda: lab.pings("in-h1", "10.0.0.2"))
    assert _whole_packet("in-h1", "10.0.0.2", fits)
    assert _fragments("h1", version) == _fragments("h2", version) == 0


@pytest.mark.parametrize("version", FAMILIES)
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in ("vxlan", "geneve")]
)
def test_what_is_given_is_what_the_kernel_has(lab: Lab, kind: str, version: int) -> None:
    """And what is changed in the file is changed: the other end's port, then its address."""
    _hosts(lab, "h1", "h2")
    form, six = UNDERLAY[version], "6" if version == 6 else ""
    local = f"local: '{form.format(1)}', " if kind == "vxlan" else ""
    given = f"type: {kind}, vni: 5, ttl: 9, tos: 16, df: set, {local}"
    wrong, right = (f"{given}port: {port}, remote: '{form.format(n)}'"
                    for port, n in ((4790, 99), (4791, 2)))  # fmt: skip
    _converge(lab, "h2", _net(2, f"type: {kind}, vni: 5, port: 4791, remote: '{form.format(1)}'"))

    _converge(lab, "h1", _net(1, wrong))
    shown = _tunnels(lab, "h1")[f"{kind}-5"]
    data = shown["linkinfo"]["info_data"]
    expected = {"id": 5, "ttl": 9, "tos": "0x10", "df": "set", "port": 4790,
                f"remote{six}": form.format(99)}  # fmt: skip
    if kind == "vxlan":
        expected[f"local{six}"] = form.format(1)
    assert {name: data.get(name) for name in expected} == expected

    end = lab.index("in-h1", "eth0")
    _converge(lab, "h1", _net(1, wrong.replace("4790", "4791")))
    remade = _tunnels(lab, "h1")[f"{kind}-5"]["ifindex"]
    assert remade != shown["ifindex"], "the kernel takes no other port on a living tunnel"
    _converge(lab, "h1", _net(1, right))
    index = _tunnels(lab, "h1")[f"{kind}-5"]["ifindex"]
    assert (index == remade) == (kind == "vxlan"), "vxlan takes another remote in place"
    lab.wait_for(lambda: lab.pings("in-h1", "10.0.0.2"))
    assert lab.index("in-h1", "eth0") == end


@pytest.mark.needs("vxlan")
def test_an_mtu_that_is_given_wins(lab: Lab) -> None:
    _hosts(lab, "h1", "h2", mtu=2000)
    tunnel = "type: vxlan, vni: 5, remote: 198.51.100.2"
    done = _converge(lab, "h1", _net(1, tunnel, link=", mtu: 1800"))
    assert not [n for key, n in done.desired.notes.items() if key.dev == "eth0"]
    assert lab.link("in-h1", "eth0")["mtu"] == 1800  # type: ignore[index]
    assert _tunnels(lab, "h1")["vxlan-5"]["mtu"] == 1950
    _converge(lab, "h1", _net(1, f"{tunnel}, mtu: 1300"))
    assert _tunnels(lab, "h1")["vxlan-5"]["mtu"] == 1300
    assert lab.link("in-h1", "eth0")["mtu"] == 1300  # type: ignore[index]
    # A way that is narrower than the wire.
    lab.ip(_plane("h1"), *["route", "add", "198.51.100.2/32", "dev", "eth0", "mtu", "1400"])
    _converge(lab, "h1", _net(1, tunnel))
    assert lab.link("in-h1", "eth0")["mtu"] == 1350  # type: ignore[index]


@pytest.mark.needs("geneve")
@pytest.mark.proves("defect 6")
def test_two_tunnels_with_one_vni_to_two_hosts(lab: Lab) -> None:
    _hosts(lab, "h1", "h2", "h3")
    both = [f"type: geneve, vni: 5, remote: 198.51.100.{n}" for n in (2, 3)]
    _converge(lab, "h1", _net(1, *both))
    for number in (2, 3):
        _converge(lab, f"h{number}", _net(number, "type: geneve, vni: 5, remote: 198.51.100.1"))
    remotes = {
        name: row["linkinfo"]["info_data"]["remote"] for name, row in _tunnels(lab, "h1").items()
    }
    assert sorted(remotes.values()) == ["198.51.100.2", "198.51.100.3"]
    assert remotes["geneve-5"] == "198.51.100.2"
    lab.wait_for(lambda: lab.pings("in-h1", "10.0.0.2"))
    lab.wait_for(lambda: lab.pings("in-h1", "10.0.0.3"))
    lab.wait_for(lambda: lab.pings("in-h2", "10.0.0.3"), why="by the host in the middle")


@pytest.mark.needs("vxlan", "netem")
def test_netem_on_a_tunnel(lab: Lab) -> None:
    _hosts(lab, "h1", "h2")
    tunnel = "type: vxlan, vni: 5, remote: 198.51.100.{}, netem: {}"
    for number, other in ((1, 2), (2, 1)):
        _converge(lab, f"h{number}", _net(number, tunnel.format(other, "{delay: 30ms}")))
    words = sh("ip", "netns", "exec", "in-h1", "ping", "-c2", "-i0.2", "10.0.0.2")
    fastest = float(words.rpartition("= ")[2].partition("/")[0])
    assert fastest >= 60, words
    _converge(lab, "h1", _net(1, "type: vxlan, vni: 5, remote: 198.51.100.2"))
    qdisc = sh("tc", "-n", _plane("h1"), "-j", "qdisc", "show", "dev", "vxlan-5", "root")
    assert "netem" not in qdisc


@pytest.mark.needs("vxlan")
def test_a_narrower_way_lowers_links_at_the_next_tick_and_status_says_so(lab: Lab) -> None:
    _hosts(lab, "h1", "h2")
    lab.instance = "h1"
    lab.config(_net(1, "type: vxlan, vni: 5, remote: 198.51.100.2"))
    with lab.sidecar("--dataplane", "pinned", "--interval", "0.3"):
        lab.until_log("All links connected")
        lab.ip(_plane("h1"), "link", "set", "eth0", "mtu", "1400")
        lab.wait_for(lambda: (lab.link("in-h1", "eth0") or {}).get("mtu") == 1350)
        lab.wait_for(lambda: _tunnels(lab, "h1")["vxlan-5"]["mtu"] == 1350)
        rows = json.loads(lab.reconcile("status", "--output", "json").stdout)["links"]
        said = {row["key"]: (row["state"], row["message"]) for row in rows}
        assert said["in-h1:eth0"] == ("Ready", "mtu 1350 to fit vxlan-5")
        assert said["pinned:vxlan-5"][0] == "Ready"
        assert said["pinned:vxlan-5"][1].startswith("mtu 1350")
    lab.names.remove(_plane("h1"))  # stopped in order: its pinned plane is removed too
