"""Each example's plan for an empty world, as people read it: golden, beside its containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.desired import Facts, desired
from model.keys import SELF
from model.ownership import group_of
from model.replicas import Container
from model.snapshot import Snapshot
from reconciler.diff import diff
from reconciler.plan import plan
from reconciler.render import plan_text
from reconciler.sources import Sources, load

ROOT = Path(__file__).parent.parent.parent
PLANS = Path(__file__).parent / "plans"
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
    empty = Snapshot({}, {}, {})
    text = plan_text(plan(diff(wanted, empty, group_of(name)), wanted.obstacles))
    golden = PLANS / f"{name}.txt"
    if os.environ.get("RELINK_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
