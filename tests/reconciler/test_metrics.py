"""What counts as drift that was repaired: only what was in place in this life of a container."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from model.keys import SELF, NsKey, link_key
from reconciler.metrics import Metrics

NODE = NsKey("container", "node", "node")
WORLD: Any = SimpleNamespace(facts=SimpleNamespace(plane=SELF), wirings={NODE: object()})


def _repaired(metrics: Metrics) -> float:
    text = metrics.text((), {}).decode()
    told = [line for line in text.splitlines() if line.startswith("relink_drift_repaired_total{")]
    return sum(float(line.split()[-1]) for line in told)


def _passes(metrics: Metrics, *, makes: bool, meanwhile: frozenset[NsKey] = frozenset()) -> None:
    """Look, and find all in place or make a link, while some containers begin a new life."""
    link = SimpleNamespace(key=link_key(NODE, "eth0"), action="create", after=object())
    steps = [link] if makes else []
    done = SimpleNamespace(
        plan=SimpleNamespace(steps=steps), outcome=SimpleNamespace(done=steps, failures=())
    )
    metrics.passed(WORLD, None, cast("Any", done), {}, changed=meanwhile, seconds=0.0)


def test_what_was_in_place_and_is_made_again_is_drift() -> None:
    metrics = Metrics()
    _passes(metrics, makes=False)
    _passes(metrics, makes=True)
    assert _repaired(metrics) == 1


@pytest.mark.parametrize("when", ["between", "meanwhile"])
def test_what_is_made_in_a_new_life_is_none(when: str) -> None:
    """Also where it began while all was found in place, which was in the one before."""
    metrics = Metrics()
    _passes(metrics, makes=False, meanwhile=frozenset({NODE} if when == "meanwhile" else ()))
    if when == "between":
        metrics.forget(NODE)
    _passes(metrics, makes=True)
    assert _repaired(metrics) == 0
