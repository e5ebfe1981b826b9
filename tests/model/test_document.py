"""Nodes with places: merging, interpolation and the types of unquoted scalars."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.document import Node, Scalar, interpolate, mapping, merge, resolve_plain, shorten
from model.problems import Place, Problem


def at(line: int, column: int = 1, file: str = "f") -> Place:
    return Place(file, line, column)


def scalar(value: Scalar, line: int = 1, *, plain: bool = False) -> Node:
    return Node(value, at(line), plain=plain)


def numbers(*values: int) -> Node:
    return Node(tuple(scalar(value) for value in values), at(9))


def test_bare_is_the_value_without_places() -> None:
    node = mapping(at(1), {"a": numbers(1, 2), "b": mapping(at(2), {"c": scalar(None)})})
    assert node.bare() == {"a": [1, 2], "b": {"c": None}}


def test_a_scalar_has_no_entries_and_no_elements() -> None:
    node = scalar("text")
    assert (node.get("a"), list(node.items()), node.elements()) == (None, [], ())


def test_a_new_entry_leaves_the_node_as_it_was() -> None:
    node = mapping(at(1), {"a": scalar(1)})
    assert node.with_entry("b", scalar(2)).bare() == {"a": 1, "b": 2}
    assert node.with_entry("a", scalar(3)).bare() == {"a": 3}
    assert node.bare() == {"a": 1}


PLACED = Node(
    {"links": Node((Node({"mtu": scalar(1, 5)}, at(4), {"mtu": at(5, 3)}),), at(3))},
    at(1),
    {"links": at(2)},
)


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ((), False, at(1)),
        (("links",), False, at(3)),
        (("links",), True, at(2)),
        (("links", 0), False, at(4)),
        (("links", 0, "mtu"), False, at(5)),
        (("links", 0, "mtu"), True, at(5, 3)),
        (("links", 0, "dev"), False, at(4)),
        (("links", 7, "mtu"), False, at(3)),
        (("other",), True, at(1)),
        (("links", 0, "mtu", "deeper"), False, at(5)),
    ],
)
def test_the_place_of_a_path(path: tuple[str | int, ...], *, key: bool, expected: Place) -> None:
    assert PLACED.place_of(path, key=key) == expected


def test_mappings_merge_lists_concatenate_and_of_anything_else_the_second_wins() -> None:
    first = mapping(at(1), {"m": mapping(at(1), {"x": scalar(1)}), "l": numbers(1), "s": scalar(1)})
    second = mapping(
        at(2), {"m": mapping(at(2), {"y": scalar(2)}), "l": numbers(2), "s": scalar(2)}
    )
    assert merge(first, second).bare() == {"m": {"x": 1, "y": 2}, "l": [1, 2], "s": 2}
    assert merge(numbers(1), scalar(2)).bare() == 2
    assert merge(scalar(1), numbers(2)).bare() == [2]
    assert merge(first, numbers(2)).bare() == [2]


def test_merged_keys_keep_the_place_where_they_were_last_written() -> None:
    first = Node({"a": scalar(1)}, at(1), {"a": at(1)})
    second = Node({"a": scalar(2), "b": scalar(3)}, at(2), {"a": at(2), "b": at(3)})
    assert merge(first, second).key_places == {"a": at(2), "b": at(3)}
    assert merge(mapping(at(1)), mapping(at(2))).key_places == {}


NODES = st.recursive(
    st.integers().map(scalar),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda nodes: Node(tuple(nodes), at(1)))
        | st.dictionaries(st.sampled_from("abc"), inner).map(lambda d: mapping(at(1), d))
    ),
)


@given(first=NODES, second=NODES)
def test_merging_is_merging_of_bare_values(first: Node, second: Node) -> None:
    def merged(one: object, two: object) -> object:
        if isinstance(one, dict) and isinstance(two, dict):
            both = {key: merged(one[key], two[key]) for key in one.keys() & two.keys()}
            return {**one, **two, **both}
        if isinstance(one, list) and isinstance(two, list):
            return one + two
        return two

    assert merge(first, second).bare() == merged(first.bare(), second.bare())


def test_every_string_below_a_node_is_interpolated() -> None:
    problems: list[Problem] = []
    node = mapping(at(1), {"a": Node((scalar("$X"), scalar(7)), at(2)), "$X": scalar("$X")})
    assert interpolate(node, {"X": "x"}, problems).bare() == {"a": ["x", 7], "$X": "x"}
    assert problems == []


def test_a_plain_variable_takes_the_type_of_its_value() -> None:
    environment = {"N": "9000", "E": "", "T": "true"}
    values = [
        interpolate(scalar(text, plain=plain), environment, []).value
        for text in ("$N", "$E", "$T")
        for plain in (True, False)
    ]
    assert values == [9000, "9000", None, "", True, "true"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$", "a lone $ in '$'; write $$ for a dollar sign"),
        ("a $ b", "a lone $ in 'a $ b'; write $$ for a dollar sign"),
        ("$9", "a lone $ in '$9'; write $$ for a dollar sign"),
        ("${X", "${ without } in '${X'"),
        ("${X:-${Y}", "${ without } in '${X:-${Y}'"),
        ("${}", "${} names no variable"),
        ("${9}", "${9} names no variable"),
        ("${X?}", "variable X is not set"),
        ("${X:?}", "variable X is not set"),
        ("${X:?why}", "variable X is not set: why"),
        ("${X:?${Y:?both}}", "variable Y is not set: both"),
        ("${X:}", "${X:}: expected ${X} or one of :- - :? ? :+ + after the name"),
        ("${X!}", "${X!}: expected ${X} or one of :- - :? ? :+ + after the name"),
        ("${X-" * 22 + "}" * 22, "variables are nested more than 20 deep"),
    ],
)
def test_a_wrong_variable_is_a_problem_at_its_place(text: str, said: str) -> None:
    problems: list[Problem] = []
    node = Node(text, at(4, 7))
    assert interpolate(node, {}, problems) == node
    assert problems == [Problem(at(4, 7), said)]


def test_a_message_stays_short() -> None:
    problems: list[Problem] = []
    interpolate(scalar("${" + "x" * 5000), {}, problems)
    assert len(problems[0].message) < 200
    assert shorten("short words stay") == "short words stay"


@given(text=st.text("$ {}:-?+aX_\\", max_size=40))
def test_any_text_is_interpolated_or_refused(text: str) -> None:
    problems: list[Problem] = []
    interpolate(scalar(text, plain=True), {"a": "$a", "X": ""}, problems)
    assert len(problems) <= 1


@given(text=st.text())
def test_a_doubled_dollar_is_a_dollar(text: str) -> None:
    doubled = text.replace("$", "$$")
    assert interpolate(scalar(doubled), {}, []).value == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None), ("~", None), ("null", None), ("Null", None), ("NULL", None),
        ("true", True), ("True", True), ("TRUE", True), ("false", False), ("False", False),
        ("FALSE", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"),
        ("0", 0), ("7", 7), ("-7", -7), ("+7", 7), ("007", 7), ("0o17", 15), ("0x1F", 31),
        ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1.5E-3", -0.0015),
        ("1e400", math.inf), (".inf", ".inf"), ("1_000", "1_000"), ("0b1", "0b1"),
        ("10:20:30:40:50:51", "10:20:30:40:50:51"), ("2001-01-01", "2001-01-01"),
        ("9" * 40, int("9" * 40)), ("9" * 41, "9" * 41), ("s1", "s1"), ("-", "-"), (".", "."),
        ("٣", "٣"),
    ],
)  # fmt: skip
def test_unquoted_scalars_have_the_types_of_yaml_1_2(text: str, expected: Scalar) -> None:
    found = resolve_plain(text)
    assert (type(found), found) == (type(expected), expected)
