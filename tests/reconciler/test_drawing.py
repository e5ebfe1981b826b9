"""Pictures as real graphviz reads them: whatever names are, at every size, in each format."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.graph import NOT_RUNNING, Edge, Graph, Node, Sight, declared
from model.problems import printable
from reconciler import drawing
from reconciler.cli import main
from reconciler.dot import as_dot
from reconciler.drawing import FORMATS, DrawingError, as_svg
from reconciler.mermaid import as_mermaid
from tests.reconciler.networks import network

HOSTILE = [
    'quo"te', "back\\slash", "trailing\\", "<b>tag</b>", "a&amp;b", "new\nline", "tab\tstop",
    "[brackets] {braces} (round)", "#35; -->", "`tick`", "end", "\x1b[31mred", "\x00", "\ud800",
    "%s\\N\\G", "-- x", "1. item", "ключ 雪", "]",
]  # fmt: skip


def dot(*words: str, text: str) -> str:
    """Run graphviz; what it complains about is an error too."""
    done = subprocess.run(
        ["dot", *words], input=text, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stderr}\n{text}"
    return done.stdout


def said(svg: str) -> str:
    """Return all words of an SVG, without spaces, which layout engines take for themselves."""
    root = ET.fromstring(svg)  # noqa: S314 - graphviz's own
    return "".join("".join(text.itertext()) for text in root.iterfind(".//{*}text"))


def squeezed(text: str) -> str:
    return "".join(printable(text).split())


NAMES = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=20))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Networks whose every word is hostile; more than the language lets one declare."""
    bridges = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    owners = draw(st.lists(NAMES, min_size=1, max_size=9, unique=True))
    sight = st.builds(
        Sight,
        st.sampled_from(["Ready", "Pending", "Conflict", NOT_RUNNING]),
        NAMES,
        st.lists(NAMES, max_size=2).map(tuple),
        NAMES | st.just(""),
    )
    nodes = [Node(id=f"bridge:{n}", kind="bridge", name=n, detail=draw(NAMES)) for n in bridges]
    nodes += [
        Node(id=f"service:{n}", kind="service", name=n, sight=draw(st.none() | sight))
        for n in owners
    ]
    edges = [
        Edge(
            source=f"service:{owner}",
            target=draw(st.none() | st.sampled_from([f"bridge:{n}" for n in bridges])),
            type=draw(st.sampled_from(["veth", "dummy", "vlan"])),
            dev=draw(NAMES),
            addresses=tuple(draw(st.lists(NAMES, max_size=2))),
            netem=draw(NAMES | st.just("")),
            nat=draw(NAMES | st.just("")),
            sight=draw(st.none() | sight),
        )
        for owner in owners
        for _ in range(draw(st.integers(0, 2)))
    ]
    return Graph(tuple(nodes), tuple(edges))


@settings(max_examples=40)
@given(graphs())
def test_graphviz_reads_whatever_names_are_and_shows_them_as_they_are(graph: Graph) -> None:
    text = as_dot(graph)
    dot("-Tcanon", text=text)
    words = "".join(said(dot("-Tsvg", text=text)).split())
    for node in graph.nodes:
        assert squeezed(node.name) in words
    for edge in graph.edges:
        assert squeezed(edge.dev) in words


@given(graphs())
def test_mermaid_is_given_nothing_that_could_mean_something(graph: Graph) -> None:
    """Inside of quotes stand plain words, entity codes, and the tags that are ours."""
    text = as_mermaid(graph)
    assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}
    for line in text.splitlines():
        assert line.count('"') in (0, 2), line
        for words in line.split('"')[1::2]:
            theirs = re.sub("</?b>|<br/>", "", words)
            assert not set(theirs) & set("<>\\`[]{}|&%~*_!@$^'?"), line


@given(graphs())
def test_json_tells_everything_back(graph: Graph) -> None:
    document = json.loads(FORMATS["json"](graph))
    assert [n["name"] for n in document["nodes"]] == [n.name for n in graph.nodes]
    assert [e["target"] for e in document["edges"]] == [e.target for e in graph.edges]
    assert all(("live" in e) == (g.sight is not None)
               for e, g in zip(document["edges"], graph.edges, strict=True))  # fmt: skip


