"""What this kernel lacks is Unsupported, in words that say what to do; everything else converges.

Under User Mode Linux nothing is lacking, and the same declarations are proved to work (needs(…)).
"""

from __future__ import annotations

import errno
import json
import os

import pytest

from actuators import nft, redirects
from actuators.requests import Verdict, judge
from actuators.transport import Answer
from model.keys import SELF, Key, link_key
from model.resources import Redirect
from tests.kernel.lab import Lab
from tests.lab import features

SOUND = """\
links:
- {container: a, bridge: s1, ip: 10.0.0.1/24, mtu: 1400}
- {container: b, bridge: s1, ip: 10.0.0.2/24, mtu: 1400}
"""
_STACKED = "base: conlink, outer-dev: up0"
_UNKNOWN_QDISC = "ENOENT: Specified qdisc kind is unknown"
_UNKNOWN_LINK = "EOPNOTSUPP: Unknown device type"
# feature → the entry that wants it, what has the status, the key and the words that a user sees
CASES = {
    "netem": (
        "- {container: a, bridge: s1, dev: eth1, ip: 10.0.1.1/24, netem: delay 40ms}", "a:eth1",
        f"netem: this kernel has no netem ({_UNKNOWN_QDISC}; module sch_netem)",
    ),
    "dummy": (
        "- {container: a, type: dummy, dev: d0, ip: 10.0.2.1/24}", "a:d0",
        f"type dummy: this kernel has no dummy links ({_UNKNOWN_LINK}; module dummy)",
    ),
    "8021q": (
        f"- {{container: a, type: vlan, {_STACKED}, dev: v0, vlanid: 5, ip: 10.0.3.1/24}}", "a:v0",
        f"type vlan: this kernel has no vlan links ({_UNKNOWN_LINK}; module 8021q)",
    ),
    "ipvlan": (
        f"- {{container: a, type: ipvlan, {_STACKED}, dev: i0, ip: 10.0.4.1/24}}", "a:i0",
        f"type ipvlan: this kernel has no ipvlan links ({_UNKNOWN_LINK}; module ipvlan)",
    ),
    "ipvtap": (
        f"- {{container: a, type: ipvtap, {_STACKED}, dev: t0, ip: 10.0.5.1/24}}", "a:t0",
        f"type ipvtap: this kernel has no ipvtap links ({_UNKNOWN_LINK}; module ipvtap)",
    ),
    "geneve": (
        "tunnels: [{type: geneve, bridge: s1, remote: 192.0.2.1, vni: 7}]", "self:geneve-7",
        f"type geneve: this kernel has no geneve links ({_UNKNOWN_LINK}; module geneve)",
    ),
}  # fmt: skip


@pytest.fixture
def lacking(lab: Lab) -> dict[str, tuple[str, str, str]]:
    """Return the cases of what this kernel lacks, in a lab of two containers and a parent."""
    found = {name: case for name, case in CASES.items() if not features.has(name)}
    if not found:
        pytest.skip("this kernel lacks none of these; .ci/run is on one that lacks all of them")
    lab.add("a", "b")
    lab.ip("", "link", "add", "up0", "up", "type", "veth", "peer", "name", "up1")
    return found


def _entries(lacking: dict[str, tuple[str, str, str]]) -> str:
    return SOUND + "".join(f"{entry}\n" for entry, _key, _words in lacking.values())


