"""The known defects of conlink, each by a scenario in which conlink 2.6.2 does the wrong thing.

Those that need an engine (2, 13, 14) are in tests/docker/test_conlink_defects.py.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.resources import Link
from reconciler import __version__, control
from reconciler.metrics import SCOPES
from tests.kernel.lab import Lab, sh
from tests.kernel.test_forward import talk

NET = """\
links:
- {service: node, bridge: s1, ip: 10.0.0.1/24}
- {container: server, bridge: s1, ip: 10.0.0.100/24}
"""
_MS_BIND = 4096


@pytest.fixture(autouse=True)
def _linux_bridges(monkeypatch: pytest.MonkeyPatch) -> None:
    """One kind of bridge on every kernel; what `auto` is, is defect 10."""
    monkeypatch.setenv("CONLINK_BRIDGE_MODE", "linux")


def _status(lab: Lab, key: str) -> dict[str, object]:
    links = json.loads(lab.reconcile("status", "--output", "json").stdout)["links"]
    (found,) = [link for link in links if link["key"] == key]
    return dict(found)


@pytest.mark.proves("defect 1")
def test_defect_01_a_failed_link_never_counts_as_connected(lab: Lab) -> None:
    lab.add("node_1", "server")
    # The kernel refuses this route while its gateway cannot be reached.
    lab.config(NET.replace("10.0.0.1/24}", "10.0.0.1/24, route: 10.5.0.0/16 via 10.77.0.1}"))
    with lab.sidecar("--interval", "3600"):
        lab.until_log("step_failed")
        lab.wait_for(lambda: lab.pings("node_1", "10.0.0.100"))
        assert "All links connected" not in lab.log()
        assert _status(lab, "node_1:eth0")["state"] != "Ready"
        assert lab.reconcile("status").returncode == 2
        assert lab.reconcile("status", "--check").returncode == 1
        lab.ip("node_1", *"addr add 10.77.0.2/24 dev eth0".split())  # noqa: SIM905
        lab.until_log("All links connected")


@pytest.mark.proves("defect 3")
def test_defect_03_a_crash_cuts_no_link_and_what_it_leaves_is_taken_over(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.config(NET)
    with lab.sidecar() as first:
        lab.until_log("All links connected")
        first.kill()
        first.wait()
    assert lab.pings("node_1", "10.0.0.100"), "while nobody runs"
    with lab.untouched(), lab.sidecar("--on-exit", "keep") as second:
        lab.until_log("All links connected")
        second.send_signal(signal.SIGTERM)
        assert second.wait(10) == 0
    assert lab.pings("node_1", "10.0.0.100"), "after a stop that was told to keep it"


@pytest.mark.proves("defect 4", "bridge patch")
def test_defect_04_an_end_of_a_patch_comes_back_twenty_times_under_a_long_name(
    lab: Lab, measured: Callable[[str], None]
) -> None:
    name = "a-container-with-a-long-name"
    lab.add(name, "b")
    lab.config(
        "bridges: [{bridge: p1, mode: patch}]\n"
        f"links: [{{container: {name}, bridge: p1, ip: 10.0.0.1/24}},"
        " {container: b, bridge: p1, ip: 10.0.0.2/24}]"
    )
    with lab.sidecar("--interval", "3600"):
        lab.until_log("All links connected")
        took = []
        for _ in range(20):
            lab.restart(name)
            wired = lab.wait_for(lambda: lab.addresses(name, "eth0"))
            took.append(wired + lab.wait_for(lambda: lab.pings("b", "10.0.0.1")))
            # Two ends and no third: those before are gone.
            ends = [row["ifname"] for row in lab.show("", "link", "show", "type", "veth")]
            assert len(ends) == 2
            assert all(len(end) <= 15 for end in ends)
        assert "Refused" not in lab.log(), "no third end was ever seen"
    measured(f"recreated 20 times, ping after {sorted(took)[10]:.3f} s (median)")


@pytest.mark.proves("defect 5")
def test_defect_05_two_long_names_of_one_container_do_not_clash(lab: Lab) -> None:
    lab.add("a-long-container-name")
    lab.config(
        "links: [{container: a-long-container-name, bridge: s1, dev: uplink0, ip: 10.0.0.1/24},"
        " {container: a-long-container-name, bridge: s2, dev: uplink1, ip: 10.1.0.1/24}]"
    )
    done = lab.reconcile("--once", "--network-file", str(lab.directory / "net.yaml"))
    assert done.stdout.endswith("All links connected\n"), done.stderr
    ends = {row["master"]: row for row in lab.show("", "link", "show", "type", "veth")}
    for bridge, dev in (("s1", "uplink0"), ("s2", "uplink1")):
        assert len(ends[bridge]["ifname"]) <= 15
        assert f"a-long-container-name:{dev}" in ends[bridge]["ifalias"], "who it is, in full"


@pytest.mark.proves("defect 6")
@pytest.mark.parametrize(
    ("kind", "options", "shown"),
    [
        ("vxlan", "local: 192.0.2.9, tos: 16", {"local": "192.0.2.9", "tos": "0x10"}),
        pytest.param("geneve", "tos: 16", {"tos": "0x10"}, marks=pytest.mark.needs("geneve")),
    ],
)
def test_defect_06_two_tunnels_with_one_vni_have_two_names_and_every_option(
    lab: Lab, kind: str, options: str, shown: dict[str, object]
) -> None:
    lab.add("a")
    lab.ip("", *"link add up0 mtu 1400 up address 02:00:00:00:00:01 type veth peer up1".split())  # noqa: SIM905
    lab.ip("", *"addr add 192.0.2.9/24 dev up0".split())  # noqa: SIM905
    lab.config(
        "links: [{container: a, bridge: s1, ip: 10.0.0.1/24}]\n"
        "tunnels:\n"
        f"- {{type: {kind}, bridge: s1, remote: 192.0.2.1, vni: 7}}\n"
        f"- {{type: {kind}, bridge: s1, remote: 192.0.2.2, vni: 7, port: 7777, ttl: 9, df: set, "
        f"mtu: 1300, {options}}}\n"
    )
    done = lab.reconcile("--once", "--network-file", str(lab.directory / "net.yaml"))
    assert done.returncode == 0, done.stderr
    tunnels = {
        row["linkinfo"]["info_data"]["remote"]: row
        for row in lab.show("", "link", "show", "type", kind)
    }
    assert tunnels["192.0.2.1"]["ifname"] == f"{kind}-7", "as conlink's"
    other = tunnels["192.0.2.2"]
    wanted = {"port": 7777, "ttl": 9, "df": "set", "id": 7, **shown}
    assert wanted.items() <= other["linkinfo"]["info_data"].items()
    assert (other["mtu"], other["master"]) == (1300, "s1")
    assert tunnels["192.0.2.1"]["mtu"] == 1350, "what the way there has room for"
    assert lab.show("a", "link", "show", "dev", "eth0")[0]["mtu"] == 1300, "what fits both"


@pytest.mark.proves("defect 7")
def test_defect_07_ipv6_has_replicas_routes_and_nat_too(lab: Lab) -> None:
    lab.add("node_1", "node_2", "server")
    lab.ip("server", *"link add in0 up type bridge".split())  # noqa: SIM905
    lab.ip("server", *"addr add fd09::9/64 dev in0 nodad".split())  # noqa: SIM905
    lab.config(
        'links:\n- {service: node, bridge: s1, ip: "fd00::1/64", '
        'route: "fd05::/64 via fd00::ffff"}\n'
        '- {container: server, bridge: s1, ip: "fd00::100/64", nat: "fd09::9"}\n'
    )
    done = lab.reconcile("--once", "--network-file", str(lab.directory / "net.yaml"))
    assert done.returncode == 0, done.stderr
    assert lab.addresses("node_2", "eth0") == {"fd00::2/64"}
    assert "via fd00::ffff dev eth0" in lab.ip("node_2", "-6", "route", "show", "fd05::/64")
    lab.wait_for(lambda: lab.pings("node_1", "fd00::2"))  # duplicate address detection
    lab.wait_for(lambda: lab.pings("node_1", "fd00::100"))
    # Who listens at the inner address alone is reached by the outer one, and answers as that.
    found = talk("node_1", ("fd00::100", 80), "server", 80, socket.SOCK_STREAM, bound="fd09::9")
    assert found.answered_by == "fd00::100"


@pytest.mark.proves("defect 8")
def test_defect_08_what_grows_with_a_replica_stays_within_its_bounds(lab: Lab) -> None:
    lab.add("node_1", "node_2", "node_3", "edge_1", "edge_2", "server")
    text = """\
