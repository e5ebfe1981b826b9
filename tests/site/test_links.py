"""The check of built pages: what leads nowhere, and what a browser would fetch from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.site import links


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('<a href="other/">', ""),
        ('<a href="other/#here">', ""),
        ('<a href="other/#there">', "index.html: other/#there: no such anchor"),
        ('<a href="#nowhere">', "index.html: #nowhere: no such anchor"),
        ('<a href="missing/">', "index.html: missing/ leads nowhere"),
        ('<a href="/other/">', ""),
        ('<a href="https://example.org/">', ""),
        ('<a href="mailto:somebody@example.org">', ""),
        ('<img src="picture.svg">', "index.html: loads picture.svg, which is not there"),
        ('<script src="//example.org/a.js">', "index.html: loads //example.org/a.js"),
        ('<link href="https://example.org/a.css">', "loads https://example.org/a.css"),
        ('<p style="background: url(https://example.org/a.png)">', "loads https://example.org"),
    ],
)
def test_a_page(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/index.html").write_text('<h1 id="here">Other</h1>')
    (tmp_path / "index.html").write_text(body)
    found = "\n".join(links.faults(tmp_path))
    assert (said in found) if said else (found == "")


def test_a_style_that_loads_a_font_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text('@import "https://example.org/font.css";\na {color: red}')
    assert links.faults(tmp_path) == ["a.css: loads https://example.org/font.css"]
