"""What grows with a replica's number, and what is each replica's own."""

from __future__ import annotations

import json

import pytest

from tests.kernel.lab import Lab


def _macs(lab: Lab, *numbers: int) -> list[str]:
    return [str((lab.link(f"node_{n}", "eth0") or {})["address"]) for n in numbers]


def _addresses(lab: Lab, *numbers: int) -> list[set[str]]:
    return [lab.addresses(f"node_{n}", "eth0") for n in numbers]


@pytest.mark.proves("per-replica")
def test_own_words_replace_and_further_replicas_follow_the_offset_rule(lab: Lab) -> None:
    lab.add("node_1", "node_2", "node_3", "node_4")
    net = """
links:
- service: node
  bridge: s1
  ip: [10.0.1.1/24, "fd00:1::1/64"]
  mac: "02:00:00:00:01:01"
  mtu: 1500
  route: 10.9.0.0/16 via 10.0.1.254
  per-replica:
  - {ip: 10.0.1.77/24}
  - {mtu: 1400, mac: "02:00:00:00:0a:0a", route: 10.8.0.0/16 via 10.0.1.254}
"""
    done = lab.converge(net)
    assert done.plan.obstacles == ()
    assert _addresses(lab, 1, 2, 3, 4) == [
        {"10.0.1.77/24"},  # its own, as it is written
        {"10.0.1.2/24", "fd00:1::2/64"},
        {"10.0.1.3/24", "fd00:1::3/64"},
        {"10.0.1.4/24", "fd00:1::4/64"},
    ]
    assert _macs(lab, 1, 2, 3, 4) == [
        "02:00:00:00:01:01", "02:00:00:00:0a:0a", "02:00:00:00:01:03", "02:00:00:00:01:04",
    ]  # fmt: skip
    mtus = [(lab.link(f"node_{n}", "eth0") or {})["mtu"] for n in (1, 2, 3, 4)]
    assert mtus == [1500, 1400, 1500, 1500]
    ways = [{r["dst"] for r in lab.show(f"node_{n}", "route")} for n in (1, 2, 3)]
    assert ["10.8.0.0/16" in dst for dst in ways] == [False, True, False]
    assert ["10.9.0.0/16" in dst for dst in ways] == [True, False, True]
    assert lab.converge(net).plan.steps == ()
    lab.wait_for(lambda: lab.pings("node_1", "10.0.1.4"))


@pytest.mark.proves("per-replica")
def test_what_is_offset_can_be_chosen(lab: Lab) -> None:
    """A veth for each, since two replicas may then have one address: on a bridge of their own."""
    lab.add("node_1", "node_2")
    link = """
links:
- {service: node, bridge: s1, ip: 10.0.1.1/24, mac: "02:00:00:00:01:01", offset: [OFFSET],
   per-replica: [{}, {bridge: s2}]}
"""
    for offset, address, mac in (
        ("ip, mac", "10.0.1.2/24", "02:00:00:00:01:02"),
        ("ip", "10.0.1.2/24", "02:00:00:00:01:01"),
        ("mac", "10.0.1.1/24", "02:00:00:00:01:02"),
        ("", "10.0.1.1/24", "02:00:00:00:01:01"),
    ):
        net = link.replace("OFFSET", offset)
        assert lab.converge(net).plan.obstacles == (), offset
        assert (_addresses(lab, 1, 2), _macs(lab, 1, 2)) == (
            [{"10.0.1.1/24"}, {address}],
            ["02:00:00:00:01:01", mac],
        )
        assert lab.converge(net).plan.steps == ()


@pytest.mark.proves("per-replica", "defect 8")
def test_what_two_replicas_claim_the_first_has_and_the_rest_converges(lab: Lab) -> None:
    """Replica 1 is written the address that the rule gives to replica 3."""
    lab.add("node_1", "node_2", "node_3")
    lab.config(
        "links: [{service: node, bridge: s1, ip: 10.0.1.1/24, per-replica: [{ip: 10.0.1.3/24}]}]"
    )
    with lab.sidecar("--interval", "3600"):
        lab.until_log("not_ready")
        rows = json.loads(lab.reconcile("status", "--output", "json").stdout)["links"]
        said = {row["key"]: (row["state"], row["message"]) for row in rows}
        assert {key: state for key, (state, _) in said.items() if key.startswith("node")} == {
            "node_1:eth0": "Ready", "node_2:eth0": "Ready", "node_3:eth0": "Refused",
        }  # fmt: skip
        assert said["node_3:eth0"][1] == "address 10.0.1.3 is already taken by node_1:eth0"
        assert _addresses(lab, 1, 2) == [{"10.0.1.3/24"}, {"10.0.1.2/24"}]
        assert lab.link("node_3", "eth0") is None
        lab.remove("node_1")
        lab.wait_for(lambda: lab.addresses("node_3", "eth0") == {"10.0.1.3/24"})
        lab.until_log("All links connected")


@pytest.mark.needs("8021q")
@pytest.mark.proves("offset vlanid")
def test_a_tag_grows_only_where_it_is_said(lab: Lab) -> None:
    """Without it the second replica wants a tag that a parent has only once."""
    lab.add("node_1", "node_2")
    for name in ("up0", "up1"):
        lab.ip("", *f"link add {name} type veth peer name far-{name}".split())
        lab.ip("", "link", "set", name, "up")

    def net(more: str) -> str:
        return (
            "links: [{service: node, type: vlan, base: conlink, outer-dev: up0, vlanid: 100, "
            f"ip: 10.0.1.1/24{more}}}]"
        )

    def tags() -> list[object]:
        rows = [lab.link(f"node_{n}", "eth0") for n in (1, 2)]
        return [row and row["linkinfo"]["info_data"]["id"] for row in rows]

    done = lab.converge(net(""))
    assert [o.message for o in done.plan.obstacles] == [
        "vlanid 100 of self:up0 is already taken by node_1:eth0"
    ]
    assert tags() == [100, None]
    done = lab.converge(net(", per-replica: [{}, {outer-dev: up1}]"))
    assert (done.plan.obstacles, tags()) == ((), [100, 100])
    assert lab.addresses("node_2", "eth0") == {"10.0.1.2/24"}

    growing = net(", offset: [ip, mac, vlanid]")
    assert lab.converge(growing).plan.obstacles == ()
    assert tags() == [100, 101]
    assert lab.converge(growing).plan.steps == ()

    past = growing.replace("vlanid: 100", "vlanid: 4094")
    obstacles = {str(o.key): o.message for o in lab.converge(past).plan.obstacles}
    assert obstacles.keys() == {"node_2:eth0"}
    assert "vlanid 4094 + 1 is past 4094" in obstacles["node_2:eth0"]
    assert tags()[0] == 4094
