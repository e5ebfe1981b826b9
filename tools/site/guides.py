"""Guides: a page for each example, made of its first comment, its files and its transcript.

It knows which examples there are and what their transcripts are called; neither what they are
about, which their comments say, nor how they were run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.site.comments import EXAMPLES, Picture, Prose, Step, first_comment, parts, summary

BUILD = ""  # instead of a transcript's name: the build itself runs it
_PROMISE = re.compile(r'\s+# .*".*$')


@dataclass(frozen=True, slots=True)
class Guide:
    """One page.

    Attributes:
        name: of the page.
        title: its heading.
        files: whose comments it shows, below `examples`.
        source: the transcript of what they type.
        by_program: other transcripts, by the program that is typed.
        also: what else the page says, in Markdown.
    """

    name: str
    title: str
    files: tuple[str, ...]
    source: str
    by_program: Mapping[str, str] = field(default_factory=dict)
    also: str = ""

    def page(self) -> str:
        """Return the name of its source, as if it stood in docs."""
        return f"guides/{self.name}.md"

    def shown(self) -> list[Path]:
        """Return the files of the example, the one that says how to run it first."""
        first = EXAMPLES / self.files[0]
        if first.parent == EXAMPLES:
            beside = EXAMPLES.glob(f"{self.name}-*")
        else:
            beside = (EXAMPLES / Path(self.files[0]).parts[0]).rglob("*")
        return sorted((f for f in beside if f.is_file()), key=lambda file: (file != first, file))


_TEMPLATE = """
The template is checked here as far as that goes without an account at AWS:

```console
$ cfn-lint --info examples/test6-cfn.yaml
```

What the two hosts run is [the fifth example](test5.md), where every command is shown with what it
prints. What to type at AWS stands in the first lines of the file.
"""
GUIDES = (
    Guide("test1", "Three switches and a router", ("test1-compose.yaml",), "test1"),
    Guide("test2", "Scaling a running project", ("test2-compose.yaml",), "test2"),
    Guide(
        *("test3", "Containers by their names, with and without an engine"),
        *(("test3-network.yaml", "test3-compose.yaml"), "test3-compose"),
        {
            "docker": "test3-docker",
            "podman": "test3-podman",
            **dict.fromkeys(("ip", "export", "reconcile"), BUILD),
        },
    ),
    Guide(
        *("test4", "A network in several files, and commands"),
        *(("test4-multiple/modes/base/compose.yaml",), "test4"),
    ),
    Guide("test5", "Two hosts, one switch", ("test5-geneve-compose.yaml",), "test5"),
    Guide("test6", "Two hosts at AWS", ("test6-cfn.yaml",), BUILD, also=_TEMPLATE),
    Guide("test7", "MAC address, MTU and delay", ("test7-compose.yaml",), "test7"),
    Guide("test8", "On the host's own network, with NAT", ("test8-compose.yaml",), "test8"),
    Guide("test9", "The modes of a bridge", ("test9-compose.yaml",), "test9"),
    Guide("test10", "Published ports and a router", ("test10-compose.yaml",), "test10"),
    Guide("test11", "A sidecar that nobody misses", ("test11-compose.yaml",), "test11"),
)


def index() -> str:
    """Return the page that lists the guides."""
    lines = ["# Guides", "", "| example | what it shows |", "| --- | --- |"]
    lines += [
        f"| [{guide.title}]({guide.name}.md) | {summary(EXAMPLES / guide.files[0])} |"
        for guide in GUIDES
    ]
    lines += [
        "",
        "Each guide is an example's first comment, played by a test: what a command printed there",
        "is below it. The files are complete; they are in `examples` in the repository.",
    ]
    return "\n".join(lines) + "\n"


def markdown(guide: Guide) -> str:
    """Return the page of a guide, its commands in console blocks that nothing has filled yet."""
    lines = [f"# {guide.title}", ""]
    if guide.also:
        lines += [summary(EXAMPLES / guide.files[0]), guide.also]
    else:
        for number, file in enumerate(guide.files):
            lines += ["## The same in compose", ""] * bool(number)
            lines += _comment(guide, file)
    lines += ["## The files", ""]
    for each in guide.shown():
        lines += _listing(each, whole=bool(guide.also))
    return "\n".join(lines) + "\n"


def _comment(guide: Guide, file: str) -> Iterator[str]:
    """Yield the lines of a page that say what a comment does."""
    of_engines = file == guide.files[0]
    source: str | None = None
    for part in parts(EXAMPLES / file):
        wanted = None
        if isinstance(part, Step):
            program = part.command.split()[0]
            wanted = guide.by_program.get(program, guide.source) if of_engines else guide.source
        if source is not None and wanted != source:
            yield from ("```", "")
        if wanted is not None and wanted != source:
            yield f'```console from="{wanted}"' if wanted else "```console"
        source = wanted
        match part:
            case Step(shown=shown):
                first, *more = (_PROMISE.sub("", line) for line in shown)
                yield from (f"$ {first}", *more)
            case Prose(text=text):
                yield from (text, "")
            case Picture(lines=lines):
                yield from ("```text", *lines, "```", "")
    if source is not None:
        yield from ("```", "")


def _listing(file: Path, *, whole: bool) -> list[str]:
    """Return a file as a block, without its first comment where the page has said that."""
    lines = file.read_text().splitlines()
    if not whole:
        lines = lines[len(first_comment(file)) :]
    while lines and not lines[0].strip():
        del lines[0]
    language = "yaml" if file.suffix == ".yaml" else "text"
    return [f'```{language} title="{file.relative_to(EXAMPLES.parent)}"', *lines, "```", ""]
