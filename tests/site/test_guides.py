"""The guides: every example has one, and it shows everything that its comment says to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.site import console, guides, transcripts
from tools.site.comments import EXAMPLES, Picture, Prose, Step, parts, steps, summary
from tools.site.guides import GUIDES, Guide
from tools.site.transcripts import Transcript, entry


def test_every_example_is_shown_by_one_guide() -> None:
    listed = [file for guide in GUIDES for file in guide.shown()]
    assert sorted(listed) == sorted(file for file in EXAMPLES.rglob("*") if file.is_file())


@pytest.mark.parametrize("guide", [g for g in GUIDES if not g.also], ids=lambda guide: guide.name)
def test_a_guide_types_what_the_comments_say_in_their_order(guide: Guide) -> None:
    page = guides.markdown(guide)
    typed = [
        console.bare(command)
        for block in console.blocks(page)
        if block.language == "console"
        for command in console.commands(block)
    ]
    said = [step.command for file in guide.files for step in steps(EXAMPLES / file)]
    assert typed == said
    assert console.unproved(page, guide.name) == []


def test_the_list_of_guides_names_each_with_what_its_comment_says_first() -> None:
    for guide in GUIDES:
        assert f"| [{guide.title}]({guide.name}.md) | {summary(EXAMPLES / guide.files[0])} |" in (
            guides.index()
        )


def test_a_comment_has_prose_pictures_and_commands(tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(
        "# Two words\n# and two.\n#\n#     a --- b\n#     c ---'\n#\n# Type:\n#\n"
        '#     docker ps                # "nothing"\n'
        '#     docker run \\\n#         image &\n#                # "more"\n'
        "\nlinks: []\n"
    )
    assert parts(file) == [
        Prose("Two words and two."),
        Picture(("a --- b", "c ---'")),
        Prose("Type:"),
        Step("docker ps", ("nothing",), shown=('docker ps                # "nothing"',)),
        Step(
            "docker run image",
            ("more",),
            left_running=True,
            shown=("docker run \\", "    image &"),
        ),
    ]


def test_a_transcript_is_kept_and_answers_in_the_order_in_which_one_typed(tmp_path: Path) -> None:
    full = "0123456789ab" + "c" * 52
    kept = Transcript(
        "a kernel", (entry("ping", "first"), entry("run", full), entry("ping", "second\r\n"))
    )
    transcripts.write("some", kept, tmp_path)
    found = transcripts.read("some", tmp_path)
    assert found == kept
    assert found.printed(["ping", "ping", "run"]) == ["first", "second", "0123456789ab"]
    with pytest.raises(KeyError, match="stop"):
        found.printed(["ping", "stop"])
    assert transcripts.read("other", tmp_path) is None
