"""Pictures in the language of Mermaid: https://mermaid.js.org/syntax/flowchart.html.

Refuses to know what is said about a thing (captions), and where it stands (layout).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from model.graph import NOT_RUNNING, Edge, Graph, Node
from model.problems import printable
from reconciler.captions import impairment, kind_of, lines, subtitles, title
from reconciler.layout import layout
from reconciler.palette import HEADS, LINE, PAPER, TEXT

# What cannot mean anything to Mermaid, to its Markdown or to HTML inside of a quoted label.
_PLAIN = re.compile(r"[^A-Za-z0-9 .,:/()+=…×-]")
_SHAPES = {
    "service": ("[", "]"),
    "container": ("[", "]"),
    "bridge": ("([", "])"),
    "remote": ("{{", "}}"),
    "parent": ("[[", "]]"),
}


def as_mermaid(graph: Graph) -> str:
    """Render a graph for Mermaid: a flowchart from left to right."""
    return "\n".join([*_lines(graph), ""])


def _lines(graph: Graph) -> Iterator[str]:
    yield "flowchart LR"
    placed = layout(graph)
    names = {node.id: f"n{n}" for n, node in enumerate(graph.nodes)}
    rows: dict[str, list[Edge]] = defaultdict(list)
    for edge in graph.edges:
        rows[edge.source].append(edge)
    inside: dict[str, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        inside[placed.homes[node.id]].append(node)
    for home, nodes in inside.items():
        grouped = bool(home) and len(nodes) > 1
        if grouped:
            yield f'  subgraph g{names[home]}[" "]'
            yield "    direction LR"
        for node in nodes:
            yield f"{'    ' if grouped else '  '}{_node(node, names[node.id], rows[node.id])}"
        if grouped:
            yield "  end"
            yield f"  style g{names[home]} fill:{LINE}18,stroke:{LINE}30"
    drawn = [(edge, edge.target) for edge in graph.edges if edge.target is not None]
    for edge, target in drawn:
        ends = [names[edge.source], names[target]]
        if placed.depths[edge.source] > placed.depths[target]:
            ends.reverse()
        yield f"  {ends[0]} {_line(edge)}|{_quoted(edge.dev)}| {ends[1]}"
    for n, (edge, _target) in enumerate(drawn):
        if colour := _colour(edge):
            yield f"  linkStyle {n} stroke:{colour}"
    for kind, colour in HEADS.items():
        yield f"  classDef {kind} fill:{PAPER},stroke:{colour},color:{TEXT['plain']}"
    yield f"  classDef absent fill:{PAPER},stroke:{TEXT['muted']},color:{TEXT['muted']}"


def _node(node: Node, name: str, edges: list[Edge]) -> str:
    absent = node.sight is not None and node.sight.state == NOT_RUNNING
    said = [f"<b>{_escaped(title(node))}</b>", *(_escaped(w.text) for w in subtitles(node))]
    said += [
        " ".join(_escaped(words.text) for words in line) for edge in edges for line in lines(edge)
    ]
    opening, closing = _SHAPES[node.kind]
    kind = "absent" if absent else node.kind
    return f'{name}{opening}"{"<br/>".join(said)}"{closing}:::{kind}'


def _line(edge: Edge) -> str:
    """Return a line whose form tells without colour what its colour tells."""
    if edge.sight and edge.sight.state != "Ready":
        return "x--x"
    return "-.-" if impairment(edge) else "---"


def _colour(edge: Edge) -> str:
    if edge.sight and edge.sight.state != "Ready":
        return TEXT[kind_of(edge.sight)]
    if impairment(edge):
        return TEXT["impaired"]
    return TEXT["ready"] if edge.sight else ""


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Return text with an entity code for whatever could mean something, `#34;` for a quote."""
    return _PLAIN.sub(lambda match: f"#{ord(match[0])};", printable(text))
