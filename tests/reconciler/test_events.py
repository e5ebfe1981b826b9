"""The events of the log are those that the documentation lists, read from the syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = re.compile(r"^\| event .*?\n\n?\Z", re.MULTILINE | re.DOTALL)


def logged(tree: ast.AST) -> Iterator[str]:
    """Yield the first word of each call on `log`; of one that is looked up, every one there is."""
    tables = {
        target.id: ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id == "_PAST"
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not _is_log(node.func):
            continue
        match node.args[0]:
            case ast.Constant(value=str(event)):
                yield event
            case ast.Subscript(value=ast.Name(id=name)):
                yield from tables[name].values()
            case other:
                raise AssertionError(f"line {node.lineno}: which event is {ast.unparse(other)}?")


def _is_log(function: ast.expr) -> bool:
    """Tell whether it is log.info, or one of two such things."""
    if isinstance(function, ast.IfExp):
        return _is_log(function.body)
    return isinstance(function, ast.Attribute) and (
        isinstance(function.value, ast.Name) and function.value.id == "log"
    )


def test_every_event_is_documented_and_every_documented_one_is_logged() -> None:
    sources = [path for path in ROOT.glob("reconciler/*.py") if "structlog" in path.read_text()]
    events = {event for path in sources for event in logged(ast.parse(path.read_text()))}
    table = TABLE.search((ROOT / "docs/logs.md").read_text())
    assert table
    rows = [line.split("|")[1] for line in table[0].splitlines()[2:] if line.startswith("|")]
    documented = {event for row in rows for event in re.findall(r"`([^`]+)`", row)}
    assert events == documented
    assert {"created", "command_ended", "All links connected"} <= events
