"""One pass: apply(plan(diff(desired, observe(scope)))). No memory, no clock, no retries."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from model.facts import Facts
from model.keys import Key, NsKey
from model.look import look
from model.nft import table_key
from model.ownership import group_of
from model.replicas import Container
from model.resources import Command, Link, OvsPort, Resource
from model.snapshot import Snapshot
from model.wanted import Desired, Wiring, combine
from observers.namespaces import Opened, open_all, path_exists
from observers.snapshot import observe
from reconciler.apply import Hands, Outcome, apply
from reconciler.diff import diff
from reconciler.plan import Plan, plan
from reconciler.runs import Ended


@dataclass(frozen=True, slots=True)
class World:
    """What a pass is about: what each namespace should have, and which containers there are.

    `wirings` holds the data plane's under its key, and one for each container that has links;
    `patches` the namespaces whose links each patch joins, `ended` the exit codes that the kernel
    does not keep yet.
    """

    facts: Facts
    wirings: Mapping[NsKey, Wiring]
    containers: Mapping[NsKey, Container]
    patches: Mapping[str, frozenset[NsKey]] = field(default_factory=dict)
    ended: Mapping[Key, Ended] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass saw, planned and did; `outcome` is None where nothing was to be carried out."""

    desired: Desired
    snapshot: Snapshot
    plan: Plan
    outcome: Outcome | None = None


# What of a plan to carry out now; `desired` is for finding what a step needs.
Decide = Callable[[Plan, Desired], Plan]
_PLAIN = Hands()


def run(
    world: World,
    scope: frozenset[NsKey] | None = None,
    *,
    also: Iterable[str] = (),
    want: Desired | None = None,
    decide: Decide | None = None,
    watch: Callable[[Opened], None] | None = None,
    visit: Callable[[NsKey], str] = lambda _ns: "",
    hands: Hands = _PLAIN,
) -> Pass:
    """Look at `scope` (None is everything), and carry out what `decide` leaves of the plan.

    Without `decide` nothing is written: that is a preview. `hands` is by what the plan is carried
    out. `watch` is called before the namespaces are closed, for whoever wants to know them, `visit`
    in each container's; what it says is why that one is left alone. A scope
    names containers; what they need of the data plane is looked up by name, and so are the
    interfaces in `also`. `want` stands in for what the world should be.

    Raises:
        OSError: the data plane could not be opened or read.
    """
    facts = world.facts
    if scope is not None:
        scope = widened(scope, world.patches.values(), facts.plane)
    desired = scoped(world, scope) if want is None else want
    containers = world.containers
    if scope is not None:  # what a look at one container costs must not grow with their number
        containers = {
            ns: containers[ns] for ns in scope if ns in containers and _declared(world, ns)
        }
    where = look(facts, desired.resources.values(), names=None if scope is None else also)
    # A pinned plane that nobody made yet is empty.
    planes = [facts.plane] if path_exists(facts.plane) else []
    host = bool(planes and where.host_names())
    with open_all(planes, containers, host=host, visit=visit) as opened:
        switched: dict[Key, Resource] = {}
        no_ovs = ""
        # First, since daemons that are started by it make the interfaces of their bridges.
        if hands.switches and planes and (where.ovs or where.everything):
            switched, no_ovs = hands.switches.read(facts, where)
        snapshot = observe(opened, where)
        if switched or no_ovs:
            everything = {**snapshot.resources, **switched}
            snapshot = replace(snapshot, resources=everything, no_ovs=no_ovs)
        desired = _with_codes(desired, world.ended, opened.inodes)
        whole = plan(diff(desired, snapshot, group_of(facts.instance)), desired.obstacles)
        outcome = None
        if decide is not None:
            resources = dict(desired.resources)
            outcome = apply(
                decide(whole, desired), resources, snapshot, opened,
                instance=facts.instance, hands=hands,
            )  # fmt: skip
        if watch:
            watch(opened)
    return Pass(desired, snapshot, whole, outcome)


def reason_of(error: OSError) -> str:
    """Say why a pass could not look, and what to do where that is not plain."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return (
            "too many open files: a look at everything opens one for each container; "
            "raise the limit (ulimit -n, or the engine's --ulimit nofile)"
        )
    return error.strerror or str(error)


def _with_codes(
    desired: Desired, ended: Mapping[Key, Ended], inodes: Mapping[NsKey, int]
) -> Desired:
    """Want the exit codes to be kept of what ended in the namespaces that are here now."""
    codes: dict[Key, Resource] = {
        key: replace(command, code=code)
        for key, (inode, code) in ended.items()
        if isinstance(command := desired.resources.get(key), Command)
        and inodes.get(key.ns) == inode
    }
    return replace(desired, resources={**desired.resources, **codes}) if codes else desired


def _declared(world: World, ns: NsKey) -> bool:
    """Tell whether anything is declared for a container.

    A look at everything enters the others too: a blackhole route of ours has no interface whose
    outer end would tell of it.
    """
    return ns in world.wirings and bool(world.wirings[ns].parts)


def scoped(world: World, scope: frozenset[NsKey] | None) -> Desired:
    """Return what should be in a scope: its containers, and what their links are plugged into."""
    if scope is None:
        table = table_key(world.facts.plane, world.facts.instance)
        return combine(world.wirings.values(), table)
    plane = world.wirings[world.facts.plane]
    chosen = [world.wirings[ns] for ns in sorted(scope) if ns in world.wirings]
    bridges = set(_bridges(each.resources for each in chosen))
    if world.facts.plane in scope:
        return combine([plane, *(each for each in chosen if each is not plane)])
    needed = Wiring(
        resources=tuple(r for r in plane.resources if r.key in bridges), because=plane.because
    )
    return combine([needed, *chosen])


def _bridges(wirings: Iterable[Iterable[Resource]]) -> Iterator[Key]:
    for resources in wirings:
        for resource in resources:
            match resource:
                case Link() if resource.master:
                    yield resource.master_key()
                case Link(parent=Key() as parent):
                    yield parent
                case OvsPort():
                    yield Key(resource.key.ns, "ovs-bridge", resource.bridge)


def widened(
    scope: frozenset[NsKey], patches: Iterable[AbstractSet[NsKey]], plane: NsKey
) -> frozenset[NsKey]:
    """Return the scope with the other ends of its patches: one end changes with the other.

    And with the other ends of what those have, or they would seem to have lost them.
    """
    left = list(patches)
    while near := [ends for ends in left if plane in scope or ends & scope]:
        left = [ends for ends in left if ends not in near]
        scope = scope.union(*near)
    return scope
