"""What a look at the kernel found of each declared thing, for a picture: judged as status is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from model.graph import Sight
from model.keys import Key
from model.netem import impairments
from model.resources import Link, OvsBridge, Qdisc, Resource
from reconciler.passes import Pass
from reconciler.render import drift
from reconciler.status import judge

# What only who has tried can tell of a step that is still to be done.
_TRIED = ("Backoff", "Fighting", "Refused", "Unsupported")


def sights(done: Pass, told: Mapping[str, tuple[str, str]]) -> dict[Key, Sight]:
    """Return how each declared link, tunnel and bridge is, by the keys that status has for them.

    Args:
        done: a look at the kernel.
        told: key → state and message, as a running sidecar has them; what it tried and could not do
            is said as it says it.
    """
    found: dict[Key, Sight] = {}
    for key, status in judge(done).items():
        parts = frozenset(done.desired.parts.get(key, (key,)))
        steps = [step for step in done.plan.steps if step.key in parts]
        netem = ", ".join(_impaired(key, parts, done.desired.resources, done.snapshot.resources))
        state: str = status.state
        message = status.message
        if state == "Pending" and told.get(str(key), ("", ""))[0] in _TRIED:
            state, message = told[str(key)]
        found[key] = Sight(state, message, drift(steps, key), netem)
    return {**dict(_bridges(done)), **found}


def _impaired(
    link: Key, parts: frozenset[Key], wanted: Mapping[Key, Resource], seen: Mapping[Key, Resource]
) -> Iterator[str]:
    """Yield the impairments of both ends of a link, as the kernel has them."""
    ends = [key for key in parts if key.type == "link"]
    for end in sorted(ends, key=lambda key: (key != link, key)):
        qdisc = seen.get(Key(end.ns, "qdisc", end.dev, "root"))
        if isinstance(qdisc, Qdisc) and isinstance(wanted.get(end), Link):
            where = "" if end == link else f"{end.dev}: "
            yield where + (impairments(qdisc.netem) or f"{qdisc.kind} of somebody else")


def _bridges(done: Pass) -> Iterator[tuple[Key, Sight]]:
    """Yield how each bridge is: what makes it is not part of any one link."""
    obstacles = {obstacle.key: obstacle for obstacle in done.plan.obstacles}
    steps = {step.key: step for step in done.plan.steps}
    for key, wanted in done.desired.resources.items():
        plain = isinstance(wanted, Link) and wanted.kind == "bridge"
        if not (plain or isinstance(wanted, OvsBridge)):
            continue
        name = Key(key.ns, "link", key.dev)
        of_it = [step for part in (key, name) if (step := steps.get(part))]
        if obstacle := obstacles.get(key) or obstacles.get(name):
            yield name, Sight(obstacle.state.capitalize(), obstacle.message)
        elif of_it:
            yield name, Sight("Pending", f"to {of_it[0].action}", drift(of_it, key))
        else:
            yield name, Sight("Ready")
