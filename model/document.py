"""Parsed documents that remember where each value was written; merging and interpolating them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from model.problems import Place, Problem

_SURROGATE = re.compile("[\ud800-\udfff]")
_LONG_WORD = re.compile(r"(\S{60})\S{20,}")

Scalar = str | int | float | bool | None
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its place: a scalar, a list of nodes, or a mapping of nodes.

    `key_places` holds, for a mapping, where each key was written. `plain` marks an unquoted scalar,
    whose type is decided again after interpolation (`mtu: ${MTU}` is a number). `written` is the
    text before variables were replaced, where there were any.
    """

    value: Scalar | tuple[Node, ...] | Mapping[str, Node]
    place: Place
    key_places: Mapping[str, Place] | None = None
    plain: bool = False
    written: str = ""

    def origin(self) -> str:
        """Return what a message about this value adds: how it was written, if with variables."""
        if not self.written:
            return ""
        written = self.written if len(self.written) <= 60 else self.written[:57] + "…"
        empty = "" if self.value else "; a variable that is not set is empty"
        return f" (written as {written}{empty})"

    def get(self, key: str) -> Node | None:
        """Return the node under `key`, None if there is none or this is no mapping."""
        return self.value.get(key) if isinstance(self.value, Mapping) else None

    def items(self) -> Iterator[tuple[str, Node]]:
        """Yield the entries of a mapping; nothing for anything else."""
        if isinstance(self.value, Mapping):
            yield from self.value.items()

    def elements(self) -> tuple[Node, ...]:
        """Return the elements of a list; nothing for anything else."""
        return self.value if isinstance(self.value, tuple) else ()

    def with_entry(self, key: str, node: Node) -> Node:
        """Return this mapping with one more entry (or another value for one that it has)."""
        return replace(self, value={**dict(self.items()), key: node})

    def bare(self) -> object:
        """Return the value without places: what a YAML parser would have given."""
        if isinstance(self.value, Mapping):
            return {key: node.bare() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.bare() for node in self.value]
        return self.value

    def at(self, path: Path) -> Node | None:
        """Return the node at `path`, None where it leads nowhere."""
        node: Node | None = self
        for step in path:
            if node is None:
                return None
            if isinstance(step, int):
                elements = node.elements()
                node = elements[step] if step < len(elements) else None
            else:
                node = node.get(step)
        return node

    def place_of(self, path: Path, *, key: bool = False) -> Place:
        """Return the place of the value at `path` (with `key`, of the key that names it).

        The nearest place above is returned where the path leads nowhere.
        """
        node, place = self, self.place
        for step in path:
            child: Node | None = None
            if isinstance(step, int):
                elements = node.elements()
                child = elements[step] if step < len(elements) else None
            else:
                child = node.get(step)
                if key and node.key_places and step in node.key_places:
                    place = node.key_places[step]
                elif child:
                    place = child.place
            if child is None:
                return place
            if isinstance(step, int):
                place = child.place
            node = child
        return place


def shorten(message: str) -> str:
    """Cut the words of a message that are too long to read, as a number of 5 000 digits."""
    return _LONG_WORD.sub(r"\1…", message)


def mapping(place: Place, entries: Mapping[str, Node] | None = None) -> Node:
    """Return a mapping node made by us rather than read."""
    return Node(dict(entries or {}), place)


def merge(first: Node, second: Node) -> Node:
    """Merge deeply: mappings merge, lists concatenate, of anything else the second wins."""
    if isinstance(first.value, Mapping) and isinstance(second.value, Mapping):
        merged = dict(first.value)
        for key, node in second.value.items():
            merged[key] = merge(merged[key], node) if key in merged else node
        places = {**(first.key_places or {}), **(second.key_places or {})}
        return Node(merged, first.place, places)
    if isinstance(first.value, tuple) and isinstance(second.value, tuple):
        return replace(first, value=first.value + second.value)
    return second


# $$ | $NAME | ${NAME} | ${NAME:-word} and its kin; the word reaches to the closing brace and may
# itself hold ${…}, which `_expand` finds by counting braces.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _VariableError(ValueError):
    pass


