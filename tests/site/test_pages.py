"""The pages say what the product does: each event, field, option, key and error text is its own."""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from reconciler import arguments, cli, status
from reconciler.render import command_data, status_data
from tools.site import console, reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PRODUCT = ("model", "observers", "actuators", "reconciler")
_HOLE = "\0"  # what a placeholder of an f-string becomes


def texts() -> Iterator[str]:
    """Yield every text of the product's source, with a hole for what is only known when it runs."""
    for package in PRODUCT:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
                elif isinstance(node, ast.JoinedStr):
                    yield "".join(
                        part.value if isinstance(part, ast.Constant) else _HOLE
                        for part in node.values
                        if not isinstance(part, ast.Constant) or isinstance(part.value, str)
                    )


TEXTS = list(texts())


def first_column(page: str, heading: str) -> list[str]:
    """Return the code in the first column of the table below a heading."""
    section = (DOCS / page).read_text().partition(f"{heading}\n")[2]
    rows = section.partition("| --- |")[2].partition("\n\n")[0].splitlines()[1:]
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])]


def quoted() -> list[str]:
    page = (DOCS / "troubleshooting.md").read_text()
    return [
        " ".join(block.lines).strip() for block in console.blocks(page) if block.language == "text"
    ]


@pytest.mark.parametrize("quote", quoted())
def test_an_error_that_is_quoted_is_one_of_the_products(quote: str) -> None:
    words = re.sub(r"^reconcile: ", "", quote)
    pattern = re.compile(".*".join(map(re.escape, words.split("…"))), re.DOTALL)
    assert any(pattern.search(text) for text in TEXTS), quote


def test_a_text_that_is_not_the_products_would_be_found() -> None:
    assert len(quoted()) > 15
    assert not any("the moon is not in phase" in text for text in TEXTS)


def test_every_state_is_listed() -> None:
    page = (DOCS / "status.md").read_text()
    rows = re.findall(r"^\| (\w+) \|", page.partition("## States")[2], re.MULTILINE)
    assert set(get_args(status.State)) == set(rows) - {"state", "field"}


def test_every_field_of_the_status_is_listed() -> None:
    source = ast.parse((ROOT / "reconciler/loop.py").read_text())
    calls = [
        node
        for node in ast.walk(source)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "status_data"
    ]
    more = {word.arg for call in calls for word in call.keywords}
    listed = first_column("status.md", "## Fields")
    page = (DOCS / "status.md").read_text()
    assert {*status_data([]), *more} <= set(listed)
    assert command_data([]) == []
    for field in ("key", "container", "state", "message", "bridge", "addresses", "because", "code"):
        assert f"`{field}`" in page


def test_every_option_is_in_the_reference() -> None:
    parser = arguments.parser()
    text = reference.options(parser)
    for action in parser._actions:
        for name in action.option_strings:
            assert f"`{name}" in text, name
    assert "%(default)s" not in text
    assert "--default-mtu N" in text


def test_a_parser_becomes_a_table_for_each_group() -> None:
    parser = argparse.ArgumentParser(prog="some", add_help=False)
    group = parser.add_argument_group("what to do")
    group.add_argument("-o", "--output", choices=("a", "b"), default="a", help="(default: a)")
    group.add_argument("--hidden", help=argparse.SUPPRESS)
    assert reference.options(parser) == (
        "### What to do\n\n| option | does |\n| --- | --- |\n"
        "| `--output a|b`<br>`-o a|b` | (default: a) |\n"
    )


def test_every_key_of_the_schema_is_in_the_reference() -> None:
    schema = json.loads((ROOT / "model/schema.json").read_text())
    page = (DOCS / "configuration.md").read_text()
    for name, definition in schema["$defs"].items():
        if "properties" in definition:
            assert f"<!-- site: keys {name} -->" in page
            table = reference.keys(schema, name)
            for key in definition["properties"]:
                assert f"| `{key}` |" in table


def test_a_key_is_told_with_what_it_may_be() -> None:
    schema = {
        "$defs": {
            "name": {"type": "string", "maxLength": 15},
            "link": {
                "required": ["dev"],
                "properties": {
                    "dev": {"$ref": "#/$defs/name", "description": "As <dev>.", "default": "eth0"},
                    "mtu": {"type": "integer", "minimum": 68, "maximum": 100},
                    "ip": {"anyOf": [{"type": "string"}, {"type": "array"}], "examples": ["a|b"]},
                },
            },
        }
    }
    assert reference.keys(schema, "link").splitlines()[2:] == [
        "| `dev` | text, at most 15 characters | As &lt;dev>. Required. Default: `eth0`. |",
        "| `mtu` | 68 to 100 |  |",
        "| `ip` | text or list of any | Example: `a|b`. |",
    ]


@pytest.mark.parametrize("code", [cli.OK, cli.FAILED, cli.CHANGES])
def test_every_exit_code_is_in_the_reference(code: int) -> None:
    page = (DOCS / "command-line.md").read_text().partition("## Exit codes")[2]
    assert f"\n| {code} |" in page


def test_the_commands_are_in_the_reference() -> None:
    commands = reference._commands(arguments.parser())
    listed = first_column("command-line.md", "on SIGTERM or SIGINT.\n")
    assert commands.keys() == {words.split()[0] for words in listed}
