"""What mkdocs calls while it builds the site: generated pages in, blocks filled, links checked.

It joins the modules beside it and knows mkdocs; nothing else in here does. A page may have, on a
line of its own, one of

    <!-- site: include FILE "Heading" -->    a section of a file, without its heading
    <!-- site: include FILE -->              the file but for its first heading
    <!-- site: options -->                   the command line's options
    <!-- site: keys NAME -->                 the keys of one definition of the schema
    <!-- site: block FILE NUMBER -->         the NUMBERth fenced block of a file
    <!-- site: file FILE -->                 a file, whole
    <!-- site: figures -->                   what the benchmarks measured
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from reconciler import arguments
from tools.site import console, guides, links, reference
from tools.site.transcripts import read

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / ".cache" / "bench.json"  # written by `make bench`
REST = "*"  # in `nav`: every page that it does not name
_CI = (".ci/run", "scripts/test", "Makefile")
_MARKER = re.compile(r"<!-- site: (.+) -->")
_LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)\s]+)\)")
_ROOT_PROMPT = re.compile(r'<span class="gp"># </span>(.*)')
_CELL = re.compile(r"<td>.*</td>")
_TAG = re.compile(r"<[^>]+>")
_ENGINES_LACK = (
    '!!! note "Built without an engine"\n\n'
    "    What the commands below print is recorded by tests that need root and a Docker engine.\n"
    "    Those have not run here, so this page shows the commands alone.\n"
)
log = logging.getLogger("mkdocs.plugins.relink")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the guides and the rest of the pages where `nav` has a place for them."""
    guide_pages: list[Any] = ["guides/index.md"]
    guide_pages += [{guide.title: guide.page()} for guide in guides.GUIDES]
    named = {page for page in _named(config.nav) if page != REST}
    docs = Path(config.docs_dir)
    rest = sorted(str(file.relative_to(docs)) for file in docs.rglob("*.md"))
    fill = {"guides": guide_pages, REST: [page for page in rest if page not in named]}
    config.nav = [
        {title: fill.get(part, part) if isinstance(part, str) else part}
        for entry in config.nav or ()
        for title, part in entry.items()
        if not (isinstance(part, str) and fill.get(part) == [])
    ]
    return config


def _named(nav: Any) -> list[str]:
    match nav:
        case str():
            return [nav]
        case dict():
            return [page for part in nav.values() for page in _named(part)]
        case list():
            return [page for part in nav for page in _named(part)]
    return []


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    files.append(File.generated(config, "guides/index.md", content=guides.index()))
    for guide in guides.GUIDES:
        page = File.generated(config, guide.page(), content=guides.markdown(guide))
        files.append(page)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs names the arguments
    """Fill in what a page asks for, run its commands, and put in what they printed."""
    place = f"docs/{page.file.src_uri}"
    try:
        whole = _LINK.sub(_linked, "\n".join(_included(line) for line in markdown.split("\n")))
        return _filled(whole, place)
    except console.BlockError as error:
        said = str(error)
        raise PluginError(said if said.startswith(place) else f"{place}:{said}") from None
    except KeyError as error:
        raise PluginError(f"{place}: {error.args[0]}") from None


def on_page_content(html: str, **_: object) -> str:
    """Mend what this site's Markdown and its lexer take for something else.

    Lines of output that begin with `# ` are none that root types: plans have such lines, and what
    is output is not copied with the commands. A `|` that is escaped in a cell, as GitHub wants it,
    keeps its backslash in code.
    """
    html = _CELL.sub(lambda cell: cell[0].replace("\\|", "|"), html)
    return _ROOT_PROMPT.sub(lambda line: f'<span class="go"># {_TAG.sub("", line[1])}</span>', html)


def _linked(link: re.Match[str]) -> str:
    """Return what a link to a file of the repository is here: the guide that shows it, or words."""
    words, path = link.groups()
    for guide in guides.GUIDES:
        if ROOT / path in guide.shown():
            return f"[{words}]({guide.page()})"
    return words


def _included(line: str) -> str:
    match = _MARKER.fullmatch(line.strip())
    if match is None:
        return line
    verb, *words = shlex.split(match[1])
    if verb not in _VERBS:
        raise KeyError(f"{line.strip()}: there is no {verb!r}; there are {', '.join(_VERBS)}")
    return _VERBS[verb](*words)