def test_the_rest_converges_and_nothing_is_called_connected(
    lab: Lab, lacking: dict[str, tuple[str, str, str]]
) -> None:
    lab.config(_entries(lacking))
    with lab.sidecar("--interval", "3600"):
        for _entry, key, _words in lacking.values():
            lab.wait_for(lambda key=key: _failed(lab, key))  # type: ignore[misc]
        lab.monitor.settle()  # it is tried again meanwhile, and what waits is what it was
        lab.wait_for(lambda: lab.pings("a", "10.0.0.2"))
        answer = lab.reconcile("status", "--output", "json")
        links = {link["key"]: link for link in json.loads(answer.stdout)["links"]}
        for entry, key, words in lacking.values():
            assert links[key]["state"] == "Unsupported", links[key]
            line = _entries(lacking).splitlines().index(entry) + 1
            place = f"{lab.directory}/net.yaml:{line}:"
            assert links[key]["message"].startswith(f"{words}; declared at {place}"), links[key]
        assert [links[key]["state"] for key in ("a:eth0", "b:eth0")] == ["Ready", "Ready"]
        assert answer.returncode == 2
        picture = lab.reconcile(
            *("graph", "--live", "--format", "json"),
            *("--network-file", str(lab.directory / "net.yaml")),
        )
        drawn = {
            (edge["source"].partition(":")[2], edge["dev"]): edge["live"]
            for edge in json.loads(picture.stdout)["edges"]
        }
        for (node, dev), live in drawn.items():
            link = links.get(f"{node}:{dev}") or links[f"self:{dev}"]
            assert (live["state"], live["message"]) == (link["state"], link["message"])
        assert json.loads(answer.stdout)["connected"] is False
        assert lab.reconcile("status", "--check").returncode == 1
        assert "All links connected" not in lab.log()
        if "netem" in lacking:  # of one link, all but that
            assert lab.addresses("a", "eth1") == {"10.0.1.1/24"}

        lab.config(SOUND)  # taken out, everything is well
        lab.until_log("All links connected")
        assert lab.reconcile("status", "--check").returncode == 0


def _failed(lab: Lab, key: str) -> bool:
    return any(
        event["event"] == "step_failed" and event["key"].startswith(key) for event in lab.events()
    )


def test_once_says_so_and_fails(lab: Lab, lacking: dict[str, tuple[str, str, str]]) -> None:
    waits = "- {container: a, type: macvlan, base: conlink, outer-dev: none, dev: m0}\n"
    lab.config(SOUND + waits + _entries(lacking).removeprefix(SOUND))
    done = lab.reconcile("--once", "--network-file", str(lab.directory / "net.yaml"))
    assert done.returncode == 1
    said = done.stderr.splitlines()
    for _entry, key, words in lacking.values():
        assert sum(line.startswith(f"{key}: Unsupported: {words}") for line in said) == 1, said
    assert sum(line.startswith("a:m0: Blocked: ") for line in said) == 1, said
    assert len(said) == len(lacking) + 1
    (counted,) = [line for line in done.stdout.splitlines() if line.startswith("Done: ")]
    assert counted.endswith(f" 0 deleted, {len(lacking)} failed, 1 not possible.")
    assert "All links connected" not in done.stdout
    assert lab.pings("a", "10.0.0.2")


class _Numbers:
    def index(self, _link: Key) -> int:
        return 5


def test_a_patch_on_a_kernel_without_its_parts_says_which() -> None:
    """No machine at hand lacks these: what the kernel would answer is taken from its source."""
    end = Key(SELF, "redirect", "e0")
    wanted = Redirect(key=end, target=link_key(SELF, "e1"))
    ingress, filter_ = redirects.create(wanted, _Numbers())  # type: ignore[arg-type]
    assert str(Answer(ingress, errno.ENOENT, "unknown")) == (
        "this kernel has no ingress qdiscs (ENOENT: unknown; module sch_ingress)"
    )
    assert str(Answer(filter_, errno.ENOENT, "not found")) == (
        "this kernel has no u32 filters with mirred actions "
        "(ENOENT: not found; module cls_u32 and act_mirred)"
    )
    assert {judge(ingress, errno.ENOENT), judge(filter_, errno.ENOENT)} == {Verdict.UNSUPPORTED}
    assert judge(filter_, errno.ENODEV) == Verdict.VANISHED


def test_nftables_without_a_part_are_unsupported() -> None:
    words = f"internal:0:0-0: Error: Could not process rule: {os.strerror(errno.ENOENT)}"
    assert nft._number(words) == errno.EOPNOTSUPP
