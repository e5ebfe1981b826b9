"""Where configuration comes from: files, the environment, flags; read, merged, checked, typed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from model.config import Config, merge_links, parse
from model.document import Node, interpolate, mapping, merge, resolve_plain
from model.problems import ConfigError, Place, Problem

_MOST_NODES = 200_000  # far above any configuration; far below what aliases of aliases can make
_DEEPEST = 100
_CORE_TAG = "tag:yaml.org,2002:"


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


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and what it was before it was typed."""

    config: Config
    document: Node
    project: str = ""


def load(sources: Sources) -> Loaded:
    """Read, merge, interpolate, check and type the configuration.

    Raises:
        ConfigError: with everything that is wrong, each with its place.
    """
    problems: list[Problem] = []
    parts: list[Node] = []
    project = ""
    for name in sources.compose_files:
        if root := _read(name, problems):
            parts += _networks_of_compose(root, problems)
            project = project or _project(root, sources.environment)
    for name in sources.network_files:
        if (root := _read(name, problems)) and root.value is not None:
            parts.append(root)
    merged = mapping(parts[0].place if parts else Place("(no file)"))
    for part in parts:
        if isinstance(part.value, Mapping):
            merged = merge(merged, interpolate(part, sources.environment, problems))
        else:
            message = "expected a mapping with links, bridges, tunnels or commands"
            problems.append(Problem(part.place, message))
    if problems:
        raise ConfigError(problems)
    merged = merge_links(merged)
    wrong = list(check_shape(merged, schema(sources.schema_file)))
    if wrong:
        raise ConfigError(wrong)
    return Loaded(parse(merged), merged, project)


def schema_text() -> str:
    """Return the JSON Schema of the configuration, as shipped."""
    return resources.files("model").joinpath("schema.json").read_text(encoding="utf-8")


def schema(path: str | None = None) -> dict[str, Any]:
    """Return the JSON Schema to check against, from `path` if given.

    Raises:
        ConfigError: that file is not a JSON document.
    """
    try:
        text = Path(path).read_text(encoding="utf-8") if path else schema_text()
        found = json.loads(text)
        if not isinstance(found, dict):
            raise TypeError("not a mapping")
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError([Problem(Place(path or ""), f"not a usable schema: {error}")]) from error
    return found


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
        raise ConfigError([Problem(place, f"not JSON: {error.msg}")]) from error
    except RecursionError as error:
        raise ConfigError([Problem(Place(name), "nested too deeply")]) from error


def parse_yaml(text: str, name: str) -> Node:
    """Parse YAML into nodes with their places; an empty document is None.

    Raises:
        ConfigError: it is not YAML, or it is built to be larger than any configuration.
    """
    try:
        loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
        composed = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(name, mark.line + 1, mark.column + 1) if mark else Place(name)
        message = " ".join(filter(None, (error.context, error.problem))) or "not YAML"
        raise ConfigError([Problem(place, message)]) from error
    except yaml.reader.ReaderError as error:
        where = f"character #x{ord(error.character):04x}" if error.character else "a character"
        raise ConfigError([Problem(Place(name), f"{where} is not allowed in YAML")]) from error
    except RecursionError as error:
        raise ConfigError([Problem(Place(name), "nested too deeply")]) from error
    if composed is None:
        return Node(None, Place(name, 1, 1), plain=True)
    return _Converter(name).convert(composed, 0)


