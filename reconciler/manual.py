r"""The manual page of any argparse parser, in the language of man(7); knows no option.

What it reads of a parser is what its help shows: usage, description, groups of arguments, commands,
and an epilog of sections, each a line `example:` or `exit codes: …` and the lines below it.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterable, Iterator

from reconciler import __date__, __version__

_SECTION = re.compile(r"([a-z][a-z ]*)(\(.*\))?:(.*)")
_CODE = re.compile(r"(?:^|; )([0-9]+) ?(.*?)(?=; [0-9]|$)")
_TITLES = {"example": "EXAMPLES", "examples": "EXAMPLES", "exit codes": "EXIT STATUS"}
_Actions = list[argparse.Action]


def page(parser: argparse.ArgumentParser) -> str:
    """Return the manual page of a program, section 1."""
    return "".join(f"{line}\n" for line in _lines(parser))


def _lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    description = (parser.description or "").strip()
    first, _, rest = description.replace("\n", " ").partition(". ")
    yield f'.TH {parser.prog.upper()} 1 {__date__} "relink {__version__}" Relink'
    yield ".SH NAME"
    yield rf"{_plain(parser.prog)} \- {_plain(first[:1].lower() + first[1:].rstrip('.'))}"
    yield ".SH SYNOPSIS"
    yield from _synopsis(parser)
    yield ".SH DESCRIPTION"
    yield from _text(rest or first)
    commands = dict(_commands(parser))
    if commands:
        yield ".SH COMMANDS"
    known = {flag for action in parser._actions for flag in action.option_strings}  # noqa: SLF001
    for command in commands.values():
        yield f".SS {_quoted(' '.join(_usage(command)))}"
        yield from _text(command.description or "")
        own = [a for a in _arguments(command) if not known.issuperset(a.option_strings)
               or not a.option_strings]  # fmt: skip
        yield from _listed(own)
        too = [_flag(action) for action in _arguments(command) if action not in own]
        if too:
            yield ".PP"
            yield from _wrapped(f"See below for {', '.join(too)}.")
        for title, given in _sections(command.epilog or ""):
            yield ".PP"
            yield f"{_plain(title[:1].upper() + title[1:])}:"
            yield from given
    yield ".SH OPTIONS"
    for number, group in enumerate(_groups(parser)):
        if number:
            title = _title(group)
            yield f".SS {_quoted(title[:1].upper() + title[1:])}"
        yield from _listed([action for action in group._group_actions if _shown(action)])  # noqa: SLF001
    for title, given in _sections(parser.epilog or ""):
        yield f".SH {_quoted(_TITLES.get(title, title.upper()))}"
        yield from given


def _groups(parser: argparse.ArgumentParser) -> Iterator[argparse._ArgumentGroup]:
    """Yield the groups that list something, as argparse's own help reads them."""
    for group in parser._action_groups:  # noqa: SLF001
        if any(_shown(action) for action in group._group_actions):  # noqa: SLF001
            yield group


def _title(group: argparse._ArgumentGroup) -> str:
    """Return a group's title without what it says about the help on a screen."""
    return re.sub(r" \(.*\)$", "", group.title or "arguments")


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield from action.choices.items()


def _shown(action: argparse.Action) -> bool:
    commands = isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
    return not commands and action.help != argparse.SUPPRESS


def _arguments(parser: argparse.ArgumentParser) -> _Actions:
    help_ = argparse._HelpAction  # noqa: SLF001
    return [a for a in parser._actions if _shown(a) and not isinstance(a, help_)]  # noqa: SLF001


def _usage(parser: argparse.ArgumentParser) -> list[str]:
    return parser.format_usage().removeprefix("usage: ").split()


def _synopsis(parser: argparse.ArgumentParser) -> Iterator[str]:
    words = _usage(parser)
    name = parser.prog.split()
    yield f".B {_plain(' '.join(name))}"
    if rest := words[len(name) :]:
        yield _plain(" ".join(rest))


def _listed(actions: _Actions) -> Iterator[str]:
    for action in actions:
        yield ".TP"
        if action.option_strings:
            flags = ", ".join(rf"\fB{_plain(flag)}\fR" for flag in action.option_strings)
            yield f"{flags}{_value(action)}"
        else:
            yield rf"\fI{_plain(_word(action))}\fR"
        yield from _text(_explained(action), paragraphs=False)


def _flag(action: argparse.Action) -> str:
    return rf"\fB{_plain(action.option_strings[-1])}\fR"


def _word(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper().replace("_", "-")


def _value(action: argparse.Action) -> str:
    return "" if action.nargs == 0 else rf" \fI{_plain(_word(action))}\fR"


def _explained(action: argparse.Action) -> str:
    """Return the help of an argument, with what argparse would put in for %(default)s."""
    values = {key: value for key, value in vars(action).items() if value is not argparse.SUPPRESS}
    return (action.help or "") % {**values, "prog": ""}


def _sections(epilog: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the sections of an epilog: indented lines are shown as they are."""
    title, lines = "", list[str]()
    for line in [*epilog.split("\n"), "end:"]:
        match = _SECTION.fullmatch(line)
        if not match:
            lines.append(line)
            continue
        if title:
            yield title, list(_section(lines))
        title = match[1].strip()
        lines = [match[3].strip()] if match[3].strip() else []


def _section(lines: Iterable[str]) -> Iterator[str]:
    shown = [line for line in lines if line.strip()]
    text = " ".join(line.strip() for line in shown)
    if codes := _CODE.findall(text):
        for code, means in codes:
            yield ".TP"
            yield rf"\fB{code}\fR"
            yield from _text(means or "always", paragraphs=False)
    elif shown and not shown[0].startswith(" "):
        yield from _text(text)
    else:
        yield ".RS 4"
        yield ".nf"
        yield from (_plain(line.removeprefix("  ")) for line in shown)
        yield ".fi"
        yield ".RE"


def _text(text: str, *, paragraphs: bool = True) -> Iterator[str]:
    """Yield text that begins each sentence on a new line, as man pages are written."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number and paragraphs:
            yield ".PP"
        for sentence in re.split(r"(?<=[.:;]) +", paragraph.replace("\n", " ")):
            yield from _wrapped(_plain(sentence.strip()))


def _wrapped(text: str) -> Iterator[str]:
    """Yield lines of words that are escaped already."""
    for line in textwrap.wrap(text, 78, break_long_words=False, break_on_hyphens=False):
        yield rf"\&{line}" if line.startswith((".", "'")) else line


def _quoted(text: str) -> str:
    return '"' + _plain(text).replace('"', r"\(dq") + '"'


def _plain(text: str) -> str:
    r"""Return `text` so that nothing in it is a request, an escape or a hyphen that breaks."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text.startswith((".", "'")) else text
