"""What a page may ask of the build, and what stops it."""

from __future__ import annotations

from pathlib import Path

import pytest
from mkdocs.config.defaults import MkDocsConfig

from tools.site import guides, hooks, transcripts
from tools.site.console import BlockError
from tools.site.transcripts import Transcript, entry


def test_a_page_that_the_navigation_does_not_name_has_its_place(tmp_path: Path) -> None:
    for name in ("index.md", "graph.md", "mdc.md"):
        (tmp_path / name).write_text("# Title\n")
    config = MkDocsConfig()
    config.docs_dir = str(tmp_path)
    config.nav = [{"Start": "index.md"}, {"Guides": "guides"}, {"Tools": "*"}]
    start, made, tools = hooks.on_config(config).nav
    assert start == {"Start": "index.md"}
    assert made["Guides"][0] == "guides/index.md"
    assert len(made["Guides"]) == 1 + len(guides.GUIDES)
    assert tools == {"Tools": ["graph.md", "mdc.md"]}


def test_without_such_a_page_there_is_no_place_for_it(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text("# Title\n")
    config = MkDocsConfig()
    config.docs_dir = str(tmp_path)
    config.nav = [{"Start": "index.md"}, {"Tools": "*"}]
    assert hooks.on_config(config).nav == [{"Start": "index.md"}]


def test_a_section_of_another_file_is_taken_without_its_heading() -> None:
    section = hooks._included('<!-- site: include DESIGN.md "One sentence" -->')
    assert section.startswith("for a scope") or "apply(plan(diff(" in section
    assert "## " not in section


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("<!-- site: nonsense -->", "there is no 'nonsense'"),
        ('<!-- site: include DESIGN.md "No such heading" -->', "no heading 'No such heading'"),
    ],
)
def test_a_marker_that_asks_for_nothing_stops_the_build(marker: str, said: str) -> None:
    with pytest.raises(KeyError, match=said):
        hooks._included(marker)


@pytest.mark.parametrize(
    ("link", "becomes"),
    [
        ("[modes](../examples/test4-multiple/modes/all/deps)", "[modes](guides/test4.md)"),
        ("[the plan](../DESIGN.md)", "the plan"),
        ("[status](status.md#states)", "[status](status.md#states)"),
    ],
)
def test_a_link_to_a_file_of_the_repository_leads_to_its_guide(link: str, becomes: str) -> None:
    assert hooks._LINK.sub(hooks._linked, f"See {link}.") == f"See {becomes}."


def test_an_output_that_looks_like_a_prompt_is_no_command() -> None:
    lexed = '<span class="gp"># </span>net.yaml:2:5<span class="w"> </span>&lt;s1<span>)</span>\n'
    assert hooks.on_page_content(lexed) == '<span class="go"># net.yaml:2:5 &lt;s1)</span>\n'


def test_a_bar_that_is_escaped_in_a_table_is_a_bar() -> None:
    table = "<td><code>a\\|b</code></td>\n<pre>grep 'a\\|b'</pre>"
    assert hooks.on_page_content(table) == "<td><code>a|b</code></td>\n<pre>grep 'a\\|b'</pre>"


def test_other_lines_are_left_alone() -> None:
    assert hooks._included("<!-- a comment -->") == "<!-- a comment -->"


PAGE = '# Page\n\n```console from="some"\n$ docker ps\n```\n'


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def read(name: str) -> Transcript | None:
        return transcripts.read(name, tmp_path)

    monkeypatch.setattr(hooks, "read", read)
    monkeypatch.delenv("CI", raising=False)
    return tmp_path


def test_what_was_recorded_is_shown_and_where(directory: Path) -> None:
    transcripts.write("some", Transcript("a kernel", (entry("docker ps", "NAMES"),)), directory)
    assert hooks._filled(PAGE, "page.md") == (
        "# Page\n\n*Recorded on a kernel:*\n\n```console\n$ docker ps\nNAMES\n```\n"
    )


@pytest.mark.parametrize("recorded", [None, "docker images"])
def test_without_a_transcript_a_page_says_so_and_ci_fails(
    directory: Path, monkeypatch: pytest.MonkeyPatch, recorded: str | None
) -> None:
    if recorded:
        transcripts.write("some", Transcript("a kernel", (entry(recorded, "x"),)), directory)
    page = hooks._filled(PAGE, "page.md")
    assert "Built without an engine" in page
    assert "```console\n$ docker ps\n```" in page
    monkeypatch.setenv("CI", "true")
    with pytest.raises(KeyError, match="the tests that write it have not run"):
        hooks._filled(PAGE, "page.md")


@pytest.mark.parametrize(
    "typed", ["make demo", "make test", "make install", "scripts/test lint unit", "scripts/docs"]
)
def test_commands_of_ci_are_held_against_what_it_runs(typed: str) -> None:
    assert typed in hooks._filled(f'```console from="ci"\n$ {typed}\n```\n', "page.md")


@pytest.mark.parametrize(
    "typed", ["make bench", "scripts/test nonsense", "make nonsense", "rm -r x"]
)
def test_a_command_that_ci_does_not_run_stops_the_build(typed: str) -> None:
    with pytest.raises(BlockError, match="is not run by"):
        hooks._filled(f'```console from="ci"\n$ {typed}\n```\n', "page.md")
