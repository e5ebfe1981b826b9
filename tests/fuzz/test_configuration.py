"""From the bytes of a configuration to a plan: whatever they are, a plan or errors with places.

The documents are the examples and the files that are wrong on purpose, changed at random: values
swapped with those of other places, keys repeated and renamed, hostile texts put in, bytes flipped.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from model.declared import Config
from model.desired import desired
from model.facts import Facts
from model.keys import SELF
from model.ownership import group_of
from model.problems import ConfigError, Problem
from model.replicas import Container
from model.snapshot import Snapshot
from model.wanted import Desired
from reconciler.diff import diff
from reconciler.plan import Plan, plan
from reconciler.render import plan_json, plan_text
from reconciler.sources import Sources, load
from tests.fuzz.effort import Count, counted, tries
from tests.reconciler.fake_kernel import FakeKernel, RefusalError

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
WRONG = sorted((ROOT / "tests/golden/wrong").glob("*.yaml"))
FILES = [*EXAMPLES * (len(WRONG) // len(EXAMPLES)), *WRONG]  # as often as those that are wrong
ENVIRONMENT = {"REMOTE": "192.0.2.1", "NODE_ADDR": "10.0.0.1/24", "X": "${X}", "E": ""}
HOSTILE = (
    *("", "$", "${", "${X:-${X", "%s", "{0}", "../../x", "$(touch x)", "\x1b[2J", "\u202e"),
    *("\ud800", "a\nb", "\0", "x" * 10_000, "9" * 5_000, "-1", "1e999", ".nan", ".inf", "0x1"),
    *("~", "<<", "*a"),
    *("10.0.0.1/0", "::/0", "255.255.255.255/32", "1-65535:1-65535/tcp", "default", "host", "lo"),
)  # fmt: skip
SERVICES = ("node", "node1", "node2", "r0", "h1", "h2", "s", "a", "server", "client", "web")


class Change:
    """One change of a document, chosen by numbers so that a failure shrinks to few."""

    def __init__(self, draw: Callable[[int], int]) -> None:
        self.draw = draw

    def of(self, whole: Any) -> None:
        """Change one place of a document, in place."""
        places = list(_places(whole))
        if not places:
            return
        holder, key = places[self.draw(len(places))]
        match self.draw(6):
            case 0:
                del holder[key]
            case 1:
                other, its = places[self.draw(len(places))]
                holder[key] = json.loads(json.dumps(other[its]))
            case 2:
                holder[key] = HOSTILE[self.draw(len(HOSTILE))]
            case 3:
                holder[key] = [holder[key]] * self.draw(4)
            case 4:
                holder[key] = {str(key): holder[key]}
            case _ if isinstance(holder, dict):
                holder[HOSTILE[self.draw(len(HOSTILE))]] = holder.pop(key)
            case _:
                holder.insert(0, holder[key])


def _places(whole: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(whole) if isinstance(whole, dict) else list(range(len(whole)))
    for key in keys:
        yield whole, key
        if isinstance(whole[key], dict | list):
            yield from _places(whole[key])


@cache
def documents() -> tuple[str, ...]:
    """Return the documents to be changed, as JSON."""
    found = []
    for file in FILES:
        try:
            document = yaml.safe_load(file.read_bytes())
            text = json.dumps(document)
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        if isinstance(document, dict) and len(text) < 20_000:
            found.append(text)
    return tuple(found)


CONTAINERS = tuple(
    Container(id=f"{number}{name}", name=f"{name}-{number}", runtime="docker", netns="/x",
              service=name, number=number)
    for name in SERVICES for number in (1, 2, 999_999_999)
)  # fmt: skip
FACTS = Facts(instance="fuzz", plane=SELF, auto="linux")


def to_a_plan(file: Path, content: bytes, was: bytes, count: Count) -> None:
    """Go the whole way from bytes; nothing but a refusal with places may keep from a plan.

    There is a plan from nothing, and one from what the document came to before it was changed.
    """
    count.tried += 1
    config, problems = _loaded(file, content)
    if config is None:
        count.refused += 1
        assert problems
        assert all(problem.place.file for problem in problems)
        told = "".join(map(str, problems))
        assert told.isprintable(), "what a terminal would obey"
        return
    wanted, again = desired(config, CONTAINERS, FACTS), desired(config, CONTAINERS[::-1], FACTS)
    for before in (Snapshot({}, {}, {}), _made_of(file, was)):
        made = _planned(wanted, before)
        assert made.digest == _planned(again, before).digest, "the order of containers shows"
        assert plan_text(made, colour=False).replace("\n", "").isprintable()
        json.loads(plan_json(made))


def _planned(wanted: Desired, before: Snapshot) -> Plan:
    return plan(diff(wanted, before, group_of("fuzz")), wanted.obstacles)


@lru_cache(maxsize=1000)
def _made_of(file: Path, content: bytes) -> Snapshot:
    """Return what is there where a document has been carried out; nothing, if it is refused."""
    config, _ = _loaded(file, content)
    kernel = FakeKernel()
    if config:
        for step in _planned(desired(config, CONTAINERS, FACTS), kernel.snapshot()).steps:
            with contextlib.suppress(RefusalError):  # it has no bridge of Open vSwitch
                kernel.apply(step)
    return kernel.snapshot()


def _loaded(file: Path, content: bytes) -> tuple[Config | None, tuple[Problem, ...]]:
    file.write_bytes(content)
    files = (str(file),)
    compose = b"services" in content
    try:
        sources = Sources(() if compose else files, files if compose else (), ENVIRONMENT)
        return load(sources).config, ()
    except ConfigError as error:
        return None, error.problems


CUTS = st.tuples(st.integers(0, 20_000), st.integers(0, 4), st.binary(max_size=4))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "any.yaml"


def test_changed_documents(file: Path, measured: Callable[[str], None]) -> None:
    with counted(measured) as count:

        @tries(120)
        @given(data=st.data())
        def change(data: st.DataObject) -> None:
            def draw(below: int) -> int:
                return data.draw(st.integers(0, below - 1)) if below > 1 else 0

            was = documents()[draw(len(documents()))]
            document = json.loads(was)
            for _ in range(1 + draw(5)):
                Change(draw).of(document)
            content = yaml.safe_dump(document).encode("utf-8", "surrogatepass")
            to_a_plan(file, content, was.encode("utf-8", "surrogatepass"), count)

        change()


def test_changed_bytes(file: Path, measured: Callable[[str], None]) -> None:
    contents = [each.read_bytes() for each in EXAMPLES]
    with counted(measured) as count:

        @tries(120)
        @given(
            which=st.integers(0, len(contents) - 1),
            cuts=st.lists(CUTS, min_size=1, max_size=3),
        )  # fmt: skip
        def change(which: int, cuts: list[tuple[int, int, bytes]]) -> None:
            content = contents[which]
            for place, length, instead in cuts:
                at = place % (len(content) + 1)
                content = content[:at] + instead + content[at + length :]
            to_a_plan(file, content, contents[which], count)

        change()
