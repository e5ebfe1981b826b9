"""The formats of a picture, and how one gets out; decides nothing about the network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from model.graph import Edge, Graph, Node
from model.problems import printable
from reconciler.dot import as_dot
from reconciler.mermaid import as_mermaid
from reconciler.render import JSON_VERSION

OK, FAILED = 0, 1
_SECONDS = 60  # a thousand containers on one switch take ten


class DrawingError(Exception):
    """A picture cannot be made here; the message says why and what to do."""


def as_json(graph: Graph) -> str:
    """Render a graph for programs; `version` changes when a field changes its meaning or goes.

    What is not declared is left out, but for `target`: null there is a link that leads nowhere.
    """
    document = {
        "version": JSON_VERSION,
        "nodes": [_plain(node) for node in graph.nodes],
        "edges": [_plain(edge) for edge in graph.edges],
    }
    return json.dumps(document, indent=2) + "\n"


def _plain(thing: Node | Edge) -> dict[str, Any]:
    found = {f.name: getattr(thing, f.name) for f in fields(thing) if f.name != "sight"}
    told = {k: v for k, v in found.items() if v not in ((), "", None) or k == "target"}
    if thing.sight is not None:
        told["live"] = {f.name: getattr(thing.sight, f.name) for f in fields(thing.sight)}
    return told


def as_svg(graph: Graph) -> str:
    """Let graphviz draw a graph.

    Raises:
        DrawingError: graphviz is not installed, or cannot.
    """
    try:
        done = subprocess.run(
            ["dot", "-Tsvg"],
            input=as_dot(graph), capture_output=True, text=True, encoding="utf-8",
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise DrawingError(
            "graph --format svg needs graphviz: install the Debian package graphviz, "
            "or use --format mermaid"
        ) from None
    except subprocess.TimeoutExpired:
        raise DrawingError(
            f"graphviz did not end within {_SECONDS} s; use --format dot and another of its layouts"
        ) from None
    except OSError as error:
        raise DrawingError(f"graphviz could not be started: {error.strerror}") from error
    if done.returncode:
        said = done.stderr.strip().partition("\n")[0] or f"exit code {done.returncode}"
        raise DrawingError(f"graphviz: {printable(said)}")
    return done.stdout


FORMATS: dict[str, Callable[[Graph], str]] = {
    "dot": as_dot,
    "mermaid": as_mermaid,
    "svg": as_svg,
    "json": as_json,
}


def show(graph: Graph, name: str) -> int:
    """Print a graph in a format of `FORMATS`; return the exit code."""
    try:
        text = FORMATS[name](graph)
    except DrawingError as error:
        print(f"reconcile: {error}", file=sys.stderr)
        return FAILED
    print(text, end="")
    return OK
