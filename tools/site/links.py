"""A check of built pages: internal links and anchors resolve, nothing is loaded from elsewhere.

It knows HTML, and neither Markdown nor mkdocs: what it reads is what a browser gets.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself; a link that a person follows may lead anywhere.
_LOADED = {
    ("audio", "src"), ("embed", "src"), ("iframe", "src"), ("img", "src"), ("img", "srcset"),
    ("link", "href"), ("object", "data"), ("script", "src"), ("source", "src"), ("video", "src"),
}  # fmt: skip
_IN_STYLE = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])((?:https?:)?//[^'")\s]+)""")


@dataclass(slots=True)
class _Html(HTMLParser):
    """What one page has: anchors, links, and what it makes a browser load."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag, name) == ("a", "name"):
                self.anchors.add(value)
            elif (tag, name) in _LOADED:
                self.loaded.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)
            elif name == "style":
                self.loaded += _IN_STYLE.findall(value)


def faults(site: Path) -> list[str]:
    """Return what is wrong with the pages below a directory, each with its page."""
    pages = {file: _read(file) for file in sorted(site.rglob("*.html"))}
    found = []
    for file, page in pages.items():
        where = file.relative_to(site)
        for link in page.loaded:
            if _elsewhere(link):
                found.append(f"{where}: loads {link}")
            elif not _target(site, file, link).is_file():
                found.append(f"{where}: loads {link}, which is not there")
        for link in page.links:
            if _elsewhere(link) or urlsplit(link).scheme:
                continue
            target = _target(site, file, link)
            anchor = unquote(urlsplit(link).fragment)
            if not target.is_file():
                found.append(f"{where}: {link} leads nowhere")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{where}: {link}: no such anchor")
    for style in sorted(site.rglob("*.css")):
        text = style.read_text(errors="replace")
        found += [f"{style.relative_to(site)}: loads {url}" for url in _IN_STYLE.findall(text)]
    return found


def _read(file: Path) -> _Html:
    page = _Html()
    page.feed(file.read_text())
    page.close()
    return page


def _elsewhere(link: str) -> bool:
    return bool(urlsplit(link).netloc)


def _target(site: Path, file: Path, link: str) -> Path:
    """Return the file that a link of a page leads to; a directory means its index."""
    path = unquote(urlsplit(link).path)
    target = site / path.lstrip("/") if path.startswith("/") else file.parent / path
    target = (target if path else file).resolve()
    return target / "index.html" if target.is_dir() else target


def main() -> int:
    """Check the directory that is named; return 1 if something is wrong."""
    found = faults(Path(sys.argv[1]).resolve())
    print("\n".join(found) or "every link resolves")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
