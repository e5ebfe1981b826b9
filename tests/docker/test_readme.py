"""A stranger's path: a fresh Debian with Docker, a checkout, and what the README says first."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.comments import Session, kept, told
from tests.lab.images import ALPINE, BASE, DEBIAN, SOURCE
from tests.lab.machine import machine
from tools.site import console
from tools.site.comments import Step

pytestmark = pytest.mark.docker

README = (SOURCE / "README.md").read_text()
LIMIT = 180  # seconds


def first_snippet() -> tuple[str, str, list[Step]]:
    """Return the name and the content of the README's first file, and what it says to type."""
    blocks = [block for block in console.blocks(README) if block.language in ("yaml", "console")]
    file, typed = blocks[:2]
    assert (file.language, typed.language) == ("yaml", "console")
    text = "\n".join(file.lines) + "\n"
    return file.attributes["title"], text, told(console.commands(typed))


def checkout(into: Path) -> None:
    """Copy what a clone of this source has."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=SOURCE, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (SOURCE / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCE / name, into / name)


def test_the_first_snippet_alone_leads_to_two_containers_that_ping_each_other(
    measured: Callable[[str], None], tmp_path: Path
) -> None:
    """Timed from the first command to the answer; and the images' way here counts as a download."""
    name, text, steps = first_snippet()
    assert any("ping" in step.command for step in steps)
    checkout(tmp_path / "relink")
    (tmp_path / "relink" / name).write_text(text)
    with machine() as debian:
        subprocess.run(
            [*debian.words(), "tar", "-x"],
            input=subprocess.run(
                ["tar", "-C", str(tmp_path), "-c", "relink"], capture_output=True, check=True
            ).stdout,
            check=True,
        )
        started = time.monotonic()
        debian.load([BASE, DEBIAN, ALPINE])
        loaded = time.monotonic()
        typist = Session(
            steps,
            tmp_path,
            behind=debian.words("/root/relink"),
            compose=("docker-compose",),
        )
        typist.play()
        answered = time.monotonic()
        [ping] = [each for each in typist.transcript if " ping " in each.command]
        assert "2 packets received" in ping.output
        measured(
            f"{answered - loaded:.0f} s from the README's first command to the answered ping, "
            f"and {loaded - started:.0f} s for the images it starts from"
        )
        assert answered - started < LIMIT
        assert typist.clean() == ""
        kept("first-snippet", typist)