@pytest.mark.parametrize("containers", [4, 12, 60])
def test_every_node_has_a_place_of_its_own_and_the_picture_is_no_strip(containers: int) -> None:
    """Look at them too: `python -m tests.reconciler.networks 60 > net.svg`."""
    graph = declared(network(containers))
    placed = dot("-Tplain", text=as_dot(graph)).splitlines()
    boxes = {}
    for line in placed:
        match line.split(" "):
            case ["node", name, x, y, width, height, *_]:
                boxes[name] = tuple(map(float, (x, y, width, height)))
    assert len(boxes) == len(graph.nodes)
    for name, (x, y, width, height) in boxes.items():
        for other, (x2, y2, width2, height2) in boxes.items():
            apart = abs(x - x2) * 2 >= width + width2 or abs(y - y2) * 2 >= height + height2
            assert name == other or apart, f"{name} lies on {other}"
    _graph, _scale, wide, high = placed[0].split(" ")
    assert 1 / 3 < float(wide) / float(high) < 3


def test_a_line_tells_what_it_is_without_its_colour() -> None:
    sights = [Sight("Ready"), Sight("Ready", netem="loss 1%"), Sight("Pending", "to create")]
    edges = tuple(
        Edge(source="container:a", target="bridge:s", type="veth", dev=f"e{n}", sight=sight)
        for n, sight in enumerate(sights)
    )
    nodes = (
        Node(id="bridge:s", kind="bridge", name="s"),
        Node(id="container:a", kind="container", name="a"),
    )
    text = as_dot(Graph(nodes, edges))
    lines = [line for line in text.splitlines() if ":r" in line and " -- " in line][::-1]
    assert [line.partition("style=")[2].split(",")[0] for line in lines] == ["", "dashed", "dotted"]
    for words in ("Ready", "~ loss 1%", "Pending: to create"):
        assert words in text
    drawn = [line for line in as_mermaid(Graph(nodes, edges)).splitlines() if "|" in line]
    assert [line.split()[1].split("|")[0] for line in drawn] == ["---", "-.-", "x--x"]


def test_svg_is_what_graphviz_draws(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("links: [{service: a, bridge: s1, ip: 10.0.0.1/24}]\n")
    assert main(["graph", "--network-file", str(path), "--format", "svg"]) == 0
    assert "eth010.0.0.1/24" in said(capsys.readouterr().out).replace("\xa0", "")


def test_without_graphviz_svg_is_refused_with_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("links: [{service: a, bridge: s1, ip: 10.0.0.1/24}]\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["graph", "--network-file", str(path), "--format", "svg"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "reconcile: graph --format svg needs graphviz: install the Debian package graphviz, "
        "or use --format mermaid\n"
    )


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'Error: out of ink\nmore' >&2; exit 3", "graphviz: Error: out of ink"),
        ("exit 3", "graphviz: exit code 3"),
        ("exec sleep 60", "graphviz did not end within 0.2 s"),
    ],
)
def test_a_graphviz_that_fails_is_told_of(
    script: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "dot"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(drawing, "_SECONDS", 0.2)
    with pytest.raises(DrawingError, match=says):
        as_svg(Graph((), ()))


def test_an_empty_network_is_an_empty_picture() -> None:
    empty = Graph((), ())
    assert said(dot("-Tsvg", text=as_dot(empty))) == ""
    assert as_mermaid(empty).startswith("flowchart LR\n")
    assert json.loads(FORMATS["json"](empty)) == {"version": 1, "nodes": [], "edges": []}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_the_terminal_s_encoding_does_not_matter(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("links: [{service: 雪, bridge: s1, ip: 10.0.0.1/24}]\n")
    words = [sys.executable, "-m", "reconciler.cli", "graph", "--network-file", str(path)]
    environment = {"PYTHONIOENCODING": encoding, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(words, env=environment, capture_output=True, check=True)
    assert "雪" in done.stdout.decode()


def test_replicas_are_counted_where_a_compose_file_tells(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = "x-network: {links: [{bridge: s, ip: 10.0.0.1/24}]}"
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(
        "services:\n"
        f"  a: {{scale: 2, {link}}}\n"
        f"  b: {{deploy: {{replicas: 3}}, {link.replace('0.1', '1.1')}}}\n"
        f"  c: {{scale: '${{N:-4}}', {link.replace('0.1', '2.1')}}}\n"
        f"  d: {{scale: some, {link.replace('0.1', '3.1')}}}\n"
        f"  e: {{{link.replace('0.1', '4.1')}}}\n"
    )
    second.write_text("services: {a: {scale: 5}}\n")
    monkeypatch.setenv("N", "7")
    words = ["graph", "--format", "json", "--compose-file", f"{first}:{second}"]
    assert main(words) == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    counts = {n["name"]: n.get("count") for n in nodes if n["kind"] == "service"}
    assert counts == {"a": 5, "b": 3, "c": 7, "d": None, "e": None}


@pytest.mark.parametrize("words", [["--live"], ["--format", "svg"]])
def test_words_for_a_picture_need_a_picture(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["validate", "--network-file", "net.yaml", *words])
    assert f"unrecognized arguments: {' '.join(words)}" in capsys.readouterr().err
