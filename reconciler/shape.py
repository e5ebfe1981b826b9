"""The shape of a configuration: checked by the JSON Schema, with errors in words and places."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from model.document import Node, resolve_plain, shorten
from model.problems import ConfigError, Place, Problem

_Path = tuple[str | int, ...]


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


def check_shape(
    root: Node, shape: dict[str, Any], file: str
) -> tuple[list[Problem], frozenset[Place]]:
    """Check a document against a JSON Schema, which was read from `file`.

    Returns:
        What the schema finds wrong, in words and with places; and the places of the values that
        are wrong themselves, about which nothing more needs to be said.

    Raises:
        ConfigError: it is no schema.
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
        found = [leaf for e in validator.iter_errors(root.bare()) for leaf in _leaves((), e)]
    except (SchemaError, Unresolvable, RecursionError) as error:
        message = getattr(error, "message", "") or str(error)
        raise ConfigError([Problem(Place(file), f"not a usable schema: {message}")]) from error
    mistyped = {path for path, error in found if error.validator == "type"}
    problems = [
        problem
        for path, error in found
        if error.validator == "type" or path not in mistyped  # a number has no wrong length, too
        for problem in _in_words(root, path, error)
    ]
    of_a_part = ("additionalProperties", "required")  # the rest of the mapping may be right
    told = {root.place_of(path) for path, error in found if error.validator not in of_a_part}
    return problems, frozenset(told)


def _leaves(above: _Path, error: Any) -> Iterator[tuple[_Path, Any]]:
    """Yield what is wrong, with its path: of several alternatives, what the nearest one says.

    The alternative of the value's own type tells more than "none of them fits".
    """
    path = (*above, *error.relative_path)
    near = [e for e in error.context or () if e.validator != "type" or e.relative_path]
    if error.validator == "anyOf" and near:
        for inner in near:
            yield from _leaves(path, inner)
    else:
        yield path, error


def _in_words(root: Node, path: _Path, error: Any) -> Iterable[Problem]:
    node = root.at(path)
    place, origin = root.place_of(path), node.origin() if node else ""
    value = error.instance
    name, found = _named(path), shown(value)
    match error.validator:
        case "additionalProperties":
            allowed = error.schema.get("properties", {})
            for key in sorted(set(value) - set(allowed)):
                near = get_close_matches(key.lower(), allowed, 1)
                hint = f"did you mean {near[0]!r}? Allowed" if near else "allowed"
                message = f"unknown key {shorten(key)!r}; {hint}: {', '.join(allowed)}"
                if not path and key in ("services", "x-network"):
                    message += "; a compose file is given with --compose-file"
                yield Problem(root.place_of((*path, key), key=True), message)
            return
        case "anyOf":
            kinds = [_A_TYPE[s["type"]] for s in error.validator_value if "type" in s]
            message = f"{name} is {found}, not {' or '.join(kinds)}"
        case "required":
            missing = [repr(key) for key in error.validator_value if key not in value]
            are = "is" if len(missing) == 1 else "are"
            message = f"{', '.join(missing)} {are} missing"
        case "enum":
            message = f"{name} is {found}; allowed: {', '.join(map(str, error.validator_value))}"
        case "type":
            kinds = error.validator_value
            kinds = [_A_TYPE.get(k, k) for k in ([kinds] if isinstance(kinds, str) else kinds)]
            message = f"{name} is {found}, not {' or '.join(kinds)}{_quotes(value, error.schema)}"
        case "minimum" | "maximum":
            low, high = error.schema.get("minimum"), error.schema.get("maximum")
            message = f"{name} is {found}; allowed: {low} to {high}"
        case "maxLength":
            message = f"{name} is {found}, longer than {error.validator_value} characters"
        case "uniqueItems":
            twice = next(each for n, each in enumerate(value) if each in value[:n])
            message = f"{name} has {shown(twice)} twice"
        case "minLength" | "minItems":
            message = f"{name} is empty"
        case "not" if value in _RESERVED:
            message = f"{name} is {found}, which cannot be the name of a link or bridge"
        case "not":
            message = (
                f"{name} is {found}; allowed: printable ASCII without spaces, '/', ':' and '%'"
            )
        case _:
            message = f"{name}: {shorten(error.message)}"
    yield Problem(place, message + origin)


def _quotes(value: object, expected: Mapping[str, Any]) -> str:
    """Return what to do about a value that only its quotes make wrong, or the lack of them."""
    if isinstance(value, str) and expected["type"] in ("integer", "number", "boolean"):
        return "; leave out the quotes" if not isinstance(resolve_plain(value), str) else ""
    if isinstance(value, bool | int | float) and expected["type"] == "string":
        fits = re.search(expected.get("editor", {}).get("pattern", ""), str(value))
        return "; put it in quotes" if fits else ""
    return ""


# The kernel has interfaces or directories of these names (net/core/dev.c, net/ipv4/devinet.c).
_RESERVED = (".", "..", "all", "default", "lo")


def _named(path: _Path) -> str:
    """Name the value at a path: `'mtu'`, `entry 2 of 'ip'`."""
    match path:
        case (*_, str(key)):
            return repr(key)
        case (*_, str(key), int(number)):
            return f"entry {number + 1} of {key!r}"
    return "this"


def shown(value: object) -> str:
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
