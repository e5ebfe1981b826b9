"""Reference tables: the command line's from its parser, the configuration's from its schema.

It knows argparse and JSON Schema; neither what an option does nor what a key means.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any


def options(parser: argparse.ArgumentParser) -> str:
    """Return the options of a parser as Markdown: a table for each group, then for each command."""
    parts = [
        f"### {title[:1].upper()}{title[1:]}\n\n" + table(["option", "does"], rows)
        for title, rows in _groups(parser)
    ]
    known = {flag for action in parser._actions for flag in action.option_strings}  # noqa: SLF001
    for name, command in _commands(parser).items():
        rows = [row for _, rows in _groups(command, known) for row in rows]
        if rows:
            parts.append(f"### Of `{name}`\n\n" + table(["option", "does"], rows))
    return "\n".join(parts)


def _groups(
    parser: argparse.ArgumentParser, known: Iterable[str] = ()
) -> Iterator[tuple[str, list[list[str]]]]:
    for group in parser._action_groups:  # noqa: SLF001 - argparse has no other way to ask
        rows = [
            [_names(action), _escaped(_help(action, parser))]
            for action in group._group_actions  # noqa: SLF001
            if not isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
            and action.help != argparse.SUPPRESS
            and not (action.option_strings and set(action.option_strings) <= set(known))
        ]  # fmt: skip
        if rows:
            title = re.sub(r" \(.*\)$", "", group.title or "")  # what is for the help on a screen
            yield "general" if title == "options" else title, rows


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def _names(action: argparse.Action) -> str:
    """Return an option as it is typed, its long names first; or what stands for an argument."""
    value = ""
    if action.nargs != 0:
        choices = "|".join(map(str, action.choices or ()))
        value = f" {action.metavar or choices or action.dest.upper()}"
    if not action.option_strings:
        return f"`{value.strip()}`"
    names = sorted(action.option_strings, key=lambda name: (not name.startswith("--"), name))
    return "<br>".join(f"`{name}{value}`" for name in names)


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    words = (action.help or "") % {**vars(action), "prog": parser.prog}
    if action.choices and action.metavar:
        missing = [str(each) for each in action.choices if str(each) not in words]
        words += f" ({', '.join(missing)})" if missing else ""
    return words


def keys(schema: Mapping[str, Any], name: str) -> str:
    """Return the keys of one definition of a schema as a Markdown table.

    Raises:
        KeyError: the schema has no definition of that name.
    """
    definition = schema["$defs"][name]
    required = definition.get("required", ())
    rows = []
    for key, value in definition["properties"].items():
        words = [value.get("description", ""), *_more(value, required=key in required)]
        rows.append(
            [f"`{key}`", _escaped(_type(value, schema)), _escaped(" ".join(filter(None, words)))]
        )
    return table(["key", "value", ""], rows)


def _more(value: Mapping[str, Any], *, required: bool) -> Iterator[str]:
    if required:
        yield "Required."
    if "default" in value:
        yield f"Default: `{_shown(value['default'])}`."
    if "examples" in value:
        yield "Example: " + ", ".join(f"`{_shown(each)}`" for each in value["examples"]) + "."


def _type(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Say in words what a value may be."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        target = schema["$defs"][name]
        return f"mapping: {name}" if "properties" in target else _type(target, schema)
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_type(each, schema) for each in value["anyOf"]))
    kinds = value.get("type", "any")
    if isinstance(kinds, list):
        return " or ".join(_WORDS.get(str(kind), str(kind)) for kind in kinds)
    if kinds == "array":
        return f"list of {_type(value.get('items', {}), schema)}"
    words = _WORDS.get(str(kinds), str(kinds))
    if "minimum" in value and "maximum" in value:
        words = f"{value['minimum']} to {value['maximum']}"
    elif "maxLength" in value:
        words += f", at most {value['maxLength']} characters"
    return words


_WORDS = {"string": "text", "integer": "number", "boolean": "true or false", "object": "mapping"}


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escaped(text: str) -> str:
    """Return text for a cell: what is not code is neither HTML nor the end of the cell."""
    parts = text.replace("\n", " ").split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("|", "\\|") for part in parts[::2]]
    return "`".join(parts)
