"""Pictures in the language of graphviz: https://graphviz.org/doc/info/lang.html.

Refuses to know what is said about a thing (captions), and where it stands (layout).
"""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterator

from model.graph import NOT_RUNNING, Edge, Graph, Node
from model.problems import printable
from reconciler.captions import Words, impairment, kind_of, lines, subtitles, title
from reconciler.layout import layout
from reconciler.palette import HEADS, LINE, PAPER, TEXT

_FONT = "Helvetica,Arial,sans-serif"
# Points: between two nodes; of a node's head, with its padding; of a line; of a row's padding.
_APART, _HEAD, _LINE, _PADDING = 8, 22, 12, 9
_POINTS_PER_INCH = 72
_SHORT = 10  # characters that have room beside a name
_SPACE = "&#160;"  # SVG drops others where a font begins


def as_dot(graph: Graph) -> str:
    """Render a graph for graphviz's `dot`: from left to right, with all words inside of nodes.

    A link is a line from its own row in its container to the switch, so that no label can lie on
    another.
    """
    return "\n".join([*_Drawing(graph).lines(), ""])


class _Drawing:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.layout = layout(graph)
        self.rows: dict[str, list[Edge]] = defaultdict(list)
        for edge in graph.edges:
            self.rows[edge.source].append(edge)
        # The heights of the rows of nodes beside each hub: it has a socket for each.
        self.sockets: dict[str, dict[int, int]] = defaultdict(dict)
        for name, (column, row) in self.layout.cells.items():
            hub = self.sockets[self.layout.homes[name]]
            height = _APART + self.height(name) + column * (_APART + 4)
            hub[row] = max(hub.get(row, 0), height)

    def height(self, name: str) -> int:
        """Return about how high a node is, in points."""
        return _HEAD + sum(_PADDING + _LINE * len(lines(edge)) for edge in self.rows[name])

    def lines(self) -> Iterator[str]:
        yield "graph network {"
        yield (
            f"  graph [rankdir=LR, bgcolor=transparent, ranksep=0.6, "
            f"nodesep={_APART / _POINTS_PER_INCH:.2f}]"
        )
        yield f'  node [shape=plain, fontname="{_FONT}", fontsize=10, fontcolor="{TEXT["plain"]}"]'
        yield f'  edge [color="{LINE}", penwidth=1.4]'
        # Backwards, because dot turns a graph from left to right by a quarter of a turn.
        inside: dict[str, list[str]] = defaultdict(list)
        for node in reversed(self.graph.nodes):
            inside[self.layout.homes[node.id]].append(self.node(node))
        for home, nodes in inside.items():
            if home and len(nodes) > 1:
                yield f"  subgraph {_quoted(f'cluster {home}')} {{"
                yield f'    graph [style="rounded,filled", color="{LINE}30", fillcolor="{LINE}18",'
                yield "      margin=14]"
                yield from (f"    {node}" for node in nodes)
                yield "  }"
            else:
                yield from (f"  {node}" for node in nodes)
        for edge in reversed(self.graph.edges):
            if edge.target is not None:
                yield f"  {self.edge(edge, edge.target)}"
        yield from self.grid()
        yield "}"

    def grid(self) -> Iterator[str]:
        """Keep what stands beside each other on one height, by lines that nobody sees."""
        cells = self.layout.cells
        at = {(self.layout.homes[name], *cell): name for name, cell in cells.items()}
        for (home, column, row), name in at.items():
            if other := at.get((home, column + 1, row)):
                yield f"  {_quoted(name)} -- {_quoted(other)} [style=invis, weight=20]"

    def node(self, node: Node) -> str:
        """Return a table: what it is called, then a row for each of its links.

        A hub has a socket instead for each row of nodes beside it.
        """
        absent = node.sight is not None and node.sight.state == NOT_RUNNING
        colour = TEXT["muted"] if absent else HEADS[node.kind]
        head = f'CELLPADDING="4"><FONT COLOR="white">{_head(node)}</FONT></TD>'
        heights = [height for _row, height in sorted(self.sockets[node.id].items())]
        if len(heights) > 1:
            sockets = "</TR><TR>".join(
                f'<TD PORT="r{n}" HEIGHT="{height}" WIDTH="2"></TD>'
                for n, height in enumerate(heights)
            )
            look = f'BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" BGCOLOR="{colour}"'
            rows = f'<TR><TD ROWSPAN="{len(heights)}" {head}{sockets}</TR>'
        else:
            look = f'BORDER="0" CELLBORDER="1" CELLSPACING="0" CELLPADDING="4" COLOR="{colour}"'
            rows = f'<TR><TD BGCOLOR="{colour}" {head}</TR>'
        rows += "".join(_row(n, edge) for n, edge in enumerate(self.rows[node.id]))
        return f"{_quoted(node.id)} [label=<<TABLE {look}>{rows}</TABLE>>]"

    def edge(self, edge: Edge, target: str) -> str:
        depths, cells = self.layout.depths, self.layout.cells
        rightwards = depths[edge.source] <= depths[target]
        column, row = cells.get(edge.source, (0, 0))
        socket = f":r{row}" if edge.source in cells and len(self.sockets[target]) > 1 else ""
        near = f"{_quoted(edge.source)}:r{self.rows[edge.source].index(edge)}"
        far = f"{_quoted(target)}{socket}"
        ends = (near, far) if rightwards else (far, near)
        look = _look(edge) | ({"minlen": str(column + 1)} if column else {})
        told = ", ".join(f"{name}={value}" for name, value in look.items())
        return f"{ends[0]}:e -- {ends[1]}:w" + (f" [{told}]" if told else "")


def _head(node: Node) -> str:
    said = f"<B>{_xml(title(node))}</B>"
    for words in subtitles(node):
        between = _SPACE if len(words.text) < _SHORT else "<BR/>"
        said += f'{between}<FONT POINT-SIZE="8">{_xml(words.text)}</FONT>'
    return said


def _row(number: int, edge: Edge) -> str:
    # A space more, because the reader's font may be a little wider than that of the machine here.
    text = "<BR/>".join(_SPACE.join(map(_words, line)) + _SPACE for line in lines(edge))
    return f'<TR><TD PORT="r{number}" ALIGN="LEFT" BALIGN="LEFT" BGCOLOR="{PAPER}">{text}</TD></TR>'


def _look(edge: Edge) -> dict[str, str]:
    """Return what a line looks like: its style tells without colour what its colour tells."""
    if edge.sight and edge.sight.state != "Ready":
        return {"style": "dotted", "penwidth": "2", "color": f'"{TEXT[kind_of(edge.sight)]}"'}
    if impairment(edge):
        return {"style": "dashed", "color": f'"{TEXT["impaired"]}"'}
    return {"color": f'"{TEXT["ready"]}"'} if edge.sight else {}


def _words(words: Words) -> str:
    text = _xml(words.text)
    match words.kind:
        case "plain":
            return text
        case "name":
            return f"<B>{text}</B>"
    return f'<FONT COLOR="{TEXT[words.kind]}">{text}</FONT>'


def _quoted(text: str) -> str:
    r"""Return a quoted string of the language, in which `\"` is a quote and a `\\` stays two."""
    escaped = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _xml(text: str) -> str:
    r"""Return text of a label, which is HTML, and in which `\N` is the name of the node."""
    # A text of nothing but `]` is a syntax error to graphviz (2.43).
    return html.escape(printable(text)).replace("\\", "\\\\").replace("]", "&#93;")