def interpolate(node: Node, environment: Mapping[str, str], problems: list[Problem]) -> Node:
    """Replace variables in every string below `node`, as compose and conlink do.

    `$NAME`, `${NAME}`, `${NAME-word}`, `${NAME:-word}`, `${NAME?message}`, `${NAME:?message}`,
    `${NAME+word}`, `${NAME:+word}` and `$$`. A variable that is not set is empty. What is wrong is
    added to `problems`.
    """
    if isinstance(node.value, Mapping):
        entries = {key: interpolate(n, environment, problems) for key, n in node.value.items()}
        return replace(node, value=entries)
    if isinstance(node.value, tuple):
        return replace(node, value=tuple(interpolate(n, environment, problems) for n in node.value))
    if not isinstance(node.value, str) or "$" not in node.value:
        return node
    try:
        text = _expand(node.value, environment)
    except _VariableError as error:
        problems.append(Problem(node.place, shorten(str(error))))
        return node
    value = resolve_plain(text) if node.plain else text
    return replace(node, value=value, written=node.value)


def unusable(node: Node) -> Iterator[Problem]:
    """Find the texts below `node` that no name and no argument of a program can be."""
    for child in (*node.elements(), *(n for _key, n in node.items())):
        yield from unusable(child)
    if not isinstance(node.value, str):
        return
    if "\0" in node.value:
        yield Problem(node.place, "a NUL byte in a text, which would end there; leave it out")
    elif _SURROGATE.search(node.value):  # os.environ has such in place of other bytes
        yield Problem(node.place, f"{shorten(ascii(node.value))} is not UTF-8 text")


def _expand(text: str, environment: Mapping[str, str], depth: int = 0) -> str:
    if depth > 20:
        raise _VariableError("variables are nested more than 20 deep")
    out: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        out.append(text[at:dollar])
        if text.startswith("$", dollar + 1):
            out.append("$")
            at = dollar + 2
        elif text.startswith("{", dollar + 1):
            end = _closing_brace(text, dollar + 2)
            out.append(_expression(text[dollar + 2 : end], environment, depth))
            at = end + 1
        elif match := _NAME.match(text, dollar + 1):
            out.append(environment.get(match[0], ""))
            at = match.end()
        else:
            raise _VariableError(f"a lone $ in {_brief(text)}; write $$ for a dollar sign")
    out.append(text[at:])
    return "".join(out)


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for at in range(start, len(text)):
        if text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
        elif text[at] == "{" and text[at - 1] == "$":
            depth += 1
    raise _VariableError(f"${{ without }} in {_brief(text)}")


def _expression(inside: str, environment: Mapping[str, str], depth: int) -> str:
    match = _NAME.match(inside)
    if not match:
        raise _VariableError(f"${{{inside}}} names no variable")
    name, rest = match[0], inside[match.end() :]
    value = environment.get(name)
    if not rest:
        return value or ""
    strict = rest.startswith(":")
    operator, word = rest[strict : strict + 1], rest[strict + 1 :]
    missing = not value if strict else value is None
    match operator:
        case "-":
            return _expand(word, environment, depth + 1) if missing else value or ""
        case "+":
            return "" if missing else _expand(word, environment, depth + 1)
        case "?":
            if missing:
                message = _expand(word, environment, depth + 1)
                raise _VariableError(f"variable {name} is not set" + (message and f": {message}"))
            return value or ""
    raise _VariableError(
        f"${{{inside}}}: expected ${{{name}}} or one of :- - :? ? :+ + after the name"
    )


def _brief(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:199] + "…")


_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 40


def resolve_plain(text: str) -> Scalar:
    """Give an unquoted scalar its type by YAML 1.2's core schema.

    PyYAML's own rules are YAML 1.1's, where `10:20:30:40:50:51`, a MAC address, is a number in
    base 60 and `no` is false.
    """
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if len(text) <= _LONGEST_NUMBER:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _OCTAL_OR_HEX.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text
