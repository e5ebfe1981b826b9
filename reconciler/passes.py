"""One pass: apply(plan(diff(desired, observe(scope)))). No memory, no clock, no retries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from actuators.transport import send
from model.desired import Desired, Facts, Wiring, combine
from model.keys import Key, NsKey
from model.ownership import group_of
from model.replicas import Container
from model.resources import Link, Offload
from model.snapshot import Snapshot
from observers.namespaces import Opened, open_all, path_exists
from observers.snapshot import observe
from reconciler.apply import Outcome, Send, apply
from reconciler.diff import diff
from reconciler.plan import Plan, plan


@dataclass(frozen=True, slots=True)
class World:
    """What a pass is about: what each namespace should have, and which containers there are.

    `wirings` holds the data plane's under its key, and one for each container that has links.
    """

    facts: Facts
    wirings: Mapping[NsKey, Wiring]
    containers: Mapping[NsKey, Container]


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass saw, planned and did; `outcome` is None where nothing was to be carried out."""

    desired: Desired
    snapshot: Snapshot
    plan: Plan
    outcome: Outcome | None = None


# What of a plan to carry out now; `desired` is for finding what a step needs.
Decide = Callable[[Plan, Desired], Plan]


def run(
    world: World,
    scope: frozenset[NsKey] | None = None,
    *,
    also: Iterable[str] = (),
    want: Desired | None = None,
    decide: Decide | None = None,
    watch: Callable[[Opened], None] | None = None,
    sender: Send = send,
) -> Pass:
    """Look at `scope` (None is everything), and carry out what `decide` leaves of the plan.

    Without `decide` nothing is written: that is a preview. `watch` is called before the namespaces
    are closed, for whoever wants to know them. A scope names containers; what they need of the data
    plane is looked up by name, and so are the interfaces in `also`. `want` stands in for what the
    world should be.

    Raises:
        OSError: the data plane could not be opened or read.
    """
    facts = world.facts
    desired = scoped(world, scope) if want is None else want
    containers = world.containers
    if scope is not None:  # what a look at one container costs must not grow with their number
        containers = {
            ns: containers[ns] for ns in scope if ns in containers and _declared(world, ns)
        }
    names = None
    if scope is not None:
        names = sorted({k.dev for k in desired.resources if k.ns == facts.plane}.union(also))
    # A pinned plane that nobody made yet is empty.
    planes = [facts.plane] if path_exists(facts.plane) else []
    with open_all(planes, containers) as opened:
        snapshot = observe(opened, facts.plane, names, _features(desired))
        whole = plan(diff(desired, snapshot, group_of(facts.instance)), desired.obstacles)
        outcome = None
        if decide is not None:
            resources = dict(desired.resources)
            outcome = apply(decide(whole, desired), resources, snapshot, opened, sender)
        if watch:
            watch(opened)
    return Pass(desired, snapshot, whole, outcome)


def _declared(world: World, ns: NsKey) -> bool:
    """Tell whether anything is declared for a container.

    A look at everything enters the others too: a blackhole route of ours has no interface whose
    outer end would tell of it.
    """
    return ns in world.wirings and bool(world.wirings[ns].parts)


def scoped(world: World, scope: frozenset[NsKey] | None) -> Desired:
    """Return what should be in a scope: its containers, and the bridges of their links."""
    if scope is None:
        return combine(world.wirings.values())
    plane = world.wirings[world.facts.plane]
    chosen = [world.wirings[ns] for ns in sorted(scope) if ns in world.wirings]
    masters = {
        r.master_key()
        for each in chosen
        for r in each.resources
        if isinstance(r, Link) and r.master
    }
    if world.facts.plane in scope:
        return combine([plane, *(each for each in chosen if each is not plane)])
    bridges = Wiring(
        resources=tuple(r for r in plane.resources if r.key in masters), because=plane.because
    )
    return combine([bridges, *chosen])


def _features(desired: Desired) -> dict[Key, Iterable[str]]:
    """Return which offload features have to be read of which link."""
    return {
        r.key: [name for name, _ in r.features]
        for r in desired.resources.values()
        if isinstance(r, Offload)
    }
