"""SIGKILL at every message of a converge, then a restart: as if nothing had happened."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence

from actuators.requests import Request
from actuators.transport import Answer, send
from model.keys import NsKey
from model.resources import Link
from reconciler.passes import Pass
from tests.kernel.lab import Lab

NET = """
links:
- {service: node, bridge: s1, ip: [10.0.0.1/16, "fd00::1/64"], mtu: 1500,
   route: [default via 10.0.255.1, "fd01::/64 via fd00::ffff", blackhole 192.0.2.0/24]}
- {container: server, bridge: s2, ip: 10.0.255.1/16, outer-dev: uplink}
"""
CHANGED = NET.replace("mtu: 1500", "mtu: 1400").replace("10.0.0.1/16", "10.1.0.1/16").replace(
    "default via 10.0.255.1", "default via 10.1.255.1"
).replace("bridge: s2", "bridge: s3")  # fmt: skip


def test_sigkill_at_every_step_of_a_converge(lab: Lab) -> None:
    assert _every_step(lab, before=None, after=NET) > 20


def test_sigkill_at_every_step_of_a_change(lab: Lab) -> None:
    assert _every_step(lab, before=NET, after=CHANGED) > 8


def test_sigkill_at_every_step_of_a_repair(lab: Lab) -> None:
    def damage() -> None:
        lab.ip("node_1", "link", "del", "eth0")
        lab.ip("", "link", "del", "s2")
        lab.ip("node_2", "addr", "del", "10.0.0.2/16", "dev", "eth0")

    assert _every_step(lab, before=NET, after=NET, damage=damage) > 15


def test_sigkill_at_every_step_of_a_teardown(lab: Lab) -> None:
    assert _every_step(lab, before=NET, after="links: []") >= 4


def _every_step(lab: Lab, before: str | None, after: str, damage: object = None) -> int:
    """Kill a converge from `before` to `after` after 0, 1, 2, … messages; return how many."""
    names = ("node_1", "node_2", "server")
    lab.add(*names)
    lab.ip("server", "link", "add", "mine0", "type", "bridge")  # not ours, through all of it
    prepare = before or "links: []"
    _from_scratch(lab, prepare, damage)
    lab.converge(after)
    golden = world_of(lab, names)

    steps = 0
    while True:
        _from_scratch(lab, prepare, damage)
        died = _converge_and_die(lab, after, steps)
        untouched = {ns: lab.index(ns, "eth0") for ns in names}
        right = {str(k) for k in _right(lab, after)}
        lab.monitor.heard()
        done = lab.converge(after)
        assert done.outcome is not None
        assert not done.outcome.failures
        assert not {str(s.key) for s in done.plan.steps if s.action == "create"} & right
        assert world_of(lab, names) == golden, f"killed after {steps} messages"
        assert lab.converge(after).plan.steps == ()
        # What was right before the restart is not even written to.
        rang = {h.namespace for h in lab.monitor.heard() if not h.is_late_news}
        idle = set(names) - {s.key.ns.name for s in done.plan.steps} - _emptied(done)
        assert not rang & {lab.number(name) for name in idle}, f"killed after {steps} messages"
        made = {s.key.ns.name for s in done.plan.steps if s.action in ("create", "replace")}
        for ns in set(names) - made:
            assert lab.index(ns, "eth0") in (0, untouched[ns])
        if not died:
            return steps
        steps += 1


def _emptied(done: Pass) -> set[str]:
    """Containers whose links go with their outer ends."""
    return {
        s.before.peer.ns.name
        for s in done.plan.steps
        if s.action == "delete" and isinstance(s.before, Link) and s.before.peer
    }


def _from_scratch(lab: Lab, text: str, damage: object) -> None:
    lab.converge("links: []")
    lab.converge("links: [{service: none, bridge: s0}]")
    lab.converge(text)
    if callable(damage):
        damage()


def _right(lab: Lab, text: str) -> set[object]:
    """What is already as declared before the restart."""
    done = lab.preview(text)
    return set(done.desired.resources) - {s.key for s in done.plan.steps}


def _converge_and_die(lab: Lab, text: str, messages: int) -> bool:
    """Converge in a child that kills itself after so many messages; False if it got to the end."""

    def dying(requests: Sequence[Request], sockets: Mapping[NsKey, socket.socket]) -> list[Answer]:
        nonlocal left
        answers: list[Answer] = []
        for request in requests:
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            answers += send([request], sockets)
        return answers

    left = messages
    child = os.fork()
    if child == 0:
        code = 1
        try:
            lab.converge(text, sender=dying)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def world_of(lab: Lab, names: Sequence[str]) -> object:
    """Everything but what each new link has anew: indexes, random outer MACs, counters."""
    found = []
    for ns in ("", *names):
        for row in lab.show(ns, "addr"):
            addresses = sorted(
                f"{a['local']}/{a['prefixlen']}" for a in row["addr_info"] if a["scope"] == "global"
            )
            mac = row["address"] if ns and row["ifname"] != "mine0" else ""
            found.append(
                (ns, row["ifname"], row["mtu"], row.get("master"), "UP" in row["flags"], mac,
                 row.get("ifalias"), row.get("group"), addresses)
            )  # fmt: skip
        for words in (("route",), ("-6", "route")):
            found += sorted(
                (ns, r["dst"], r.get("gateway"), r.get("dev"), r.get("type"))
                for r in lab.show(ns, *words)
                if r.get("protocol") != "kernel"
            )
    return sorted(map(str, found))
