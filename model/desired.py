"""What should be: a pure function of the configuration, the running containers and a few facts.

It is total: a problem that only a replica reveals (an address past its prefix, two containers that
compute one name) becomes an Obstacle of that link, and every other link is still wanted.
"""

from __future__ import annotations

from collections.abc import Iterable

from model.addressing import AddressError, outer_names
from model.commands import digest
from model.declared import CommandSpec, Config, LinkSpec, Owner
from model.facts import Facts
from model.forwarding import slots
from model.keys import Key, NsKey, link_key
from model.links import Place, make
from model.nft import Entry, table, table_key
from model.plane import plane
from model.replicas import Container
from model.resources import Command, Resource
from model.wanted import Claim, Desired, Join, Obstacle, Wiring, combine


def desired(config: Config, containers: Iterable[Container], facts: Facts) -> Desired:
    """Return what should be: the whole of it."""
    wirings = [plane(config, facts)]
    wirings += [wiring(config, container, facts) for container in containers]
    return combine(wirings, table_key(facts.plane, facts.instance))


def matches(owner: Owner, container: Container, facts: Facts) -> bool:
    """Tell whether an entry for `owner` is for this container."""
    if owner.kind == "container":
        return owner.name == container.name
    return owner.name == container.service and _in_project(container, facts)


def _in_project(container: Container, facts: Facts) -> bool:
    """Tell whether a container is of the project; plain namespaces are of none, and of each."""
    return (not facts.project or container.project in ("", facts.project)) and (
        not facts.workdir or container.workdir in ("", facts.workdir)
    )


def namespace_of(container: Container, facts: Facts) -> NsKey:
    """Return the key of a container's namespace: `node_5` for a replica, else its full name."""
    ours = container.service and _in_project(container, facts)
    name = f"{container.service}_{container.number}" if ours else container.name
    return NsKey("container", name, container.id)


def wiring(config: Config, container: Container, facts: Facts) -> Wiring:
    """Return what one container should have: pure, and independent of every other container."""
    specs = [
        spec.of(container.number) if spec.owner.kind == "service" else spec
        for spec in config.links
        if matches(spec.owner, container, facts)
    ]
    commands = [spec for spec in config.commands if matches(spec.owner, container, facts)]
    if not specs and not commands:
        return Wiring()
    made = _Maker(config, container, facts)
    for spec in specs:
        made.link(spec)
    made.translate()
    for command in commands:
        made.command(command)
    return Wiring(
        tuple(made.resources.values()), made.because, made.parts, made.bridges, made.claims,
        tuple(made.joins), made.plane_entries, tuple(made.obstacles), made.notes,
    )  # fmt: skip


class _Maker:
    """Collects what one container should have while its links are gone through in order."""

    def __init__(self, config: Config, container: Container, facts: Facts) -> None:
        self.config = config
        self.container = container
        self.facts = facts
        self.ns = namespace_of(container, facts)
        self.resources: dict[Key, Resource] = {}
        self.because: dict[Key, str] = {}
        self.parts: dict[Key, tuple[Key, ...]] = {}
        self.bridges: dict[Key, str] = {}
        self.claims: dict[Key, tuple[Claim, ...]] = {}
        self.joins: list[Join] = []
        self.plane_entries: dict[Key, tuple[Entry, ...]] = {}
        self.own_entries: dict[Key, list[Entry]] = {}
        self.obstacles: list[Obstacle] = []
        self.notes: dict[Key, str] = {}
        self.slots = slots(
            spec.dev
            for spec in config.links
            if spec.forwards and matches(spec.owner, container, facts)
        )
        self.outer = outer_names(
            {
                spec.dev: f"{self._owner_name(spec)}-{spec.dev}"
                for spec in config.links
                if spec.type == "veth" and matches(spec.owner, container, facts)
            },
            container.id,
        )

    def _owner_name(self, spec: LinkSpec) -> str:
        owner = spec.owner
        return f"{owner.name}_{self.container.number}" if owner.kind == "service" else owner.name

    def link(self, spec: LinkSpec) -> None:
        inner = link_key(self.ns, spec.dev)
        if inner in self.parts:
            message = f"{spec.dev} is declared twice for {self.ns} ({spec.place})"
            self.obstacles.append(Obstacle(inner, "refused", message))
            return
        self.parts[inner] = (inner,)
        self.because[inner] = self._reason(spec)
        if spec.bridge:
            self.bridges[inner] = spec.bridge
        if elsewhere := self._elsewhere():
            self.obstacles.append(Obstacle(inner, "blocked", elsewhere))
            return
        offset = self.container.number - 1 if spec.owner.kind == "service" else 0
        place = Place(self.ns, offset, self.outer.get(spec.dev, ""), self.slots.get(spec.dev, 0))
        try:
            made = make(spec, self.config, self.facts, place)
        except AddressError as error:
            message = f"replica {self.container.number}: {error} ({spec.place})"
            self.obstacles.append(Obstacle(inner, "refused", message))
            return
        for resource in made.resources:
            self.resources[resource.key] = resource
            self.because[resource.key] = self._reason(spec)
        self.parts[inner] = tuple(resource.key for resource in made.resources)
        self.claims[inner] = tuple(made.claims)
        if made.join:
            self.joins.append(made.join)
        if made.plane:
            self.plane_entries[inner] = tuple(made.plane)
        if made.own:
            self.own_entries[inner] = made.own
        if made.note:
            self.notes[inner] = made.note

    def translate(self) -> None:
        """Put what the container's own links translate into one table."""
        if not self.own_entries:
            return
        key = table_key(self.ns, self.facts.instance)
        entries = (entry for each in self.own_entries.values() for entry in each)
        self.resources[key] = table(key, entries)
        self.because[key] = self.because[min(self.own_entries)]
        for link in self.own_entries:
            self.parts[link] = (*self.parts[link], key)

    def command(self, spec: CommandSpec) -> None:
        key = Key(self.ns, "command", "", digest(spec.argv))
        needs = tuple(part for parts in self.parts.values() for part in parts)
        self.resources[key] = Command(key=key, argv=spec.argv, needs=needs)
        self.because[key] = self._reason(spec)

    def _reason(self, spec: LinkSpec | CommandSpec) -> str:
        which = str(spec.owner)
        if spec.owner.kind == "service":
            which += f", replica {self.container.number}"
        return f"{spec.place} ({which})"

    def _elsewhere(self) -> str:
        """Return why a container has no network of its own, or nothing."""
        shares = self.container.shares
        if shares == "host":
            return "the container uses the host's network; nothing is changed there"
        return (
            f"the container uses the network of {shares}; declare the link there" if shares else ""
        )