def _include(file: str, heading: str = "") -> str:
    """Return a section without its heading, up to the next heading that is not below it."""
    lines = (ROOT / file).read_text().split("\n")
    if not heading:
        return "\n".join(lines[1:])
    for start, line in enumerate(lines):
        if re.fullmatch(rf"#+ {re.escape(heading)}", line):
            depth = line.index(" ")
            rest = lines[start + 1 :]
            above = re.compile(rf"#{{1,{depth}}} ")
            end = next((n for n, each in enumerate(rest) if above.match(each)), len(rest))
            return "\n".join(rest[:end]).strip()
    raise KeyError(f"{file} has no heading {heading!r}")


def _options() -> str:
    return reference.options(arguments.parser())


def _keys(name: str) -> str:
    return reference.keys(json.loads((ROOT / "model/schema.json").read_text()), name)


def _block(file: str, number: str) -> str:
    text = (ROOT / file).read_text()
    fenced = [block for block in console.blocks(text) if block.language]
    block = fenced[int(number) - 1]
    return "\n".join(text.split("\n")[block.start : block.end])


def _file(name: str) -> str:
    language = {".py": "python", ".yaml": "yaml"}[Path(name).suffix]
    return f'```{language} title="{name}"\n{(ROOT / name).read_text().strip()}\n```'


def _figures() -> str:
    if not FIGURES.exists():
        return "There are none in this build: it was made where `make bench` had not been run.\n"
    head = ["case", "containers", "median", "floor", "ratio", "target"]
    rows = []
    for row in json.loads(FIGURES.read_text()):
        floor = "" if row["floor"] is None else f"{row['floor']:.3g} {row['unit']}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        median = f"{row['median']:.3g} {row['unit']}"
        rows.append([row["case"], str(row["n"]), median, floor, ratio, row["target"]])
    return reference.table(head, rows)


_VERBS: dict[str, Callable[..., str]] = {
    "include": _include,
    "options": _options,
    "keys": _keys,
    "block": _block,
    "file": _file,
    "figures": _figures,
}


def _filled(markdown: str, place: str) -> str:
    """Return a page with what its commands print, from this run or from a transcript."""
    if nobody := console.unproved(markdown, place):
        raise console.BlockError("\n".join(nobody))
    printed = console.run(console.session(markdown), place)
    notes: dict[str, str] = {}
    for source in console.sources(markdown):
        typed = console.of(markdown, source)
        if source == "ci":
            _check_ci(typed, place)
            continue
        where, outputs, why = _recorded(source, typed)
        if why and "CI" in os.environ:
            raise KeyError(f"{why}; the tests that write it have not run")
        if why:
            log.info("%s: without outputs: %s", place, why)
        notes[source] = _ENGINES_LACK if why else f"*Recorded on {where}:*\n"
        for command, output in zip(typed, outputs, strict=False):
            printed[command.line] = console.shortened(output)
    return console.filled(markdown, printed, notes)


def _recorded(source: str, typed: list[console.Command]) -> tuple[str, list[str], str]:
    """Return where some commands were typed and what they printed, or why that is not known."""
    transcript = read(source)
    if transcript is None:
        return "", [], f"there is no transcript {source!r}"
    try:
        outputs = transcript.printed([console.bare(command) for command in typed])
    except KeyError as error:
        return "", [], f"the transcript {source!r} lacks `{error.args[0]}`"
    return transcript.where, outputs, ""


def _check_ci(typed: list[console.Command], place: str) -> None:
    """Hold commands that are too much for a page against what runs every change."""
    run, stages, make = ((ROOT / name).read_text() for name in _CI)
    lines = {line.partition(" #")[0].strip() for text in (run, stages) for line in text.split("\n")}
    cases = set(re.findall(r"^ {4}(\w+)\)", stages, re.MULTILINE))
    for command in typed:
        program, *words = console.bare(command).split()
        if not (
            console.bare(command) in lines
            or (program == "scripts/test" and words and set(words) <= cases)
            or (program == "make" and words and set(words) <= _made(run, make))
        ):
            where = f"{place}:{command.line + 1}"
            raise console.BlockError(f"{where}: `{command.text}` is not run by {', '.join(_CI)}")


def _made(run: str, make: str) -> set[str]:
    """Return the targets that CI makes, and what those need."""
    needs = dict(re.findall(r"^([\w.-]+):(.*)$", make, re.MULTILINE))
    found: set[str] = set()
    left = re.findall(r"^make (\S+)", run, re.MULTILINE)
    while left:
        found.add(target := left.pop())
        left += needs.get(target, "").split()
    return found


def on_post_build(config: MkDocsConfig) -> None:
    """Hold the built pages against themselves: links, anchors, and nothing from elsewhere.

    Raises:
        PluginError: there is a fault.
    """
    if faults := links.faults(Path(config.site_dir)):
        raise PluginError("\n".join(faults))
