"""Where configuration comes from: files, the environment, flags; read, merged, checked, typed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import yaml

from model.config import Config, merge_links, parse
from model.document import Node, interpolate, mapping, merge, resolve_plain, shorten
from model.problems import ConfigError, Place, Problem

_MOST_NODES = 200_000  # far above any configuration; far below what aliases of aliases can make
_DEEPEST = 100
_SECTIONS = ("links", "bridges", "tunnels", "commands")
_PLAIN_TAG = "plain"  # our own name for an unquoted scalar without a tag
_TYPED_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))


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
    wrong: list[Problem] = []
    for each in parts:
        part = interpolate(each, sources.environment, problems)
        if isinstance(part.value, Mapping):
            merged = merge(merged, _sections(part, wrong))
        else:
            message = "expected a mapping with links, bridges, tunnels or commands"
            problems.append(Problem(part.place, message))
    if problems:
        raise ConfigError(problems)
    merged = merge_links(merged)
    shape, sound = check_shape(merged, schema(sources.schema_file), sources.schema_file or "")
    wrong += shape
    try:
        config = parse(sound)
    except ConfigError as error:
        raise ConfigError([*wrong, *error.problems]) from error
    if wrong:
        raise ConfigError(wrong)
    return Loaded(config, merged, project)


def _sections(part: Node, problems: list[Problem]) -> Node:
    """Leave out sections that are no lists, before a merge hides what one of them is.

    `links:` with nothing below says nothing, and must not take away the links of another file.
    """
    entries: dict[str, Node] = {}
    for name, section in part.items():
        if name not in _SECTIONS or isinstance(section.value, tuple):
            entries[name] = section
        elif section.value is not None:
            message = f"{name!r} is {_shown(section.bare())}, not a list"
            problems.append(Problem(section.place, message))
    return Node(entries, part.place, part.key_places)


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
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError([Problem(Place(path or ""), f"not a usable schema: {error}")]) from error
    if not isinstance(found, dict):
        raise ConfigError([Problem(Place(path or ""), "not a usable schema: not a mapping")])
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
        raise ConfigError([Problem(place, f"not JSON: {error.msg.removesuffix(' at')}")]) from error
    except RecursionError as error:
        raise ConfigError([Problem(Place(name), "nested too deeply")]) from error


def parse_yaml(text: str, name: str) -> Node:
    """Parse YAML into nodes with their places; an empty document is None.

    Raises:
        ConfigError: it is not YAML, or it is built to be larger than any configuration.
    """
    try:
        composed = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_in_yaml(error, text, name)]) from error
    except yaml.reader.ReaderError as error:
        found = yaml.reader.Reader.NON_PRINTABLE.search(text)
        place = _place_in(text, found.start(), name) if found else Place(name)
        which = f"the character #x{ord(found[0]):04x}" if found else "a character"
        raise ConfigError([Problem(place, f"{which} is not allowed in YAML")]) from error
    except RecursionError as error:
        raise ConfigError([Problem(Place(name), "nested too deeply")]) from error
    if composed is None:
        return Node(None, Place(name, 1, 1), plain=True)
    return _Converter(name).convert(composed, 0)


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """Composes nodes and leaves it to us what an unquoted scalar is."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {None: [(_PLAIN_TAG, re.compile(""))]}


def _place_in(text: str, at: int, name: str) -> Place:
    return Place(name, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))


def _in_yaml(error: yaml.MarkedYAMLError, text: str, name: str) -> Problem:
    """Put what the parser says in words that tell what to do, at the place where it began."""
    mark, began = error.problem_mark or error.context_mark, error.context_mark
    problem = str(error.problem or "not YAML")
    if mark is None:
        return Problem(Place(name), problem)
    if began and "end of stream" in problem:
        return Problem(Place(name, began.line + 1, began.column + 1), f"{error.context}: {problem}")
    if "another document" in problem:
        problem = "a second document begins here; one is allowed in a file"
        return Problem(Place(name, mark.line + 1, mark.column + 1), problem)
    rest = (text.split("\n")[mark.line :] or [""])[0][mark.column :]
    if "cannot start any token" in problem and rest:
        problem = (
            "a tab cannot indent YAML; use spaces"
            if rest.startswith("\t")
            else f"{rest[0]!r} cannot start a word; put the word in quotes"
        )
    elif error.context:
        problem = f"{error.context}{_since(began, mark)}: {problem}"
    return Problem(Place(name, mark.line + 1, mark.column + 1), problem)