class _Converter:
    """Turns PyYAML's nodes into ours: types by YAML 1.2, merge keys resolved, size bounded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.left = _MOST_NODES

    def place(self, node: yaml.Node) -> Place:
        return Place(self.name, node.start_mark.line + 1, node.start_mark.column + 1)

    def wrong(self, node: yaml.Node, message: str) -> ConfigError:
        return ConfigError([Problem(self.place(node), message)])

    def convert(self, node: yaml.Node, depth: int) -> Node:
        self.left -= 1
        if self.left < 0:
            raise self.wrong(node, f"more than {_MOST_NODES} values, aliases counted")
        if depth > _DEEPEST:
            raise self.wrong(node, "nested too deeply (or an alias that contains itself)")
        place = self.place(node)
        if isinstance(node, yaml.ScalarNode):
            plain = not node.style and node.tag.startswith(_CORE_TAG)
            return Node(resolve_plain(node.value) if plain else node.value, place, plain=plain)
        if isinstance(node, yaml.SequenceNode):
            return Node(tuple(self.convert(child, depth + 1) for child in node.value), place)
        entries: dict[str, Node] = {}
        places: dict[str, Place] = {}
        inherited: list[Node] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.wrong(key, "a key must be a word")
            if key.value == "<<" and not key.style:
                merged = self.convert(value, depth + 1)
                inherited += merged.elements() or (merged,)
                continue
            if key.value in entries:
                raise self.wrong(key, f"the key {key.value!r} is given twice")
            entries[key.value] = self.convert(value, depth + 1)
            places[key.value] = self.place(key)
        for other in inherited:  # of several, the first wins; what stands here wins over all
            for name, child in other.items():
                entries.setdefault(name, child)
        return Node(entries, place, places)


def _networks_of_compose(root: Node, problems: list[Problem]) -> Iterator[Node]:
    """Yield the x-network of a compose file and of each of its services, in that order."""
    if root.value is not None and not isinstance(root.value, Mapping):
        problems.append(Problem(root.place, "not a compose file: expected a mapping"))
        return
    if (top := root.get("x-network")) and top.value is not None:
        yield top
    services = root.get("services")
    for name, service in services.items() if services else ():
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


def check_shape(root: Node, shape: dict[str, Any]) -> Iterator[Problem]:
    """Yield what the JSON Schema finds wrong, in words and with places."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - 0.1 s that --version need not pay
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415

    try:
        Draft202012Validator.check_schema(shape)
    except SchemaError as error:
        yield Problem(Place("(schema)"), f"not a JSON Schema: {error.message}")
        return
    for error in Draft202012Validator(shape).iter_errors(root.bare()):
        path = tuple(error.absolute_path)
        yield from _in_words(root, path, error)


def _in_words(root: Node, path: tuple[str | int, ...], error: Any) -> Iterable[Problem]:
    place = root.place_of(path)
    value = error.instance
    name = f"{path[-1]!r}" if path and isinstance(path[-1], str) else "this"
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "…"
    match error.validator:
        case "additionalProperties":
            allowed = error.schema.get("properties", {})
            for key in sorted(set(value) - set(allowed)):
                message = f"unknown key {key!r}; allowed: {', '.join(allowed)}"
                yield Problem(root.place_of((*path, key), key=True), message)
            return
        case "required":
            missing = [key for key in error.validator_value if key not in value]
            message = f"{', '.join(map(repr, missing))} is missing"
        case "enum":
            message = f"{name} is {shown}; allowed: {', '.join(error.validator_value)}"
        case "type":
            message = f"{name} is {shown}, not {_A_TYPE[error.validator_value]}"
        case "anyOf":
            kinds = [_A_TYPE[s["type"]] for s in error.validator_value if "type" in s]
            message = f"{name} is {shown}, not {' or '.join(kinds)}"
        case "minimum" | "maximum":
            low, high = error.schema.get("minimum"), error.schema.get("maximum")
            message = f"{name} is {shown}; allowed: {low} to {high}"
        case "maxLength":
            message = f"{name} is {shown}, longer than {error.validator_value} characters"
        case "minLength" | "minItems":
            message = f"{name} is empty"
        case "pattern":
            message = f"{name} is {shown}; spaces, '/', ':' and '%' are not allowed"
        case _:
            message = f"{name}: {error.message}"
    yield Problem(place, message)


_A_TYPE = {
    "string": "a text",
    "array": "a list",
    "object": "a mapping",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "empty",
}
