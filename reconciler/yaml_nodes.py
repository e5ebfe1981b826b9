"""YAML into nodes that keep their places: types by YAML 1.2, size bounded, errors in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from model.document import Node, resolve_plain, shorten
from model.problems import ConfigError, Place, Problem

_MOST_NODES = 200_000  # far above any configuration; far below what aliases of aliases can make
_DEEPEST = 100
_PLAIN_TAG = "plain"  # our own name for an unquoted scalar without a tag
_TYPED_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))


def parse_yaml(text: str, name: str) -> Node:
    """Parse YAML into nodes with their places; an empty document is None.

    Raises:
        ConfigError: it is not YAML, or it is built to be larger than any configuration.
    """
    try:
        return _Composer(_Loader(text), name).document()
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_in_yaml(error, text, name)]) from error
    except yaml.reader.ReaderError as error:
        found = yaml.reader.Reader.NON_PRINTABLE.search(text)
        place = _place_in(text, found.start(), name) if found else Place(name)
        which = f"the character #x{ord(found[0]):04x}" if found else "a character"
        raise ConfigError([Problem(place, f"{which} is not allowed in YAML")]) from error


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
        told = f"{error.context}: {problem}; it is not closed"
        return Problem(Place(name, began.line + 1, began.column + 1), told)
    rest = (text.split("\n")[mark.line :] or [""])[0][mark.column :]
    if "cannot start any token" in problem and rest:
        problem = (
            "a tab cannot indent YAML; use spaces"
            if rest.startswith("\t")
            else f"{rest[0]!r} cannot start a word; put the word in quotes"
        )
    elif error.context:
        problem = f"{error.context}{_since(began, mark)}: {problem}"
    hint = next((hint for words, hint in _HINTS if words in problem), "")
    return Problem(Place(name, mark.line + 1, mark.column + 1), problem + hint)


# What to do about some of what libyaml and PyYAML say.
_HINTS = (
    ("mapping values are not allowed", "; indent the key like its neighbours, or quote the value"),
    ("'-' indicator", "; indent it like its neighbours"),
    ("expected <block end>", "; indent it like its neighbours"),
    ("expected ',' or", "; a bracket is not closed, or a comma is missing"),
    ("unknown escape", "; write \\\\ for a backslash, or use single quotes"),
    ("incompatible YAML", "; leave out the line that begins with %YAML"),
)


def _since(began: yaml.Mark | None, mark: yaml.Mark) -> str:
    if began is None or (began.line, began.column) == (mark.line, mark.column):
        return ""
    return f" that begins at {began.line + 1}:{began.column + 1}"


@dataclass(frozen=True, slots=True)
class _Made:
    """A node with how many values it holds, itself counted, and how deep they are below it."""

    node: Node
    count: int = 1
    height: int = 0
    text: str | None = None  # of a scalar, as it is written


def _around(node: Node, parts: Sequence[_Made]) -> _Made:
    """Return a collection with what it holds."""
    heights = (part.height + 1 for part in parts)
    return _Made(node, 1 + sum(part.count for part in parts), max(heights, default=0))


class _Composer:
    """Makes nodes of the parser's events: types by YAML 1.2, merge keys resolved, size bounded.

    Not of PyYAML's nodes: its binding of libyaml composes those by a recursion in C that has no
    limit, and 100 kB of nested brackets end the process by SIGSEGV.
    """

    def __init__(self, events: Any, name: str) -> None:
        self.events = events
        self.name = name
        self.left = _MOST_NODES
        self.anchors: dict[str, _Made | None] = {}  # None while it is being made
        self.anchored: dict[str, Place] = {}

    def document(self) -> Node:
        self.events.get_event()  # the beginning of the stream
        if self.events.check_event(yaml.StreamEndEvent):
            return Node(None, Place(self.name, 1, 1), plain=True)
        self.events.get_event()  # the beginning of the document
        made = self.make(self.events.get_event(), 0)
        self.events.get_event()  # its end
        if not self.events.check_event(yaml.StreamEndEvent):
            another = self.events.get_event()
            raise self.wrong(another, "a second document begins here; one is allowed in a file")
        return made.node

    def place(self, event: yaml.Event) -> Place:
        mark: Any = event.start_mark  # of what was parsed it is never None
        return Place(self.name, mark.line + 1, mark.column + 1)

    def wrong(self, event: yaml.Event, message: str) -> ConfigError:
        return ConfigError([Problem(self.place(event), message)])

    def make(self, event: yaml.NodeEvent, depth: int) -> _Made:
        """Make the node that begins with `event`, to the last event of it."""
        if isinstance(event, yaml.AliasEvent):
            made = self.known(event)
        elif depth > _DEEPEST:
            raise self.wrong(event, f"nested more than {_DEEPEST} deep")
        else:
            made = self.new(event, depth)
        if depth + made.height > _DEEPEST:
            raise self.wrong(event, f"nested more than {_DEEPEST} deep, aliases counted")
        return made

    def count(self, event: yaml.Event, number: int) -> None:
        self.left -= number
        if self.left < 0:
            raise self.wrong(event, f"more than {_MOST_NODES} values, aliases counted")

    def known(self, event: yaml.AliasEvent) -> _Made:
        if event.anchor not in self.anchors:
            hint = "an anchor, as &name, has to stand before the alias *name"
            raise self.wrong(event, f"found undefined alias; {hint}")
        made = self.anchors[event.anchor]
        if made is None:
            raise ConfigError(
                [Problem(self.anchored[event.anchor], "this contains an alias of itself")]
            )
        self.count(event, made.count)
        return made

    def new(self, event: yaml.NodeEvent, depth: int) -> _Made:
        self.count(event, 1)
        if event.anchor:
            if event.anchor in self.anchors:
                line = self.anchored[event.anchor].line
                raise self.wrong(
                    event, f"the anchor &{event.anchor} is given twice; see line {line}"
                )
            self.anchors[event.anchor] = None
            self.anchored[event.anchor] = self.place(event)
        made = self.content(event, depth)
        if event.anchor:
            self.anchors[event.anchor] = made
        return made

    def content(self, event: yaml.NodeEvent, depth: int) -> _Made:
        if isinstance(event, yaml.ScalarEvent):
            plain = event.implicit[0]
            typed = plain or event.tag in _TYPED_TAGS
            value = resolve_plain(event.value) if typed else event.value
            return _Made(Node(value, self.place(event), plain=plain), text=event.value)
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(event, depth)
        parts = [self.make(each, depth + 1) for each in self.until(yaml.SequenceEndEvent)]
        return _around(Node(tuple(part.node for part in parts), self.place(event)), parts)

    def until(self, end: type[yaml.Event]) -> Iterator[yaml.NodeEvent]:
        """Yield the events that the parts of a collection begin with."""
        while not isinstance(event := self.events.get_event(), end):
            yield event

    def key(self, event: yaml.NodeEvent) -> _Made:
        self.left += 1  # it is no value
        made = (
            self.make(event, 0) if isinstance(event, yaml.ScalarEvent | yaml.AliasEvent) else None
        )
        if made is None or made.text is None:
            raise self.wrong(event, "a key must be a word")
        return made

    def mapping(self, event: yaml.NodeEvent, depth: int) -> _Made:
        entries: dict[str, Node] = {}
        places: dict[str, Place] = {}
        inherited: list[Node] = []
        seen: set[str] = set()
        parts: list[_Made] = []
        for key in self.until(yaml.MappingEndEvent):
            word = self.key(key)
            name = word.text or ""
            if name in seen:
                raise self.wrong(key, f"the key {shorten(name)!r} is given twice")
            seen.add(name)
            value = self.events.get_event()
            made = self.make(value, depth + 1)
            parts.append(made)
            if name == "<<" and word.node.plain:
                inherited += made.node.elements() or (made.node,)
                if not all(isinstance(other.value, Mapping) for other in inherited):
                    raise self.wrong(value, "'<<' takes a mapping or a list of mappings")
                continue
            entries[name] = made.node
            places[name] = self.place(key)
        for other in inherited:  # of several, the first wins; what stands here wins over all
            for name, child in other.items():
                entries.setdefault(name, child)
            for name, where in (other.key_places or {}).items():
                places.setdefault(name, where)
        return _around(Node(entries, self.place(event), places), parts)
