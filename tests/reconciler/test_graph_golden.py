"""Each example's picture in each format of text: golden.

RELINK_UPDATE_GOLDEN=1 in the environment writes the files anew; look at what git then shows.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pytest

from model.graph import declared
from reconciler.drawing import FORMATS
from reconciler.sources import load
from tests.reconciler.test_example_plans import EXAMPLES

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden" / "graph"


@pytest.mark.parametrize("style", ["dot", "mermaid", "json"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_picture_of_an_example(name: str, style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    loaded = load(EXAMPLES[name][0])
    text = FORMATS[style](declared(loaded.config, loaded.replicas))
    golden = GOLDEN / f"{name}.{style}"
    if os.environ.get("RELINK_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    before, after = golden.read_text(encoding="utf-8").splitlines(), text.splitlines()
    differs = list(difflib.unified_diff(before, after, str(golden), "drawn now", lineterm="", n=1))
    assert not differs, "\n".join(differs)


def test_every_example_is_drawn() -> None:
    kept = {path.name.partition("-")[0] for path in (ROOT / "examples").iterdir()}
    assert kept - {"test6"} == set(EXAMPLES), "test6 is a template for hosts; it runs test5"
    assert {path.stem for path in GOLDEN.iterdir()} == set(EXAMPLES)
