"""Where configuration comes from: files, the environment, flags; read, merged, checked, typed."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model.config import merge_links, parse
from model.declared import Config
from model.document import Node, interpolate, mapping, merge, shorten, unusable
from model.problems import NOWHERE, ConfigError, Place, Problem
from reconciler.shape import check_shape, schema, shown
from reconciler.yaml_nodes import parse_yaml

_SECTIONS = ("links", "bridges", "tunnels", "commands")


@dataclass(frozen=True, slots=True)
class Sources:
    """Which files to read, and the environment for their variables."""

    network_files: tuple[str, ...]
    compose_files: tuple[str, ...]
    environment: Mapping[str, str]
    schema_file: str | None = None

    def paths(self) -> tuple[str, ...]:
        """Return every file that a change of the configuration could be in."""
        return self.compose_files + self.network_files


States = tuple[tuple[int, ...] | None, ...]  # a file each; None where there is none


def states(paths: Iterable[str | Path]) -> States:
    """Return what is another one whenever a file is."""
    return tuple(_state(Path(path)) for path in paths)


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # The rights, since without them it cannot be read; the links, since a file that is mounted by
    # itself has none once another one has its name.
    rights = (found.st_mode, found.st_uid, found.st_gid)
    return (found.st_ino, found.st_mtime_ns, found.st_size, found.st_nlink, *rights)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and what it was before it was typed.

    `project` and `replicas` are what the compose files say of themselves: their name, and how many
    containers a service has, where that is written. `states` are those of the files before they
    were read.
    """

    config: Config
    document: Node
    project: str = ""
    replicas: Mapping[str, int] = field(default_factory=dict)
    states: States = ()


NOTHING = Loaded(Config(), mapping(NOWHERE))


def load(sources: Sources, *, again: bool = False) -> Loaded:
    """Read, merge, interpolate, check and type the configuration.

    Read `again`, while what it declared is in force, a file has to say something, and to be the one
    that has its name: an empty one is rather half written than a wish to be without any link.

    Raises:
        ConfigError: with everything that is wrong, each with its place.
    """
    before = states(sources.paths())
    problems: list[Problem] = []
    parts: list[Node] = []
    project, replicas = "", dict[str, int]()
    if again:
        problems += filter(None, map(_stale, sources.paths()))
    for name in sources.compose_files:
        if root := _read(name, problems):
            parts += _networks_of_compose(root, problems)
            project = project or _project(root, sources.environment)
            replicas.update(_replicas(root, sources.environment))
    for name in sources.network_files:
        if (root := _read(name, problems)) and root.value is not None:
            parts.append(root)
    merged = mapping(parts[0].place if parts else Place("(no file)"))
    wrong: list[Problem] = []
    for each in parts:
        part = interpolate(each, sources.environment, problems)
        if isinstance(part.value, Mapping):
            merged = merge(merged, _sections(part, wrong))
        else:
            found = shown(part.bare())
            message = f"this is {found}, not a mapping with links, bridges, tunnels or commands"
            problems.append(Problem(part.place, message))
    if problems:
        raise ConfigError(problems)
    merged = merge_links(merged)
    config = _typed(merged, wrong, sources.schema_file)
    return Loaded(config, merged, project, replicas, before)


def load_shown(text: str, name: str) -> Config:
    """Type what `--show-config` printed: JSON, already merged and interpolated.

    Raises:
        ConfigError: with everything that is wrong, each with its place in `name`.
    """
    _check_json(name, text)
    root = parse_yaml(text.replace("\t", " "), name)
    if root is None or not isinstance(root.value, Mapping):
        message = "expected the mapping that `reconcile --show-config` prints"
        raise ConfigError([Problem(Place(name), message)])
    wrong: list[Problem] = []
    return _typed(merge_links(_sections(root, wrong)), wrong, None)


def _typed(merged: Node, wrong: list[Problem], schema_file: str | None) -> Config:
    """Check and type a merged document, of which something may be known to be wrong already."""
    shape, told = check_shape(merged, schema(schema_file), schema_file or "")
    wrong += shape
    wrong += [p for p in unusable(merged) if p.place not in told]
    try:
        config = parse(merged)
    except ConfigError as error:
        raise ConfigError([*wrong, *(p for p in error.problems if p.place not in told)]) from error
    if wrong:
        raise ConfigError(wrong)
    return config


def _sections(part: Node, problems: list[Problem]) -> Node:
    """Leave out sections that are no lists, before a merge hides what one of them is.

    `links:` with nothing below says nothing, and must not take away the links of another file.
    """
    entries: dict[str, Node] = {}
    for name, section in part.items():
        if name not in _SECTIONS or isinstance(section.value, tuple):
            entries[name] = section
        elif section.value is not None:
            message = f"{name!r} is {shown(section.bare())}, not a list; begin each entry with '- '"
            problems.append(Problem(section.place, message))
    return Node(entries, part.place, part.key_places)