links:
- {service: node, bridge: s1, ip: 10.0.0.254/24}
- {service: edge, bridge: s2, ip: 10.2.0.1/24}
- {container: server, bridge: s2, ip: 10.2.0.2/24}
"""
    lab.config(text)
    done = lab.reconcile("--once", "--network-file", str(lab.directory / "net.yaml"))
    assert done.returncode == 1
    for words in (
        r"node_2:eth0: Refused: .*10.0.0.254/24 \+ 1 is the broadcast address of 10.0.0.0/24",
        r"node_3:eth0: Refused: .*10.0.0.254/24 \+ 2 is past the end of 10.0.0.0/24",
        r"(edge_2|server):eth0: Refused: address 10.2.0.2 is already taken by (server|edge_2):eth0",
    ):
        assert re.search(words, done.stderr), done.stderr
    assert lab.addresses("node_1", "eth0") == {"10.0.0.254/24"}
    assert lab.addresses("edge_1", "eth0") == {"10.2.0.1/24"}

    lab.config("links: [{service: node, bridge: s1, ip: 10.0.0.1/24, forward: 99999:80/tcp}]")
    done = lab.reconcile("validate", "--network-file", str(lab.directory / "net.yaml"))
    assert done.returncode == 1
    assert "net.yaml:1:63: port 99999 is not between 1 and 65535" in done.stderr

    parent = "outer-dev: up0, base: conlink"
    seen = lab.preview(
        f"links: [{{service: edge, type: vlan, vlanid: 5, {parent}, offset: [vlanid]}}]"
    )
    tags = [dict(r.settings)["vlanid"] for r in seen.desired.resources.values()
            if isinstance(r, Link) and r.kind == "vlan"]  # fmt: skip
    assert sorted(map(str, tags)) == ["5", "6"]


@pytest.mark.proves("defect 9")
@pytest.mark.parametrize(
    ("entry", "place", "says"),
    [
        ("links: [{service: a, bridge: s1, mode: l2}]", "1:40", "'mode' is for macvlan"),
        ("links: [{service: a, bridge: s1, vlanid: 5}]", "1:42", "'vlanid' is for vlan"),
        ("bridges: [{bridge: s1, color: red}]", "1:24", "unknown key 'color'; allowed: bridge"),
        ("bridges: [{bridge: s1, mode: hub}]", "1:30", "allowed: auto, ovs, linux, patch"),
        ("links: [{service: a, bridge: s1, netem: 'delay 1ms; touch PWNED'}]", "1:41", "1ms;"),
        ("links: [{service: a, bridge: s1, ip: 10.0.0.1/24, route: 'default; touch PWNED'}]",
         "1:58", "default;"),
        ("links: [{service: a, bridge: s1, ethtool: '$$(touch PWNED) rx off'}]", "1:43",
         "expected one of -s"),
    ],
)  # fmt: skip
def test_defect_09_no_hole_in_the_schema_and_no_free_string(
    lab: Lab, entry: str, place: str, says: str
) -> None:
    lab.config(entry)
    done = lab.reconcile("--once", "--network-file", str(lab.directory / "net.yaml"))
    assert done.returncode == 1
    assert f"net.yaml:{place}: " in done.stderr, done.stderr
    assert says in done.stderr
    assert not list(lab.directory.rglob("PWNED"))
    assert not Path("PWNED").exists()


_LYING = """\
import os, sys
from tests.kernel.lab import mount
from model.keys import SELF
from reconciler.switches import auto_mode
if os.path.exists("/proc/modules"):  # a kernel without modules has no list to lie
    mount(sys.argv[1], "/proc/modules", "none", {bind})
