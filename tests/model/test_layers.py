"""The layers, read from the syntax tree: who may import whom, and what the model never knows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("model", "observers", "actuators", "reconciler", "tools")
MAY = {
    "model": {"model"},
    "observers": {"model", "observers"},
    "actuators": {"model", "actuators"},
    "reconciler": {"model", "observers", "actuators", "reconciler"},
    "tools": {"model", "reconciler", "tools"},
}
# All that the model may take from the standard library: computing, and nothing that can look at a
# clock, a file, a socket, a process or chance.
PURE = {
    "__future__", "collections", "dataclasses", "enum", "fnmatch", "fractions", "functools",
    "hashlib", "ipaddress", "itertools", "json", "math", "operator", "re", "shlex", "statistics",
    "string",
    "struct", "types", "typing",
}  # fmt: skip
# Builtins by which a module could reach the world without importing anything.
DOORS = {"open", "eval", "exec", "compile", "__import__", "input", "print", "breakpoint"}


def modules(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of every import, at the top or inside of a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            yield (
                node.lineno,
                ".".join([*above, node.module or ""] if node.level else [node.module or ""]),
            )


def wrong_imports(layer: str, source: str, where: str) -> list[str]:
    package = ".".join(Path(where).with_suffix("").parts[:-1])
    found = []
    for line, name in imported(ast.parse(source), package):
        top = name.partition(".")[0]
        inside = top in {*LAYERS, "tests", "bench", "examples", "tools"}
        if inside and top not in MAY[layer]:
            found.append(f"{where}:{line}: {layer} imports {name}")
        if layer == "model" and not inside and top not in PURE:
            found.append(f"{where}:{line}: model imports {name}, which is not pure")
    return sorted(found)


def doors(source: str, where: str) -> list[str]:
    return [
        f"{where}:{node.lineno}: model calls {node.func.id}()"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in DOORS
    ]


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_downwards(layer: str) -> None:
    found = [
        wrong
        for path in modules(layer)
        for wrong in wrong_imports(layer, path.read_text(), str(path.relative_to(ROOT)))
    ]
    assert not found, "\n".join(found)


def test_the_model_opens_nothing() -> None:
    found = [
        wrong
        for path in modules("model")
        for wrong in doors(path.read_text(), str(path.relative_to(ROOT)))
    ]
    assert not found, "\n".join(found)


def test_every_layer_has_modules() -> None:
    assert all(modules(layer) for layer in LAYERS)


@pytest.mark.parametrize(
    ("layer", "source", "said"),
    [
        ("model", "import os", "model imports os, which is not pure"),
        ("model", "def f():\n    import time", "model imports time, which is not pure"),
        ("model", "from subprocess import run", "model imports subprocess, which is not pure"),
        ("model", "import yaml", "model imports yaml, which is not pure"),
        ("model", "from reconciler import diff", "model imports reconciler"),
        ("observers", "import actuators.links", "observers imports actuators.links"),
        ("observers", "from reconciler.plan import Plan", "observers imports reconciler.plan"),
        ("actuators", "from observers.links import read", "actuators imports observers.links"),
        ("actuators", "from ..observers import links", "actuators imports observers"),
        ("reconciler", "from tests.lab import compose", "reconciler imports tests.lab"),
        ("reconciler", "import tools.net2dot", "reconciler imports tools.net2dot"),
        ("reconciler", "from tools.mdc import cli", "reconciler imports tools.mdc"),
        ("model", "import tools", "model imports tools"),
        ("tools", "from observers.engine import Engine", "tools imports observers.engine"),
        ("tools", "def f():\n    import actuators.links", "tools imports actuators.links"),
    ],
)
def test_a_wrong_import_is_told_with_its_place(layer: str, source: str, said: str) -> None:
    where = f"{layer}/x.py"
    assert wrong_imports(layer, source, where) == [f"{where}:{source.count(chr(10)) + 1}: {said}"]


def test_a_wrong_call_is_told_with_its_place() -> None:
    assert doors("x = 1\nopen('f')", "model/x.py") == ["model/x.py:2: model calls open()"]