def _stale(name: str) -> Problem | None:
    """Say why a file that changed is no new configuration, though it may be read well."""
    try:
        stat = Path(name).stat()
    except OSError:
        return None  # reading it says why
    if stat.st_nlink == 0:
        return Problem(
            Place(name),
            "it was replaced where it is mounted from, and the mount shows the old file; mount its "
            "directory instead",
        )
    if stat.st_size == 0:
        return Problem(Place(name), "it is empty; write `links: []` where none is meant")
    return None


def _read(name: str, problems: list[Problem]) -> Node | None:
    """Read one file; what is wrong with it is added to `problems`."""
    place = Place(name)
    suffix = Path(name).suffix.lower()
    if suffix == ".edn":
        problems.append(Problem(place, "EDN is not read; write the file as YAML or JSON"))
        return None
    if suffix not in (".yml", ".yaml", ".json"):
        problems.append(Problem(place, "unknown kind of file; expected .yaml, .yml or .json"))
        return None
    try:
        mode = Path(name).stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # it may never end, or never begin
            problems.append(Problem(place, "not a file but a pipe, socket or device"))
            return None
        text = Path(name).read_bytes().decode("utf-8-sig")
        if suffix == ".json":
            _check_json(name, text)
            text = text.replace("\t", " ")  # YAML, which keeps the places, takes no tabs
        return parse_yaml(text, name)
    except OSError as error:
        problems.append(Problem(place, f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        raw: bytes = error.object
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        problems.append(Problem(Place(name, line, column), "not UTF-8 text"))
    except ConfigError as error:
        problems.extend(error.problems)
    return None


def _check_json(name: str, text: str) -> None:
    try:
        json.loads(text, parse_int=str)  # the digits stay digits: int() refuses 4 301 of them
    except json.JSONDecodeError as error:
        place = Place(name, error.lineno, error.colno)
        raise ConfigError([Problem(place, f"not JSON: {error.msg.removesuffix(' at')}")]) from error
    except RecursionError as error:
        raise ConfigError([Problem(Place(name), "nested too deeply")]) from error


def _networks_of_compose(root: Node, problems: list[Problem]) -> Iterator[Node]:
    """Yield the x-network of a compose file and of each of its services, in that order."""
    if root.value is not None and not isinstance(root.value, Mapping):
        problems.append(
            Problem(root.place, f"not a compose file but {shown(root.bare())}; expected a mapping")
        )
        return
    if (top := root.get("x-network")) and top.value is not None:
        yield top
    services = root.get("services") or mapping(root.place)
    if not isinstance(services.value, Mapping | None):
        message = f"'services' is {shown(services.bare())}, not a mapping"
        problems.append(Problem(services.place, message))
    for name, service in services.items():
        if not isinstance(service.value, Mapping | None):
            message = f"service {shorten(name)!r} is {shown(service.bare())}, not a mapping"
            problems.append(Problem(service.place, message))
        network = service.get("x-network")
        if network and network.value is not None:
            yield _for_service(network, name)


def _for_service(network: Node, service: str) -> Node:
    """Give each link and command of a service's x-network that service, unless it names one."""
    if not isinstance(network.value, Mapping):
        return network
    for key in ("links", "commands"):
        entries = network.get(key)
        if entries is None or not isinstance(entries.value, tuple):
            continue
        network = network.with_entry(
            key, Node(tuple(_with_service(e, service) for e in entries.elements()), entries.place)
        )
    return network


def _with_service(entry: Node, service: str) -> Node:
    named = entry.get("service") or entry.get("container")
    if named or not isinstance(entry.value, Mapping):
        return entry
    added = entry.with_entry("service", Node(service, entry.place))
    return Node(added.value, entry.place, entry.key_places)


def _project(root: Node, environment: Mapping[str, str]) -> str:
    """Return the project that a compose file names for itself."""
    name = root.get("name")
    if not name:
        return ""
    value = interpolate(name, environment, []).value
    return value if isinstance(value, str) else ""


def _replicas(root: Node, environment: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Yield the services of a compose file that say how many containers they have."""
    for name, service in (root.get("services") or mapping(root.place)).items():
        deploy = service.get("deploy") or mapping(root.place)
        if scale := service.get("scale") or deploy.get("replicas"):
            text = str(interpolate(scale, environment, []).value)
            if text.isascii() and text.isdigit():
                yield name, int(text[:6])  # more than a machine can run