print(*auto_mode(SELF))
"""


@pytest.mark.proves("defect 10")
@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        pytest.param("", "ovs system", marks=pytest.mark.needs("openvswitch"), id="there"),
        pytest.param(
            *("openvswitch 1 0 - Live 0x0\n", "linux netdev"),
            marks=pytest.mark.lacks("openvswitch"),
            id="absent",
        ),
    ],
)
def test_defect_10_auto_asks_the_kernel_and_not_the_list_of_modules(
    lab: Lab, listed: str, expected: str
) -> None:
    """The list says the opposite of what the kernel can."""
    modules = lab.directory / "modules"
    modules.write_text(listed)
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c",
         _LYING.format(bind=_MS_BIND), str(modules)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == expected, done.stderr


@pytest.mark.proves("defect 11")
@pytest.mark.parametrize("outside", ["172.31.0.9", "fd31::9"])
def test_defect_11_a_forward_keeps_the_clients_address_and_everybodys_marks(
    lab: Lab, outside: str
) -> None:
    """The client is seen behind a sidecar whose eth0 stands for Docker's."""
    lab.add("node_1", "node_2", "client")
    for where, words in (
        ("", "link add eth0 type veth peer name c0 netns client"),
        ("", "addr add 172.31.0.2/24 dev eth0"),
        ("", "addr add fd31::2/64 dev eth0 nodad"),
        ("", "link set eth0 up"),
        ("client", "addr add 172.31.0.9/24 dev c0"),
        ("client", "addr add fd31::9/64 dev c0 nodad"),
        ("client", "link set c0 up"),
    ):
        lab.ip(where, *words.split())
    lab.config(
        'links: [{service: node, bridge: s1, ip: [10.0.0.1/24, "fd00::1/64"], '
        "forward: 80:8080/tcp}]"
    )
    done = lab.reconcile("--once", "--network-file", str(lab.directory / "net.yaml"))
    assert done.returncode == 0, done.stderr
    sidecar = outside.removesuffix("9") + "2"
    for replica in (1, 2):
        lab.wait_for(lambda r=replica: not _tentative(lab, f"node_{r}"))  # type: ignore[misc]
        target = (sidecar, 79 + replica)
        found = talk("client", target, f"node_{replica}", 8080, socket.SOCK_STREAM)
        assert found == (outside, sidecar)
    rules = sh("nft", "list", "ruleset") + sh("ip", "netns", "exec", "node_1", "nft", "list",
                                               "ruleset")  # fmt: skip
    marks = {int(mark, 16) for mark in re.findall(r"mark set (0x[0-9a-f]+)", rules)}
    assert marks
    assert 1 not in marks


