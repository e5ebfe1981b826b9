"""YAML into nodes that keep their places: types by YAML 1.2, size bounded, errors in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
        told = f"{error.context}: {problem}; it is not closed"
        return Problem(Place(name, began.line + 1, began.column + 1), told)
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
    hint = next((hint for words, hint in _HINTS if words in problem), "")
    return Problem(Place(name, mark.line + 1, mark.column + 1), problem + hint)


# What to do about some of what libyaml and PyYAML say.
_HINTS = (
    ("mapping values are not allowed", "; indent the key like its neighbours, or quote the value"),
    ("'-' indicator", "; indent it like its neighbours"),
    ("expected <block end>", "; indent it like its neighbours"),
    ("expected ',' or", "; a bracket is not closed, or a comma is missing"),
    ("undefined alias", "; an anchor, as &name, has to stand before the alias *name"),
    ("unknown escape", "; write \\\\ for a backslash, or use single quotes"),
    ("incompatible YAML", "; leave out the line that begins with %YAML"),
)


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
