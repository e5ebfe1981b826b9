"""Which containers there are, as far as every engine has told: the base of a pass. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from model.declared import Config
from model.desired import matches, namespace_of, wiring
from model.facts import Facts
from model.keys import Key, NsKey
from model.plane import plane
from model.replicas import Container
from model.resources import Link
from model.wanted import Wiring
from reconciler.passes import World, widened


@dataclass(slots=True)
class Roster:
    """Running containers by namespace, and what each should have.

    What a container should have is computed once for each configuration, since it depends on
    nothing else.

    Attributes:
        departed: outer ends of containers that are gone, to be looked up once more.
        contested: two links claim one thing, so that only a look at everything can tell who has it.
        owners: whose outer end each interface of the data plane is.
        children: the namespaces that have a link stacked on an interface of this name elsewhere.
        patches: the namespaces whose links each patch joins.
        sharing: the namespaces that have something in the data plane's NAT table, which is one for
            all, so that only a look at everything can tell what it should be.
    """

    config: Config
    facts: Facts
    containers: dict[NsKey, Container] = field(default_factory=dict)
    wirings: dict[NsKey, Wiring] = field(default_factory=dict)
    departed: set[str] = field(default_factory=set)
    contested: bool = False
    owners: dict[str, NsKey] = field(default_factory=dict)
    children: dict[str, set[NsKey]] = field(default_factory=dict)
    patches: dict[str, set[NsKey]] = field(default_factory=dict)
    sharing: set[NsKey] = field(default_factory=set)
    _claims: dict[object, int] = field(default_factory=dict)
    _of_id: dict[tuple[str, str], NsKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = plane(self.config, self.facts)
        self.wirings[self.facts.plane] = wanted
        for join in wanted.joins:
            self.patches.setdefault(join.patch, set()).add(self.facts.plane)

    def world(self) -> World:
        """Return what a pass is about: a view of now, which stays as it is."""
        patches = {name: frozenset(ends) for name, ends in self.patches.items()}
        return World(self.facts, dict(self.wirings), dict(self.containers), patches)

    def find(self, runtime: str, container_id: str) -> NsKey | None:
        """Return the namespace of a container by its engine's id."""
        return self._of_id.get((runtime, container_id))

    def put(self, container: Container) -> NsKey | None:
        """Add or replace a container; return its namespace if it has, or had, anything declared.

        Of one that had something under another name, and has nothing now, that of the other name.
        """
        ns = namespace_of(container, self.facts)
        if self.containers.get(ns) == container:
            wanted = self.wirings[ns]
            return ns if wanted.parts or wanted.obstacles else None
        old = self.find(container.runtime, container.id)
        renamed = old if old is not None and old != ns and self._forget(old) else None
        had = self._drop(ns)
        self.containers[ns] = container
        self._of_id[container.runtime, container.id] = ns
        wanted = wiring(self.config, container, self.facts)
        self.wirings[ns] = wanted
        outers = _outer_ends(wanted, self.facts.plane)
        self.owners.update(dict.fromkeys(outers, ns))
        self.departed.difference_update(outers)
        for name in _parents(wanted, ns):
            self.children.setdefault(name, set()).add(ns)
        for join in wanted.joins:
            self.patches.setdefault(join.patch, set()).add(ns)
        if wanted.entries:
            self.sharing.add(ns)
        for claims in wanted.claims.values():
            for claim in claims:
                self._claims[claim] = self._claims.get(claim, 0) + 1
                self.contested |= self._claims[claim] > 1
        return ns if had or wanted.parts or wanted.obstacles else renamed

    def is_about_all(self, scope: frozenset[NsKey]) -> bool:
        """Tell whether a scope can only be judged together with all the rest."""
        plane = self.facts.plane
        looked_at = widened(scope, self.patches.values(), plane)
        shared = self.sharing and (plane in scope or self.sharing & looked_at)
        return self.contested or bool(shared)

    def bridges(self) -> set[str]:
        """Return the names of what is declared in the data plane beside containers' links."""
        return {r.key.dev for r in self.wirings[self.facts.plane].resources}

    def is_unknown(self, key: Key) -> bool:
        """Tell whether a key is of nothing that runs and is declared now."""
        if key.ns.kind == "container":
            return key.ns not in self.containers
        return key.dev not in self.owners and key.dev not in self.bridges()

    def remove(self, runtime: str, container_id: str) -> NsKey | None:
        """Forget a container; return its namespace if it had anything declared."""
        ns = self.find(runtime, container_id)
        return ns if ns is not None and self._forget(ns) else None

    def recount(self) -> None:
        """After a look at everything: does anything still have two claimants?"""
        self.contested = any(count > 1 for count in self._claims.values())

    def replace(self, runtime: str, containers: Iterable[Container]) -> set[NsKey]:
        """Take a complete list of one engine as what it runs; return what is not as it was."""
        listed = {namespace_of(c, self.facts): c for c in containers}
        before = {ns: c for ns, c in self.containers.items() if c.runtime == runtime}
        for ns in before.keys() - listed.keys():
            self._forget(ns)
        for container in listed.values():
            self.put(container)
        return {ns for ns in before.keys() | listed.keys() if before.get(ns) != listed.get(ns)}

    def reconfigure(self, config: Config, facts: Facts) -> None:
        """Compute everything anew for another configuration."""
        containers = list(self.containers.values())
        self.__init__(config, facts)  # type: ignore[misc] # the one way to start afresh
        for container in containers:
            self.put(container)

    def _forget(self, ns: NsKey) -> bool:
        container = self.containers.pop(ns)
        self._of_id.pop((container.runtime, container.id), None)
        return self._drop(ns)

    def _drop(self, ns: NsKey) -> bool:
        old = self.wirings.pop(ns, None)
        if old is None:
            return False
        for name in _parents(old, ns):
            self.children[name].discard(ns)
        for join in old.joins:
            self.patches[join.patch].discard(ns)
        if ns in self.sharing:
            self.sharing.discard(ns)
            self.contested = True  # what it had there is looked for once more
        for claims in old.claims.values():
            for claim in claims:
                self._claims[claim] -= 1
                if not self._claims[claim]:
                    del self._claims[claim]
                else:
                    self.contested = True  # whoever lost it may have it now
        outers = _outer_ends(old, self.facts.plane)
        self.departed.update(outers)
        for name in outers:
            if self.owners.get(name) == ns:
                del self.owners[name]
        # Of two that had one name the other still has it.
        if self.contested:
            plane = self.facts.plane
            others = {
                name: other
                for other, wanted in self.wirings.items()
                for name in (_outer_ends(wanted, plane) if other != plane else ())
            }
            self.owners.update(others)
            self.departed.difference_update(others)
        return bool(old.parts or old.obstacles)

    def declared(self) -> set[Key]:
        """Return the inner ends of all declared links of running containers."""
        return {link for wanted in self.wirings.values() for link in wanted.parts}

    def unmatched(self) -> list[str]:
        """Return whose containers something is declared for and none of which runs, as declared."""
        links, commands = self.config.links, self.config.commands
        owners = dict.fromkeys([*(e.owner for e in links), *(e.owner for e in commands)])
        running = self.containers.values()
        return [
            str(owner)
            for owner in owners
            if not any(matches(owner, container, self.facts) for container in running)
        ]


def _outer_ends(wanted: Wiring, plane: NsKey) -> list[str]:
    """Return the names of what a container has in the data plane for itself.

    Not of the bridge that a neighbour of it is on, which is no container's.
    """
    return [r.key.dev for r in wanted.resources if isinstance(r, Link) and r.key.ns == plane]


def _parents(wanted: Wiring, ns: NsKey) -> set[str]:
    """Return the names of what a container's links are stacked on in other namespaces."""
    links = (r for r in wanted.resources if isinstance(r, Link))
    return {link.parent.dev for link in links if link.parent and link.parent.ns != ns}
