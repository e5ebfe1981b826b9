"""What mdc is going to do, as data: settings and modes in, a plan out. Writes nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path

from model.problems import ConfigError, Place, Problem
from tools.mdc import env, modes
from tools.mdc.deps import Need, parse
from tools.mdc.overlay import Overlay, overlay
from tools.mdc.resolve import resolve

FILES_MARK = ".mdc"  # lies in a directory of files that mdc may empty


@dataclass(frozen=True, slots=True)
class Settings:
    """Where mdc reads and writes, and the words that start compose."""

    modes_dir: Path
    env_file: Path
    files_dir: Path
    compose: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be there, and what runs then.

    Attributes:
        modes: the names, in order.
        files: path → content, in the order of writing; each is replaced as a whole.
        overlay: what will be in `directory`, and nothing else.
        directory: where the trees of the modes go.
        command: the words of compose; empty when it is not to run.
        names: the variables that are in the env file by mdc's own word.
        rights: what `files` may give at most, as chmod(2) has it: what the env files of all modes
            give, since they may hold secrets.
    """

    modes: tuple[str, ...]
    files: Mapping[Path, bytes]
    overlay: Overlay
    directory: Path
    command: tuple[str, ...]
    names: frozenset[str]
    rights: int = 0o666


def settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings of an environment; a variable that is empty counts as not set.

    Raises:
        ConfigError: DOCKER_COMPOSE is not a list of words.
    """
    compose = environment.get("DOCKER_COMPOSE", "").strip() or "docker compose"
    try:
        words = tuple(shlex.split(compose))
    except ValueError as error:
        problem = Problem(Place("DOCKER_COMPOSE"), f"{compose!r}: {error}")
        raise ConfigError([problem]) from None
    return Settings(
        modes_dir=Path(environment.get("MODES_DIR") or "modes"),
        env_file=Path(environment.get("ENV_FILE") or ".env"),
        files_dir=Path(environment.get("MDC_FILES_DIR") or ".files"),
        compose=words,
    )


def plan(wanted: str, arguments: Sequence[str], chosen: Settings) -> Plan:
    """Return what these modes come to.

    Args:
        wanted: modes, as in a `deps` file.
        arguments: those of compose; without any it is not to run.
        chosen: the settings.

    Raises:
        ConfigError: with what is wrong, each with its place.
        OSError: a file or directory cannot be read.
    """
    if problems := list(_refusals(chosen)):
        raise ConfigError(problems)
    needs = _wanted(wanted)
    names = resolve(needs, modes.graph(chosen.modes_dir, needs))
    found = [modes.read(chosen.modes_dir / name) for name in names]
    ours = env.variables(found, chosen.env_file)
    run = (*chosen.compose, "--env-file", str(chosen.env_file), *arguments)
    return Plan(
        modes=tuple(names),
        files={
            chosen.env_file.parent / env.BASE_NAME: env.BASE,
            chosen.env_file: env.content(found, ours),
        },
        overlay=overlay(tree for mode in found for tree in mode.trees),
        directory=chosen.files_dir,
        command=run if arguments else (),
        names=frozenset(ours),
        rights=0o600 | reduce(and_, (p.stat().st_mode for m in found for p, _ in m.env), 0o666),
    )


def foreign(planned: Plan) -> list[Problem]:
    """Return what would be lost though mdc did not write it.

    Raises:
        OSError: it cannot be looked at.
    """
    force = "--force puts mdc's in its place"
    problems = [
        Problem(Place(str(path)), f"mdc did not write this file; move it away, or {force}")
        for path in planned.files
        if path.exists() and not path.read_bytes().startswith(env.MARK)
    ]
    directory, mark = planned.directory, planned.directory / FILES_MARK
    if directory.is_dir() and any(directory.iterdir()) and not mark.is_file():
        message = "mdc did not fill this directory, and would empty it; move it away, "
        problems.append(Problem(Place(str(directory)), f"{message}or {force}"))
    return problems


def _wanted(text: str) -> list[Need]:
    needs = parse(text, "MODES")
    if not needs:
        raise ConfigError([Problem(Place("MODES"), "names no mode")])
    problems = [
        Problem(need.place, f"'+{need.names[0]}' asks for nothing; it is for deps files")
        for need in needs
        if need.order_only
    ]
    if problems:
        raise ConfigError(problems)
    return needs


def _refusals(chosen: Settings) -> Iterator[Problem]:
    """Yield why these settings cannot be used, above all where emptying would lose something."""
    if not chosen.modes_dir.is_dir():
        message = "there is no such directory; MODES_DIR says where the modes are"
        yield Problem(Place(str(chosen.modes_dir)), message)
    if not chosen.env_file.parent.is_dir():
        message = "its directory is not there; ENV_FILE says where to write"
        yield Problem(Place(str(chosen.env_file)), message)
    elif chosen.env_file.exists() and not chosen.env_file.is_file():
        yield Problem(Place(str(chosen.env_file)), "is not a file; ENV_FILE says where to write")
    files = chosen.files_dir
    emptied, modes_dir, here, project = (
        Path(os.path.realpath(path))
        for path in (files, chosen.modes_dir, Path(), chosen.env_file.parent)
    )
    why = ""
    if files.is_symlink():
        why = "is a symbolic link; name the directory itself"
    elif here.is_relative_to(emptied):
        why = "contains the working directory"
    elif project.is_relative_to(emptied):
        why = "contains the env file"
    elif modes_dir.is_relative_to(emptied) or emptied.is_relative_to(modes_dir):
        why = f"has files in common with {chosen.modes_dir}"
    elif files.exists() and not files.is_dir():
        why = "is not a directory"
    if why:
        message = f"{why}, and MDC_FILES_DIR would be emptied: choose another"
        yield Problem(Place(str(files)), message)
