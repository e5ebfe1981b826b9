"""The JSON Schemas that editors use, made from the one that configuration is checked against.

An editor sees one file, before variables are replaced and before files are merged: what only the
merged configuration shows is left to `reconcile validate`. Refuses to know the rest of compose.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from model.config import BASES, MODES, NOT_PER_REPLICA, ONLY_OF
from reconciler.shape import schema

Schema = dict[str, Any]

# What every editor understands; $ref has no neighbours in it (JSON Schema Core, draft 7, 8.3).
_DRAFT = "http://json-schema.org/draft-07/schema#"
# The first variable of a text is well formed (model.document.interpolate); what it will hold, or
# whether a word after it is ever read, nobody knows before.
_WITH_VARIABLE = r"^[^$]*\$(\$|[A-Za-z_]|\{[A-Za-z_][A-Za-z0-9_]*(\}|:?[-+?][\s\S]*\}))"
_VARIABLE: Schema = {"type": "string", "pattern": _WITH_VARIABLE}
_KEPT = ("description", "default", "examples")


def network() -> Schema:
    """Return the schema of a network file."""
    return {
        "$schema": _DRAFT,
        "title": "Relink network file",
        **_section_of(everywhere=True),
        "definitions": _definitions(),
    }


def compose() -> Schema:
    """Return the schema of a compose file: of `x-network` in it, and of nothing else."""
    source = schema()
    of_service = {**_section_of(everywhere=False), **_IN_A_SERVICE}
    return {
        "$schema": _DRAFT,
        "title": "Compose file with Relink's x-network",
        "description": source["description"],
        "type": ["object", "null"],
        "properties": {
            "x-network": _section_of(everywhere=True),
            "services": {
                "type": ["object", "null"],
                "additionalProperties": {
                    "type": ["object", "null"],
                    "properties": {"x-network": of_service},
                },
            },
        },
        "definitions": _definitions(),
    }


_IN_A_SERVICE: Schema = {
    "description": "Links and commands here are for this service, unless they name another one.",
    "examples": [{"links": [{"bridge": "s1", "ip": "10.0.1.1/24"}]}],
}


def text(found: Schema) -> str:
    """Return a schema as the file that editors read."""
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _section_of(*, everywhere: bool) -> Schema:
    """Return the schema of a mapping of links, bridges, tunnels and commands.

    Args:
        everywhere: a link or command must name its service or container; it need not in a service.
    """
    source = schema()
    properties = {}
    for name, section in source["properties"].items():
        item: Schema = {"$ref": section["items"]["$ref"].replace("$defs", "definitions")}
        if everywhere and name in ("links", "commands"):
            item = {"allOf": [item, _owned()]}
        properties[name] = {"type": ["array", "null"], **_only(section, *_KEPT), "items": item}
    return {
        **_only(source, *_KEPT),
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": properties,
    }


def _owned() -> Schema:
    return {"anyOf": [{"required": [owner]} for owner in ("service", "container")]}


def _definitions() -> Schema:
    definitions = schema()["$defs"]
    found: Schema = {}
    for name, definition in definitions.items():
        if "properties" in definition:
            found[name] = _for_editors(definition, definitions)
    found["link"]["allOf"] = [_one_owner(), *_kinds_of_link()]
    found["command"]["allOf"] = [_one_owner()]
    own = found["link"]["properties"]["per-replica"]
    never = dict.fromkeys(NOT_PER_REPLICA, False)
    own["items"] = {"allOf": [own["items"], {"properties": never}]}
    return found


def _for_editors(source: Schema, definitions: Schema) -> Schema:
    """Return what an editor needs of a schema: patterns, and room for variables."""
    if "$ref" in source:
        name = source["$ref"].rpartition("/")[2]
        if "properties" in definitions[name]:
            return {"$ref": f"#/definitions/{name}"}
        rest = {key: value for key, value in source.items() if key != "$ref"}
        return _for_editors({**definitions[name], **rest}, definitions)
    kept = _only(source, *_KEPT)
    editor = source.get("editor", {})
    if "properties" in source:
        properties = {
            key: _for_editors(value, definitions) for key, value in source["properties"].items()
        }
        other = _only(source, "type", "additionalProperties", "required")
        return {**kept, **other, "properties": properties}
    if "anyOf" in source:
        return {**kept, "anyOf": [_for_editors(each, definitions) for each in source["anyOf"]]}
    if "enum" in source:
        return {**kept, **_one_of(source["enum"])}
    if source["type"] == "array":
        other = _only(source, "type", "minItems", "uniqueItems")
        return {**kept, **other, "items": _for_editors(source["items"], definitions)}
    if "string" in source["type"]:
        pattern = {"pattern": f"{editor['pattern']}|{_WITH_VARIABLE}"} if editor else {}
        return {**kept, "type": source["type"], **editor, **pattern}
    limits = _only(source, "minimum", "maximum")
    numbers = f"a number from {limits['minimum']} to {limits['maximum']}" if limits else "true"
    says = f"expected {numbers}, or a variable as ${{NAME}}"
    return {
        **kept, "type": [source["type"], "string"], **limits,
        "pattern": _WITH_VARIABLE, "patternErrorMessage": says,
    }  # fmt: skip


def _only(source: Schema, *keys: str) -> Schema:
    return {key: source[key] for key in keys if key in source}


def _one_owner() -> Schema:
    return {"if": {"required": ["service"]}, "then": {"properties": {"container": False}}}


def _kinds_of_link() -> Iterator[Schema]:
    """Yield which keys and values go together, as far as one file alone can tell.

    Another file may add a key to a link, so that none is missing for certain. None is ever taken
    away, so that what does not go together never will.
    """
    for kind, bases in BASES.items():
        then: Schema = {key: False for key, kinds in ONLY_OF.items() if kind not in kinds}
        then["base"] = _one_of(bases)
        if kind in MODES:
            then["mode"] = _one_of(MODES[kind])
        of_kind: Schema = {"properties": {"type": {"const": kind}}, "required": ["type"]}
        yield {"if": of_kind, "then": {"properties": then}}
    for key, kinds in ONLY_OF.items():  # where no type is given, a key gives it away
        apart: Schema = {
            other: False for other, others in ONLY_OF.items() if not set(others) & set(kinds)
        }
        if kinds == ("veth",):
            apart["base"] = _one_of(BASES["veth"])
        if apart:
            untyped: Schema = {"required": [key], "not": {"required": ["type"]}}
            yield {"if": untyped, "then": {"properties": apart}}
    yield {"if": {"required": ["container"]}, "then": {"properties": {"per-replica": False}}}


def _one_of(words: Iterable[str]) -> Schema:
    return {"anyOf": [{"enum": list(words)}, _VARIABLE]}
