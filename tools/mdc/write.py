"""Carries out a plan: everything is there afterwards, or all is as it was. Decides nothing."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from contextlib import ExitStack
from pathlib import Path

from tools.mdc.env import MARK
from tools.mdc.overlay import build
from tools.mdc.plan import FILES_MARK, Plan


def write(plan: Plan) -> list[str]:
    """Put the files of a plan where they belong, and return what is left over, in words.

    Raises:
        OSError: something cannot be written; what was there is there again.
    """
    left: list[Path] = []
    with ExitStack() as undo:
        if plan.overlay or plan.directory.exists():
            left = _fill(plan, undo)
        for path, content in plan.files.items():
            _replace(path, content, plan.rights, undo)
        undo.pop_all()
    said = []
    for directory in left:
        try:
            shutil.rmtree(directory)
        except OSError as error:
            said.append(f"{directory} is left over, of what was there before: {error}")
    return said


def _fill(plan: Plan, undo: ExitStack) -> list[Path]:
    """Exchange what is in the directory; return what may be removed when all is done.

    The directory itself stays, because containers may have it mounted. The new tree is made in it,
    so that what can fail has not touched the old one yet, and only names change then.
    """
    token = secrets.token_hex(4)
    new, old = plan.directory / f".mdc-new-{token}", plan.directory / f".mdc-old-{token}"
    for missing in reversed([plan.directory, *plan.directory.parents]):
        if not missing.exists():
            missing.mkdir()
            undo.callback(missing.rmdir)
    new.mkdir()
    undo.callback(shutil.rmtree, new)
    build(plan.overlay, new)
    mark = plan.directory / FILES_MARK
    if not mark.exists():  # before anything moves: whoever ends us now, the next run may go on
        undo.callback(mark.unlink, missing_ok=True)
        mark.write_bytes(MARK + b", which empties this directory when it runs again.\n")
    old.mkdir()
    undo.callback(old.rmdir)
    for path in list(plan.directory.iterdir()):
        if path not in (new, old, mark):
            _move(path, old / path.name, undo)
    for path in list(new.iterdir()):
        _move(path, plan.directory / path.name, undo)
    return [new, old]


def _move(source: Path, target: Path, undo: ExitStack) -> None:
    source.rename(target)
    undo.callback(target.rename, source)


def _replace(path: Path, content: bytes, rights: int, undo: ExitStack) -> None:
    """Write a file as a whole; through a symbolic link, which stays one."""
    path = Path(os.path.realpath(path))
    before = path.read_bytes() if path.exists() else None
    mode = path.stat().st_mode if path.exists() else None
    _write(path, content, mode, rights)
    if before is None:
        undo.callback(path.unlink)
    else:
        undo.callback(_write, path, before, mode)


def _write(path: Path, content: bytes, mode: int | None, rights: int = 0o777) -> None:
    """Write a file beside its place, and exchange it; `mode` None is what umask(2) gives."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with new.open("xb") as file:
            given = os.fstat(file.fileno()).st_mode if mode is None else mode
            os.fchmod(file.fileno(), stat.S_IMODE(given) & rights)  # before anything is in it
            file.write(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