def _tentative(lab: Lab, name: str) -> bool:
    return "tentative" in lab.ip(name, "-6", "addr", "show", "dev", "eth0")


@pytest.mark.proves("defect 12")
def test_defect_12_configuration_is_reloaded_and_what_is_done_can_be_asked(lab: Lab) -> None:
    """A file's change, plans and status as data, the control socket."""
    lab.add("node_1", "server")
    lab.config(NET)
    file = str(lab.directory / "net.yaml")
    planned = lab.reconcile("--dry-run", "--output", "json", "--network-file", file)
    keys = {change["key"] for change in json.loads(planned.stdout)["changes"]}
    assert {"node_1:eth0", "self:s1"} <= keys
    with lab.sidecar("--interval", "3600"):
        lab.until_log("All links connected")
        index = lab.index("node_1", "eth0")
        lab.config(NET.replace("10.0.0.1/24}", "10.0.0.7/24, mtu: 1400}"))
        lab.wait_for(lambda: lab.addresses("node_1", "eth0") == {"10.0.0.7/24"})
        assert lab.index("node_1", "eth0") == index, "the same interface, changed in place"
        row = lab.link("node_1", "eth0") or {}
        assert row["mtu"] == 1400
        lab.wait_for(lambda: _status(lab, "node_1:eth0")["addresses"] == ["10.0.0.7/24"])
        asked = control.ask(lab.instance)
        assert asked
        assert asked["connected"] is True
        assert {link["key"] for link in asked["links"]} == {"node_1:eth0", "server:eth0"}


