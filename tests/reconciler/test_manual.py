"""The manual page: current, complete, without a fault that mandoc finds, readable by man."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler import manual
from reconciler.arguments import parser
from reconciler.programs import PROGRAMS, parser_of

DOCS = Path(__file__).parents[2] / "docs"


def other() -> argparse.ArgumentParser:
    """A parser as anybody may write one, with what roff might take amiss."""
    made = argparse.ArgumentParser(prog="other", description=r".Begins with a dot. 'Quotes' \fB.")
    made.add_argument("--level", choices=("low", "high"), default="low", help=r"(%(default)s) \n")
    made.add_argument("--secret", help=argparse.SUPPRESS)
    made.add_argument("modes", nargs="+", help=""".dot 'quote - "double" 100%%""")
    made.epilog = "examples:\n  other --level high \\x\n  .other\nexit codes: 0 well; 1 not so"
    return made


OTHER_SHOWS = (
    "'Quotes' \\fB.", "low|high", "(low) \\n", """.dot 'quote - "double" 100%""",
    "other --level high \\x", ".other", "not so",
)  # fmt: skip


def shown(page: str, tmp_path: Path) -> str:
    """What `man` shows of a page, on 80 columns, without its bold and underlined letters."""
    file = tmp_path / "page.1"
    file.write_text(page, encoding="utf-8")
    done = subprocess.run(
        ["mandoc", "-Tutf8", "-Owidth=78", file], capture_output=True, text=True, check=True
    )
    return re.sub(r".\x08", "", done.stdout)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_committed_page_is_current(program: str) -> None:
    """`reconcile man PROGRAM > docs/PROGRAM.1` makes it."""
    made = manual.page(parser_of(program))
    assert (DOCS / f"{program}.1").read_text(encoding="utf-8") == made


@pytest.mark.parametrize("page", [*PROGRAMS, "other"])
def test_mandoc_finds_no_fault_and_man_neither(page: str, tmp_path: Path) -> None:
    file = tmp_path / f"{page}.1"
    file.write_text(manual.page(other() if page == "other" else parser_of(page)), encoding="utf-8")
    lint = subprocess.run(["mandoc", "-Tlint", file], capture_output=True, text=True, check=False)
    assert (lint.stdout, lint.stderr, lint.returncode) == ("", "", 0)
    if page == "other":
        text = shown(file.read_text(encoding="utf-8"), tmp_path)
        for words in OTHER_SHOWS:
            assert words in text
        assert "secret" not in text


def test_it_has_every_command_option_and_exit_code(tmp_path: Path) -> None:
    text = shown(manual.page(parser()), tmp_path)
    for action in parser()._actions:
        for flag in action.option_strings:
            assert flag in text
        if isinstance(action, argparse._SubParsersAction):
            for name in action.choices:
                assert f"reconcile {name}" in text
    assert "--check" in text
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "EXAMPLES",
                  "EXIT STATUS"):  # fmt: skip
        assert f"\n{title}\n" in text


def test_the_command_prints_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reconciler.cli", "man"], capture_output=True, text=True, check=True
    )
    assert done.stdout == manual.page(parser())
