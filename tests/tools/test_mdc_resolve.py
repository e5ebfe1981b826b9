"""Which modes, in which order: against a resolver that tries everything."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.problems import ConfigError, Place
from tools.mdc.deps import Need, parse
from tools.mdc.resolve import Graph, resolve

NAMES = "abcdef"


def graph(**deps: str) -> dict[str, list[Need]]:
    """Return the graph of these deps files; a mode that is only named has an empty one."""
    found = {name: parse(text, f"{name}/deps") for name, text in deps.items()}
    named = {each for needs in found.values() for need in needs for each in need.names}
    return {**{name: [] for name in sorted(named)}, **found}


def resolved(wanted: str, **deps: str) -> str:
    return " ".join(resolve(parse(wanted, "MODES"), graph(**deps)))


# ------------------------------------------------------------------------ everything, by force


def subsets() -> Iterator[tuple[str, ...]]:
    """Yield every set of modes: the smaller first, and of one size by its sorted names."""
    for size in range(len(NAMES) + 1):
        yield from itertools.combinations(NAMES, size)


def satisfied(needs: Sequence[Need], chosen: Sequence[str]) -> bool:
    return all(need.order_only or set(need.names) & set(chosen) for need in needs)


def in_order(order: Sequence[str], deps: Graph) -> bool:
    place = {name: n for n, name in enumerate(order)}
    return all(
        place[before] < place[name]
        for name in order
        for need in deps[name]
        for before in need.names
        if before in place
    )


def by_force(wanted: Sequence[Need], deps: Graph) -> list[str] | None:
    for chosen in subsets():
        if satisfied(wanted, chosen) and all(satisfied(deps[name], chosen) for name in chosen):
            orders = itertools.permutations(chosen)  # by name, as `chosen` is
            if order := next((order for order in orders if in_order(order, deps)), None):
                return list(order)
    return None


@st.composite
def entries(draw: st.DrawFn, most: int) -> list[Need]:
    """Draw the entries of one deps file."""
    text = []
    for _ in range(draw(st.integers(0, most))):
        names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
        order_only = len(names) == 1 and draw(st.booleans())
        text.append("+" * order_only + "|".join(names))
    return parse(" ".join(text), "deps")


WANTED = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True).map(
    lambda names: [Need((name,), Place("MODES")) for name in names]
)
GRAPHS = st.fixed_dictionaries({name: entries(3) for name in NAMES})


@settings(max_examples=300)
@given(WANTED, GRAPHS)
def test_the_shortest_resolution_is_found_as_by_trying_all(
    wanted: list[Need], deps: dict[str, list[Need]]
) -> None:
    expected = by_force(wanted, deps)
    if expected is None:
        with pytest.raises(ConfigError, match=r"^deps:\d+:\d+: a cycle: "):
            resolve(wanted, deps)
    else:
        assert resolve(wanted, deps) == expected


# ------------------------------------------------------------------------ by example


@pytest.mark.parametrize(
    ("wanted", "deps", "expected"),
    [
        # The examples of the language's own documentation.
        ("b", {"b": "a"}, "a b"),
        ("c", {"b": "a", "c": "a b"}, "a b c"),
        ("e", {"b": "a", "c": "a b", "d": "a", "e": "a d|c"}, "a d e"),
        ("e c", {"b": "a", "c": "a b", "d": "a", "e": "a d|c"}, "a b c e"),
        ("e c d", {"b": "a", "c": "a b", "d": "a", "e": "a d|c"}, "a b c d e"),
        ("d b", {"b": "a +d", "d": "a"}, "a d b"),
        ("b", {"b": "a +d", "d": "a"}, "a b"),
        ("e c d", {"b": "a +d", "c": "a b", "d": "a", "e": "a d|c"}, "a d b c e"),
        # What is typed is like a deps file, and the order of typing does not matter.
        ("c,b , a", {"a": "", "b": "", "c": ""}, "a b c"),
        ("b|a", {"a": "", "b": ""}, "a"),
        # Of equally short ones the first by name, wherever it stands in the entry.
        ("x", {"x": "z|y|w"}, "w x"),
        # The direct way is not always the short one: b stands for two entries.
        ("x", {"x": "a|b b|c"}, "b x"),
        # One that goes round in a circle is passed over where another does not.
        ("x", {"x": "a|b", "a": "x", "b": "c"}, "c b x"),
    ],
)
def test_a_resolution(wanted: str, deps: dict[str, str], expected: str) -> None:
    assert resolved(wanted, **deps) == expected


@pytest.mark.parametrize(
    ("wanted", "deps", "said"),
    [
        ("a", {"a": "a"}, "a needs a (a/deps:1:1)"),
        ("a", {"a": "b", "b": "\nc a"}, "a needs b (a/deps:1:1), b needs a (b/deps:2:3)"),
        ("x", {"x": "b", "b": "a", "a": "x|b"}, "a needs b (a/deps:1:1), b needs a (b/deps:1:1)"),
        ("b", {"a": "+b", "b": "a"}, "a comes after b (a/deps:1:1), b needs a (b/deps:1:1)"),
    ],
)
def test_a_cycle_is_named_with_the_entries_that_make_it(
    wanted: str, deps: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        resolved(wanted, **deps)
    first = said.partition("(")[2].partition(")")[0]
    words = f"a cycle: {said}; take one of these entries away"
    assert str(error.value) == f"{first}: {words}"


def test_many_choices_are_no_matter() -> None:
    """Forty either-ors have a million million resolutions."""
    deps = {"x": " ".join(f"a{n}|b{n}|c{n}" for n in range(40))}
    assert len(resolved("x", **deps).split()) == 41


# ------------------------------------------------------------------------ the language


def test_blanks_commas_lines_and_comments() -> None:
    text = "# all of it\na,b  c|d ,\t+e # f\n\n#g\nh|h"
    found = [(need.names, need.order_only, str(need.place)) for need in parse(text, "f")]
    assert found == [
        (("a",), False, "f:2:1"),
        (("b",), False, "f:2:3"),
        (("c", "d"), False, "f:2:6"),
        (("e",), True, "f:2:12"),
        (("h",), False, "f:5:1"),
    ]


def test_every_entry_that_is_none_is_told_with_its_place() -> None:
    with pytest.raises(ConfigError) as error:
        parse("a | b\n../x\n+ +a|b .hidden $(id) good -x", "f")
    assert [str(problem).partition("; ")[0] for problem in error.value.problems] == [
        "f:1:3: '|' lacks a name",
        (
            "f:2:1: '../x' is not the name of a mode: letters, digits, '_', '.' and '-', "
            "the first a letter, a digit or '_'"
        ),
        "f:3:1: '+' lacks a name",
        "f:3:3: '+a|b': order only is about one mode",
        *(
            f"f:3:{column}: '{name}' is not the name of a mode: letters, digits, '_', '.' and '-', "
            "the first a letter, a digit or '_'"
            for column, name in ((8, ".hidden"), (16, "$(id)"), (27, "-x"))
        ),
    ]


@given(st.text())
def test_any_text_is_read_or_refused_with_places(text: str) -> None:
    places = []
    try:
        places += [need.place for need in parse(text, "f")]
    except ConfigError as error:
        places += [problem.place for problem in error.problems]
    assert all(place.line and place.column for place in places)