@pytest.mark.proves("defect 12")
def test_defect_12_what_the_sidecar_does_is_counted(lab: Lab) -> None:
    lab.add("node_1", "server")
    lab.config(NET)
    with lab.sidecar("--interval", "1"):
        lab.until_log("All links connected")
        # The next look at everything finds in place what it made.
        looks = ("relink_passes_total", "in_place", "everything")
        lab.wait_for(lambda: _metrics(lab)[looks] >= 1)
        first = _metrics(lab)
        assert first["relink_links", "Ready"] == 2
        assert first["relink_engine_connected", "netns"] == 1
        assert first["relink_build_info", __version__] == 1
        assert first["relink_changes_total", "create", "link"] == 5, "a bridge, two ends twice"
        assert sum(count for name, count in first.items() if "drift" in name[0]) == 0

        lab.ip("node_1", *"addr del 10.0.0.1/24 dev eth0".split())  # noqa: SIM905
        address = ("relink_drift_repaired_total", "create", "address")
        lab.wait_for(lambda: _metrics(lab)[address] == 1)
        lab.ip("", *"link set s1 down".split())  # noqa: SIM905
        bridge = ("relink_drift_repaired_total", "modify", "link")
        lab.wait_for(lambda: _metrics(lab)[bridge] >= 1)
        lab.ip("", *"link del server-eth0".split())  # noqa: SIM905
        # One end goes before the other, so that one may be found.
        ends = [("relink_drift_repaired_total", action, "link") for action in ("create", "replace")]
        lab.wait_for(lambda: sum(_metrics(lab)[each] for each in ends) == 2)
        second = _metrics(lab)
        for name in (address, bridge, *ends):
            changes = ("relink_changes_total", *name[1:])
            assert second[changes] == first[changes] + second[name]
        timed = [("relink_pass_duration_seconds_count", scope) for scope in SCOPES]
        assert sum(second[scope] for scope in timed) >= sum(first[scope] for scope in timed) + 3

        # Another configuration and a new life of a container are no drift, a refusal is a failure.
        before = {name: count for name, count in second.items() if "drift" in name[0]}
        for _ in range(10):
            lab.restart("server")
            lab.wait_for(lambda: lab.pings("server", "10.0.0.1"))
        lab.config(NET.replace("10.0.0.1/24}", "10.0.0.7/24, route: 10.5.0.0/16 via 10.77.0.1}"))
        lab.wait_for(lambda: _metrics(lab)["relink_links", "Ready"] == 1)
        third = _metrics(lab)
        assert {name: count for name, count in third.items() if "drift" in name[0]} == before
        assert sum(count for name, count in third.items() if "failures" in name[0]) >= 1

    done = lab.reconcile("metrics")
    assert done.returncode == 1
    assert "no sidecar answers here; start one, or name it by --instance" in done.stderr


def _metrics(lab: Lab) -> Counter[tuple[str, ...]]:
    """What a sidecar counted, by name and its labels' values in the order of the labels' names."""
    done = lab.reconcile("metrics")
    assert done.returncode == 0, done.stderr
    return Counter(
        {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(done.stdout)
            for sample in family.samples
        }
    )


@pytest.mark.needs("netem")
@pytest.mark.proves("defect 12")
def test_defect_12_netem_is_changed_on_the_living_link(lab: Lab) -> None:
    lab.add("node_1", "server")

    def told(delay: str) -> str:
        return NET.replace("10.0.0.1/24}", f"10.0.0.1/24, netem: delay {delay}}}")

    def shown() -> str:
        return sh("ip", "netns", "exec", "node_1", "tc", "qdisc", "show", "dev", "eth0")

    lab.config(told("1ms"))
    with lab.sidecar("--interval", "3600"):
        lab.until_log("All links connected")
        index, before = lab.index("node_1", "eth0"), shown()
        assert "delay 1ms" in before
        lab.config(told("30ms"))
        lab.wait_for(lambda: "delay 30ms" in shown())
        assert lab.index("node_1", "eth0") == index
        assert shown().split()[:3] == before.split()[:3], "the same qdisc"