def _since(began: yaml.Mark | None, mark: yaml.Mark) -> str:
    if began is None or (began.line, began.column) == (mark.line, mark.column):
        return ""
    return f" that begins at {began.line + 1}:{began.column + 1}"


class _Converter:
    """Turns PyYAML's nodes into ours: types by YAML 1.2, merge keys resolved, size bounded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.left = _MOST_NODES
        self.inside: set[int] = set()  # the nodes being converted, to find one within itself

    def place(self, node: yaml.Node) -> Place:
        return Place(self.name, node.start_mark.line + 1, node.start_mark.column + 1)

    def wrong(self, node: yaml.Node, message: str) -> ConfigError:
        return ConfigError([Problem(self.place(node), message)])

    def convert(self, node: yaml.Node, depth: int) -> Node:
        self.left -= 1
        if self.left < 0:
            raise self.wrong(node, f"more than {_MOST_NODES} values, aliases counted")
        if id(node) in self.inside:
            raise self.wrong(node, "this contains an alias of itself")
        if depth > _DEEPEST:
            raise self.wrong(node, f"nested more than {_DEEPEST} deep")
        if isinstance(node, yaml.ScalarNode):
            plain = node.tag == _PLAIN_TAG
            typed = plain or node.tag in _TYPED_TAGS
            value = resolve_plain(node.value) if typed else node.value
            return Node(value, self.place(node), plain=plain)
        self.inside.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, depth)
            elements = tuple(self.convert(child, depth + 1) for child in node.value)
            return Node(elements, self.place(node))
        finally:
            self.inside.discard(id(node))

    def mapping(self, node: yaml.MappingNode, depth: int) -> Node:
        entries: dict[str, Node] = {}
        places: dict[str, Place] = {}
        inherited: list[Node] = []
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.wrong(key, "a key must be a word")
            if key.value in seen:
                raise self.wrong(key, f"the key {shorten(key.value)!r} is given twice")
            seen.add(key.value)
            child = self.convert(value, depth + 1)
            if key.value == "<<" and key.tag == _PLAIN_TAG:
                inherited += child.elements() or (child,)
                if not all(isinstance(other.value, Mapping) for other in inherited):
                    raise self.wrong(value, "'<<' takes a mapping or a list of mappings")
                continue
            entries[key.value] = child
            places[key.value] = self.place(key)
        for other in inherited:  # of several, the first wins; what stands here wins over all
            for name, child in other.items():
                entries.setdefault(name, child)
            places = {**(other.key_places or {}), **places}
        return Node(entries, self.place(node), places)


def _networks_of_compose(root: Node, problems: list[Problem]) -> Iterator[Node]:
    """Yield the x-network of a compose file and of each of its services, in that order."""
    if root.value is not None and not isinstance(root.value, Mapping):
        problems.append(Problem(root.place, "not a compose file: expected a mapping"))
        return
    if (top := root.get("x-network")) and top.value is not None:
        yield top
    services = root.get("services") or mapping(root.place)
    if not isinstance(services.value, Mapping | None):
        problems.append(Problem(services.place, "'services' must be a mapping"))
    for name, service in services.items():
        if not isinstance(service.value, Mapping | None):
            problems.append(Problem(service.place, f"service {name!r} must be a mapping"))
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


def check_shape(root: Node, shape: dict[str, Any], file: str) -> tuple[list[Problem], Node]:
    """Check a document against a JSON Schema, which was read from `file`.

    Returns:
        What the schema finds wrong, in words and with places; and the document without the entries
        that have the wrong shape, so that the others can be checked further.
    """
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - 0.1 s that --version need not pay
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    # A registry of one's own, because jsonschema's fetches what a $ref names from the network.
    validator = Draft202012Validator(shape, registry=Registry())
    try:
        if file:  # ours is one; looking takes 20 ms
            Draft202012Validator.check_schema(shape)
        errors = [(tuple(e.absolute_path), e) for e in validator.iter_errors(root.bare())]
    except (SchemaError, Unresolvable, RecursionError) as error:
        message = getattr(error, "message", "") or str(error)
        return [Problem(Place(file), f"not a usable schema: {message}")], mapping(root.place)
    mistyped = {path for path, error in errors if error.validator == "type"}
    problems = [
        problem
        for path, error in errors
        if error.validator == "type" or path not in mistyped  # a number has no wrong length, too
        for problem in _in_words(root, path, error)
    ]
    unsound = {path[:2] for path, error in errors if error.validator != "additionalProperties"}
    sound = root
    for name, section in root.items():
        kept = tuple(e for n, e in enumerate(section.elements()) if (name, n) not in unsound)
        sound = sound.with_entry(name, Node(kept, section.place))
    return problems, sound


def _in_words(root: Node, path: tuple[str | int, ...], error: Any) -> Iterable[Problem]:
    place = root.place_of(path)
    value = error.instance
    name, shown = _named(path), _shown(value)
    match error.validator:
        case "additionalProperties":
            allowed = error.schema.get("properties", {})
            for key in sorted(set(value) - set(allowed)):
                message = f"unknown key {shorten(key)!r}; allowed: {', '.join(allowed)}"
                if not path and key in ("services", "x-network"):
                    message += "; a compose file is given with --compose-file"
                yield Problem(root.place_of((*path, key), key=True), message)
            return
        case "anyOf":
            # The alternative of the value's own type tells more than "none of them fits".
            near = [e for e in error.context if e.validator != "type" or e.relative_path]
            if near:
                for inner in near:
                    yield from _in_words(root, (*path, *inner.relative_path), inner)
                return
            kinds = [_A_TYPE[s["type"]] for s in error.validator_value if "type" in s]
            message = f"{name} is {shown}, not {' or '.join(kinds)}"
        case "required":
            missing = [repr(key) for key in error.validator_value if key not in value]
            are = "is" if len(missing) == 1 else "are"
            message = f"{', '.join(missing)} {are} missing"
        case "enum":
            message = f"{name} is {shown}; allowed: {', '.join(map(str, error.validator_value))}"
        case "type":
            kind = error.validator_value
            message = f"{name} is {shown}, not {_A_TYPE.get(str(kind), kind)}"
        case "minimum" | "maximum":
            low, high = error.schema.get("minimum"), error.schema.get("maximum")
            message = f"{name} is {shown}; allowed: {low} to {high}"
        case "maxLength":
            message = f"{name} is {shown}, longer than {error.validator_value} characters"
        case "minLength" | "minItems":
            message = f"{name} is empty"
        case "not" if value in _RESERVED:
            message = f"{name} is {shown}, which cannot be the name of a link or bridge"
        case "not":
            message = (
                f"{name} is {shown}; allowed: printable ASCII without spaces, '/', ':' and '%'"
            )
        case _:
            message = f"{name}: {shorten(error.message)}"
    yield Problem(place, message)


# The kernel has interfaces or directories of these names (net/core/dev.c, net/ipv4/devinet.c).
_RESERVED = (".", "..", "all", "default", "lo")


def _named(path: tuple[str | int, ...]) -> str:
    """Name the value at a path: `'mtu'`, `entry 2 of 'ip'`."""
    match path:
        case (*_, str(key)):
            return repr(key)
        case (*_, str(key), int(number)):
            return f"entry {number + 1} of {key!r}"
    return "this"


def _shown(value: object) -> str:
    """Show a value of a document in a message, briefly and not as Python writes it."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


_A_TYPE = {
    "string": "a text",
    "array": "a list",
    "object": "a mapping",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "empty",
}
