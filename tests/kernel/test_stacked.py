"""Links that are stacked on interfaces of ours: what is made first, what goes, what is kept."""

from __future__ import annotations

from model.keys import SELF, NsKey, link_key
from reconciler.passes import Pass
from reconciler.passes import run as run_pass
from tests.kernel.lab import Lab, container_key

ON_BRIDGE = """
links:
- {service: node, bridge: s1, ip: 10.0.0.1/16}
- {container: child, type: macvlan, base: conlink, outer-dev: s1, mode: bridge, ip: 10.0.9.9/16}
"""
# The name of the parent comes after that of the child.
ON_CABLE = """
links:
- {service: node, type: macvlan, base: local, outer-dev: up0, mode: bridge, ip: 10.0.0.1/16}
- {service: node, bridge: s1, dev: up0, mtu: 1400}
"""


def scoped(lab: Lab, text: str, ns: NsKey) -> Pass:
    world = lab.roster(text).world()
    return run_pass(world, frozenset((ns,)), decide=lambda plan, _desired: plan)


def test_a_look_at_the_child_alone_keeps_the_bridge_that_it_is_stacked_on(lab: Lab) -> None:
    lab.add("node_1", "child")
    lab.converge(ON_BRIDGE)
    before = lab.index("", "s1")
    assert not scoped(lab, ON_BRIDGE, container_key("child")).plan.steps
    lab.ip("child", "link", "del", "eth0")
    done = scoped(lab, ON_BRIDGE, container_key("child"))
    assert done.outcome
    assert not done.outcome.failures
    assert lab.index("", "s1") == before
    assert lab.addresses("child", "eth0") == {"10.0.9.9/16"}
    assert not lab.preview(ON_BRIDGE).plan.steps


def test_a_parent_is_made_before_its_child_whatever_they_are_called(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    done = lab.converge(ON_CABLE)
    assert done.outcome
    assert not done.outcome.failures
    assert not lab.preview(ON_CABLE).plan.steps
    assert lab.pings("node_1", "10.0.0.2")


def test_a_child_of_a_parent_that_is_made_anew_has_all_that_it_had_in_the_same_pass(
    lab: Lab,
) -> None:
    lab.add("node_1", "node_2")
    routed = ON_CABLE.replace("10.0.0.1/16}", "10.0.0.1/16, route: default via 10.0.0.254}")
    lab.converge(routed)
    lab.ip("", "link", "set", "node_1-up0", "name", "away")  # what is left of the pair is remade
    done = lab.converge(routed)
    assert done.outcome
    assert not done.outcome.failures
    assert lab.addresses("node_1", "eth0") == {"10.0.0.1/16"}
    assert not lab.preview(routed).plan.steps


def test_a_cable_becomes_a_child_of_a_new_one_in_the_same_pass(lab: Lab) -> None:
    lab.add("node_1", "node_2")
    lab.converge("links: [{service: node, bridge: s1, ip: 10.0.0.1/16, route: default}]")
    stacked = ON_CABLE.replace("10.0.0.1/16}", "10.0.0.1/16, route: default}")
    done = lab.converge(stacked)
    assert done.outcome
    assert not done.outcome.failures
    assert lab.addresses("node_1", "eth0") == {"10.0.0.1/16"}
    assert not lab.preview(stacked).plan.steps
    assert lab.pings("node_1", "10.0.0.2")


def test_a_child_that_is_larger_than_its_parent_has_its_parents_mtu_and_says_so(lab: Lab) -> None:
    lab.add("node_1")
    large = ON_CABLE.replace("mode: bridge", "mode: bridge, mtu: 9000")
    done = lab.converge(large)
    child = link_key(container_key("node_1"), "eth0")
    assert done.outcome
    assert not done.outcome.failures
    assert done.plan.notes == {child: "mtu 1400, that of node_1:up0, instead of 9000"}
    assert not lab.preview(large).plan.steps


def test_a_child_of_what_nobody_declares_any_more_waits_and_goes_with_it(lab: Lab) -> None:
    lab.add("node_1")
    lab.converge(ON_CABLE)
    without = "\n".join(ON_CABLE.splitlines()[:-1])
    done = lab.converge(without)
    assert done.outcome
    assert not done.outcome.failures
    child = link_key(container_key("node_1"), "eth0")
    assert [(o.key, o.state, o.message) for o in done.plan.obstacles] == [
        (child, "blocked", "node_1:up0 does not exist")
    ]
    assert lab.link("node_1", "eth0") is None
    assert link_key(SELF, "node_1-up0") not in lab.preview(without).snapshot.resources
