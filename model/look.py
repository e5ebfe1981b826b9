"""Where to look: what of the world has to be read to compare it with what should be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from model.facts import Facts
from model.keys import HOST, Key, NsKey
from model.resources import (
    Link,
    NatTable,
    Neighbour,
    Offload,
    OvsBridge,
    OvsPort,
    Qdisc,
    Redirect,
    Resource,
    Rule,
    Setting,
    Sysctl,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a pass reads beside the interfaces, addresses and routes of each container.

    Attributes:
        plane: where bridges and outer ends are.
        instance, group: in whose tables there may be something of ours.
        names: the interfaces of the data plane to look up; None for everything there.
        parents: the interface that each stacked link should be a child of.
        features, settings: which offloads and ethtool settings of which link.
        nat: the namespaces that should have an nft table of ours.
        policy: the namespaces that should have rules or neighbour entries of ours.
        sysctls: the kernel settings of the data plane that something needs.
        qdiscs: the namespaces that should have qdiscs of ours.
        redirects: the data plane should have redirects of ours.
        ovs: the database of Open vSwitch is of interest.
    """

    plane: NsKey
    instance: str = ""
    group: int = 0
    names: tuple[str, ...] | None = None
    parents: Mapping[Key, Key] = field(default_factory=dict)
    features: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)
    nat: frozenset[NsKey] = frozenset()
    policy: frozenset[NsKey] = frozenset()
    qdiscs: frozenset[NsKey] = frozenset()
    sysctls: tuple[str, ...] = ()
    redirects: bool = False
    ovs: bool = False

    @property
    def everything(self) -> bool:
        """All of the data plane is looked at, also for what nobody wants."""
        return self.names is None

    def host_names(self) -> tuple[str, ...]:
        """Return the host's interfaces that links should be children of."""
        if self.plane == HOST:
            return ()
        return tuple(sorted({p.dev for p in self.parents.values() if p.ns == HOST}))


def look(
    facts: Facts, resources: Iterable[Resource], *, names: Iterable[str] | None = None
) -> Look:
    """Return where to look for these resources; `names` as in Look, completed by what they need."""
    parents: dict[Key, Key] = {}
    features: dict[Key, tuple[str, ...]] = {}
    settings: dict[Key, tuple[str, ...]] = {}
    nat: set[NsKey] = set()
    policy: set[NsKey] = set()
    qdiscs: set[NsKey] = set()
    sysctls: set[str] = set()
    devs: set[str] = set(names or ())
    redirects = ovs = False
    for resource in resources:
        key = resource.key
        if key.ns == facts.plane and key.dev:
            devs.add(key.dev)
        match resource:
            case Link(parent=Key() as parent):
                parents[key] = parent
                if parent.ns == facts.plane:
                    devs.add(parent.dev)
            case Offload():
                link = Key(key.ns, "link", key.dev)
                features[link] = tuple(name for name, _ in resource.features)
            case Setting():
                link = Key(key.ns, "link", key.dev)
                settings[link] = (*settings.get(link, ()), key.detail)
            case NatTable():
                nat.add(key.ns)
            case Neighbour() | Rule():
                policy.add(key.ns)
            case Sysctl():
                sysctls.add(key.detail)
            case Qdisc():
                qdiscs.add(key.ns)
            case Redirect(target=Key() as target):
                devs.add(target.dev)
                redirects = True
            case OvsBridge() | OvsPort():
                ovs = True
    return Look(
        plane=facts.plane,
        instance=facts.instance,
        group=facts.group,
        names=None if names is None else tuple(sorted(devs)),
        parents=parents,
        features=features,
        settings=settings,
        nat=frozenset(nat),
        policy=frozenset(policy),
        qdiscs=frozenset(qdiscs),
        sysctls=tuple(sorted(sysctls)),
        redirects=redirects,
        ovs=ovs,
    )
