"""What the sidecar counts, as Prometheus' text; decides nothing, and no decision depends on it."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from actuators.requests import Verdict
from model.keys import NsKey
from model.wanted import Wiring
from reconciler import __version__
from reconciler.diff import Change
from reconciler.passes import Pass, World
from reconciler.status import LinkStatus, State

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
SCOPES = ("everything", "data_plane", "containers")
_OUTCOMES = ("in_place", "changed", "failed", "unreadable")

# Times of creation are OpenMetrics', and would double what is said.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Counts since the start of one sidecar. Passes are noted; what is a state is asked for."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._passes = Counter(
            "relink_passes", "Looks at a scope, by what came of them.",
            ["scope", "outcome"], registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "relink_pass_duration_seconds", "How long a look took, with what it changed.",
            ["scope"], registry=registry, buckets=_BUCKETS,
        )  # fmt: skip
        self._changes = Counter(
            "relink_changes", "Changes that were carried out.",
            ["type", "action"], registry=registry,
        )  # fmt: skip
        self._repairs = Counter(
            "relink_drift_repaired",
            "Those of the changes that put right what had been as declared, and was not any more.",
            ["type", "action"], registry=registry,
        )  # fmt: skip
        self._failures = Counter(
            "relink_failures", "Changes that were tried and did not succeed, by what is to come.",
            ["verdict"], registry=registry,
        )  # fmt: skip
        self._links = Gauge(
            "relink_links", "Declared links of running containers, by state.",
            ["state"], registry=registry,
        )  # fmt: skip
        self._engines = Gauge(
            "relink_engine_connected", "1 where an engine is heard.", ["engine"], registry=registry
        )
        Info("relink_build", "What runs.", registry=registry).info({"version": __version__})
        for scope in SCOPES:
            self._seconds.labels(scope)
            for outcome in _OUTCOMES:
                self._passes.labels(scope, outcome)
        for verdict in Verdict:
            if verdict != Verdict.DONE:
                self._failures.labels(verdict.value)
        # What each namespace should have, once a pass has found it in place.
        self._in_place: dict[NsKey, Wiring] = {}

    def failed(self, world: World, scope: frozenset[NsKey] | None, seconds: float) -> None:
        """Note a pass that could not look."""
        self._note(world, scope, "unreadable", seconds)

    def passed(
        self,
        world: World,
        scope: frozenset[NsKey] | None,
        done: Pass,
        owners: Mapping[str, NsKey],
        *,
        changed: Container[NsKey],
        seconds: float,
    ) -> None:
        """Note what a pass did.

        `owners` says whose outer end an interface of the plane is; `changed`, which containers
        began or ended a life meanwhile: what the pass found in place was in the one before.
        """
        changes = done.outcome.done if done.outcome else ()
        failures = done.outcome.failures if done.outcome else ()
        for failure in failures:
            if not failure.needed:
                self._failures.labels(failure.verdict.value).inc()
        for step in changes:
            self._changes.labels(step.key.type, step.action).inc()
        for step in self._drift(world, changes, owners):
            self._repairs.labels(step.key.type, step.action).inc()
        looked = world.wirings.keys() if scope is None else scope & world.wirings.keys()
        for ns in looked - {_owner(step, world, owners) for step in done.plan.steps}:
            if ns not in changed:
                self._in_place[ns] = world.wirings[ns]
        if scope is None:
            for ns in self._in_place.keys() - world.wirings.keys():
                del self._in_place[ns]
        outcome = "failed" if failures else "changed" if changes else "in_place"
        self._note(world, scope, outcome, seconds)

    def forget(self, ns: NsKey) -> None:
        """A container begins a new life: what is missing in it is no drift."""
        self._in_place.pop(ns, None)

    def _drift(
        self, world: World, changes: Iterable[Change], owners: Mapping[str, NsKey]
    ) -> Iterator[Change]:
        """Yield what was put right though nothing else is wanted than what was in place."""
        for step in changes:
            ns = _owner(step, world, owners)
            wanted = world.wirings.get(ns)
            # Another configuration has wirings of its own.
            same = wanted is not None and self._in_place.get(ns) is wanted
            # What goes is of a container that has gone; and how a command ended is no drift.
            if same and step.after is not None and step.key.type != "command":
                yield step

    def _note(
        self, world: World, scope: frozenset[NsKey] | None, outcome: str, seconds: float
    ) -> None:
        if scope is None:
            name = "everything"
        else:
            name = "data_plane" if world.facts.plane in scope else "containers"
        self._passes.labels(name, outcome).inc()
        self._seconds.labels(name).observe(seconds)

    def text(self, links: Iterable[LinkStatus], engines: Mapping[str, str]) -> bytes:
        """Return everything as it is now; `engines` has each one's state in words."""
        states = Count(link.state for link in links)
        for state in get_args(State):
            self._links.labels(state).set(states[state])
        for engine, state in engines.items():
            self._engines.labels(engine).set(state == "connected")
        return generate_latest(self._registry)


def _owner(step: Change, world: World, owners: Mapping[str, NsKey]) -> NsKey:
    """Return whose a change is: an outer end in the data plane is its container's."""
    plane = world.facts.plane
    return owners.get(step.key.dev, plane) if step.key.ns == plane else step.key.ns
