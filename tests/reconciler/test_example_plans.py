"""Each example's plan for an empty world, as people read it: golden, beside its containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.desired import desired
from model.facts import Facts
from model.keys import HOST, SELF, link_key
from model.ownership import group_of
from model.replicas import Container
from model.resources import Link
from model.snapshot import Snapshot
from reconciler.diff import diff
from reconciler.plan import plan
from reconciler.render import plan_text
from reconciler.sources import Sources, load

ROOT = Path(__file__).parent.parent.parent
PLANS = Path(__file__).parent / "plans"
MODES = "examples/test4-multiple/modes"
NAMES = {"NODE_NAME_1": "first", "NODE_NAME_2": "second"}


def services(**scale: int) -> list[Container]:
    return [
        Container(
            f"{name}{i}".ljust(64, "0"), f"x_{name}_{i}", "docker", "", service=name, number=i
        )
        for name, count in scale.items()
        for i in range(1, count + 1)
    ]


EXAMPLES = {
    "test1": (Sources((), ("examples/test1-compose.yaml",), {}), services(r0=1, h1=1, h2=1, h3=1)),
    "test2": (
        Sources(("examples/test2-network.yaml",), ("examples/test2-compose.yaml",), {}),
        services(r0=1, internet=1, node=5),
    ),
    "test4": (
        Sources(
            (f"{MODES}/web/web-network.yaml",),
            tuple(f"{MODES}/{mode}/compose.yaml" for mode in ("base", "node1", "nodes2", "web")),
            {},
        ),
        services(r0=1, node1=1, node2=2),
    ),
    "test5": (
        Sources(
            (),
            ("examples/test5-geneve-compose.yaml",),
            {"REMOTE": "198.51.100.2", "NODE_ADDR": "192.168.100.1/24"},
        ),
        services(node=1),
    ),
    "test7": (Sources((), ("examples/test7-compose.yaml",), {}), services(node=2)),
    "test8": (
        Sources(
            (),
            ("examples/test8-compose.yaml",),
            {
                "HOST_INTERFACE": "enp6s0",
                "NODE1_HOST_ADDRESS": "198.51.100.32/24",
                "NODE2_HOST_ADDRESS": "203.0.113.33/24",
            },
        ),
        services(node1=1, node2=1),
    ),
    "test9": (
        Sources((), ("examples/test9-compose.yaml",), {"BRIDGE_MODE": "linux"}),
        services(node1=1, node2=1),
    ),
    "test10": (
        Sources((), ("examples/test10-compose.yaml",), {}),
        services(router=1, node1=1, node2=2),
    ),
    "test11": (
        Sources((), ("examples/test11-compose.yaml",), {}),
        services(node1=1, node2=1),
    ),
    "test3": (
        Sources(("examples/test3-network.yaml",), (), NAMES),
        [Container(name, name, "netns", "") for name in ("first", "second")],
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_plan_of_an_example(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    sources, containers = EXAMPLES[name]
    wanted = desired(load(sources).config, containers, Facts(instance=name, plane=SELF))
    physical = Link(key=link_key(HOST, "enp6s0"), kind="", mtu=1500)  # all that there is
    empty = Snapshot({physical.key: physical}, {}, {})
    text = plan_text(plan(diff(wanted, empty, group_of(name)), wanted.obstacles))
    golden = PLANS / f"{name}.txt"
    if os.environ.get("RELINK_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
