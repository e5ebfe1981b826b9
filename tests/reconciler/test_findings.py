"""What a pass says counts for the lives and the configuration that it was about, and no others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from model.facts import Facts
from model.keys import SELF, Key, NsKey, link_key
from model.replicas import Container
from reconciler import findings
from reconciler.containers import Roster
from reconciler.findings import Findings
from reconciler.sources import Sources, load
from reconciler.status import LinkStatus

NET = "links: [{service: node, bridge: s1, ip: 10.0.0.1/16}]"


@pytest.fixture
def found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Findings:
    """Findings of a network whose links are all as declared, as far as passes say."""
    file = tmp_path / "net.yaml"
    file.write_text(NET)
    roster = Roster(load(Sources((str(file),), (), {})).config, Facts(instance="lab", plane=SELF))

    def judge(done: Any, _ledger: object) -> dict[Key, LinkStatus]:
        return {key: LinkStatus(key, "Ready", "") for key in done.about}

    monkeypatch.setattr(findings, "judge", judge)
    engines, runs = cast("Any", SimpleNamespace(in_sync=True)), cast("Any", None)
    return Findings(roster, engines, runs)


def _starts(found: Findings, number: int) -> NsKey:
    name = f"node_{number}"
    container = Container(
        id=name, name=name, runtime="netns", netns=f"/run/netns/{name}", service="node",
        number=number,
    )  # fmt: skip
    ns = found._roster.put(container)
    assert ns
    found.forget(ns)
    found.expect(ns)
    return ns


def _says(found: Findings, *about: NsKey) -> None:
    keys = [link_key(ns, "eth0") for ns in about]
    done = SimpleNamespace(about=keys, desired=SimpleNamespace(resources={}))
    found._judge(cast("Any", done), None)


def test_a_container_that_starts_while_everything_is_looked_at_is_not_connected(
    found: Findings,
) -> None:
    first = _starts(found, 1)
    found.begin()
    second = _starts(found, 2)
    _says(found, first)
    assert not found.connected
    assert found.board.get(link_key(second, "eth0")) == LinkStatus(
        link_key(second, "eth0"), "Pending", "not looked at yet"
    )
    found.begin()
    _says(found, first, second)
    assert found.connected


def test_nor_one_that_restarts_meanwhile(found: Findings) -> None:
    first, second = _starts(found, 1), _starts(found, 2)
    found.begin()
    found.forget(second)  # what the pass has seen was its life before
    _says(found, first, second)
    assert not found.connected


def test_what_a_pass_found_of_another_configuration_does_not_count(found: Findings) -> None:
    first = _starts(found, 1)
    found.begin()
    found.start_afresh()
    found.expect(None)
    _says(found, first)
    assert not found.connected
