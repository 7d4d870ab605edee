"""Calls compared by their syntax trees: which values are right, and which calls go together."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data.examples import Call
from runner.scores import calls, rows, values
from runner.scores.calls import Read
from runner.scores.matching import most_pairs
from runner.scores.metrics import OF_CALLS
from runner.scores.rows import Measure

WEATHER = json.dumps(
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "height": {"type": "number"},
                    "points": {"type": "array", "items": {"type": "number"}},
                },
                "required": ["city"],
            },
        },
    }
)


def call(name: str, **arguments: Any) -> Call:
    return Call(name, json.dumps(arguments))


def hermes(text: str, tools: Sequence[str] = ()) -> Read:
    """The calls in `<tool_call>` tags, as far as these tests write them."""
    found = []
    for body in re.findall(r"<tool_call>\s*(.*?)\s*</tool_call>", text, re.DOTALL):
        try:
            read = json.loads(body)
            found.append(Call(read["name"], json.dumps(read["arguments"])))
        except (ValueError, KeyError) as error:
            return Read(tuple(found), f"{type(error).__name__}: {error}")
    return Read(tuple(found))


@pytest.mark.parametrize(
    ("got", "wanted", "schema", "right"),
    [
        # texts
        ("San Francisco, CA", "san francisco ca", None, True), ("it's", 'IT"S', None, True), ("a+b", "ab", None, False),
        ("a_b-c.d/e*f^g", "abcdefg", None, True), ("1", 1, None, False), (1, "1", None, False), ("", " ", None, True),
        # whole numbers and fractions
        (1, 1, None, True), (1, 1.0, None, True), (1.0, 1, None, False), (1.0, 1, {"type": "number"}, True),
        (1.0, 1, {"type": "integer"}, False), (2, 1, None, False), (1.5, 1.5, None, True),
        (1.0, 1, {"type": ["integer", "number"]}, True), (1.0, 1, {"type": [{}]}, False),
        # true, false and null
        (True, 1, None, False), (1, True, None, False), (True, True, None, True), (True, False, None, False),
        (None, None, None, True), (None, 0, None, False), (0, None, None, False), (False, 0.0, None, False),
        # lists and objects
        ([1, 2], [1, 2], None, True), ([2, 1], [1, 2], None, False), ([1], [1, 2], None, False), ([], [], None, True),
        (["A b"], ["ab"], None, True), ([1.0], [1], {"items": {"type": "number"}}, True), ({}, [], None, False),
        ({"b": 2, "a": 1}, {"a": 1, "b": 2}, None, True), ({"a": 1}, {"a": 1, "b": 2}, None, False),
        ({"a": 1, "b": 2}, {"a": 1}, None, False), ({"A": 1}, {"a": 1}, None, False), ("a", ["a"], None, False),
        ({"a": {"b": 1.0}}, {"a": {"b": 1}}, {"properties": {"a": {"properties": {"b": {"type": "number"}}}}}, True),
    ],
)  # fmt: skip
def test_a_value_is_the_wanted_one(got: Any, wanted: Any, schema: Any, right: bool) -> None:
    assert values.plain(got, wanted, schema) is right


@pytest.mark.parametrize(
    ("got", "accepted", "right"),
    [
        ({"base": 10, "height": 5}, {"base": [10], "height": [5], "unit": ["units", ""]}, True),
        ({"base": 10, "height": 5, "unit": "Units"}, {"base": [10], "height": [5], "unit": ["units", ""]}, True),
        ({"base": 10, "height": 5, "unit": "cm"}, {"base": [10], "height": [5], "unit": ["units", ""]}, False),
        ({"base": 10}, {"base": [10], "height": [5]}, False), ({"base": 10, "more": 1}, {"base": [10]}, False),
        ({"where": {"x": 1}}, {"where": [{"x": [1, 2], "y": ["", 3]}]}, True),
        ({"where": {"x": 1, "y": 4}}, {"where": [{"x": [1, 2], "y": ["", 3]}]}, False),
        ({"list": [1, 2]}, {"list": [[1, 2], [2, 1]]}, True), ({"list": [2, 2]}, {"list": [[1, 2], [2, 1]]}, False),
        ({}, {"city": [""]}, False),  # the schema requires it
    ],
)  # fmt: skip
def test_accepted_values_are_alternatives(got: Any, accepted: Any, right: bool) -> None:
    assert values.accepted(got, accepted, {"required": ["city"]}) is right


def told(wanted: list[Call], read: list[Call], fault: str | None = None, **more: Any) -> str:
    """Which of parsed, name, arguments and match are right, by their first letters."""
    found = calls.score(wanted, [WEATHER], Read(tuple(read), fault), **more)
    named = {"p": found.parsed, "n": found.name, "a": found.arguments, "m": found.match}
    return "".join(letter for letter, right in named.items() if right)


PARIS, ROME = call("weather", city="Paris"), call("weather", city="Rome")


@pytest.mark.parametrize(
    ("wanted", "read", "right"),
    [
        ([PARIS], [PARIS], "pnam"), ([PARIS], [ROME], "pn"), ([PARIS], [call("time", city="Paris")], "pa"),
        ([PARIS], [], ""), ([PARIS], [PARIS, PARIS], "p"), ([PARIS, ROME], [PARIS], "p"),
        ([PARIS, ROME], [ROME, PARIS], "pnam"), ([PARIS, PARIS], [PARIS, ROME], "pn"),
        ([PARIS], [Call("weather", "[1]")], ""), ([PARIS], [Call("weather", "{")], ""),
        # each name and each set of arguments is there, but not in one call
        ([PARIS, call("time", city="Rome")], [ROME, call("time", city="Paris")], "pna"),
        ([call("weather", height=2)], [call("weather", height=2.0)], "pnam"),
        ([call("weather", days=2)], [call("weather", days=2.0)], "pn"),
        ([call("now")], [call("now")], "pnam"), ([call("Now")], [call("now")], "pa"),
    ],
)  # fmt: skip
def test_a_row_that_wants_calls(wanted: list[Call], read: list[Call], right: str) -> None:
    assert told(wanted, read) == right


def test_a_fault_is_no_match_even_where_calls_came_before_it() -> None:
    assert told([PARIS], [PARIS], "`{` is not closed") == ""


def test_a_row_that_wants_no_call() -> None:
    assert told([], []) == "m" and told([], [PARIS]) == "" and told([], [], "no JSON") == ""


def test_arguments_nested_too_deeply_are_no_match() -> None:
    deep = "[" * 900 + "]" * 900
    wanted = Call("weather", f'{{"a": {deep}}}')
    assert told([wanted], [wanted]) in ("p", "pnam")


def test_an_early_call_does_not_take_the_only_partner_of_a_later_one() -> None:
    wanted = [call("weather", city=["Paris", "Rome"]), call("weather", city=["Rome"])]
    assert told(wanted, [ROME, PARIS], alternatives=True) == "pnam"
    assert told(wanted, [PARIS, PARIS], alternatives=True) == "pn"


@pytest.mark.parametrize("arguments", ["[]", "{", '"x"'])
def test_wanted_calls_have_arguments(arguments: str) -> None:
    with pytest.raises(ValueError, match="the wanted arguments of `f` are no JSON object"):
        calls.score([Call("f", arguments)], [], Read())
    with pytest.raises(ValueError, match="are no lists of accepted values"):
        calls.score([PARIS], [], Read(), alternatives=True)


@pytest.mark.parametrize("tool", ["[]", "{}", '{"function": 1}', '{"function": {"name": "weather", "parameters": 7}}'])
def test_a_tool_that_is_not_as_it_should_be_has_no_schema(tool: str) -> None:
    assert calls.score([PARIS], [tool], Read((PARIS,))).match


@settings(deadline=None)  # every order is tried
@given(
    st.integers(0, 5).flatmap(lambda wide: st.lists(st.lists(st.booleans(), min_size=wide, max_size=wide), max_size=5))
)
def test_a_largest_matching_is_found(fits: list[list[bool]]) -> None:
    wide = len(fits[0]) if fits else 0
    places = [*range(wide), *[None] * len(fits)]
    largest = max(
        sum(other is not None and fits[one][other] for one, other in enumerate(order))
        for order in itertools.permutations(places, len(fits))
    )
    assert most_pairs(fits) == largest


@given(st.permutations(range(12)))
def test_the_order_of_calls_does_not_count(order: list[int]) -> None:
    wanted = [call("weather", city=f"city {number}", days=number % 3) for number in range(12)]
    assert told(wanted, [wanted[number] for number in order]) == "pnam"


def text_of(read: list[Mapping[str, Any]]) -> str:
    return "".join(f"<tool_call>\n{json.dumps(each)}\n</tool_call>" for each in read)


def test_rows_of_a_set() -> None:
    paris = {"name": "weather", "arguments": {"city": "Paris"}}
    question = {
        "prompt": "",
        "answer": "",
        "tools": [WEATHER],
        "calls": [{"name": "weather", "arguments": '{"city": "paris"}'}],
    }
    measure = Measure(("exact_match", *OF_CALLS), None, hermes)
    right = rows.score(measure, question, "", text_of([paris]))
    assert right.values == {
        "exact_match": 1.0,
        **dict.fromkeys(OF_CALLS[:4], 1.0),
        "no_call_precision": None,
        "no_call_recall": None,
    }
    assert right.read == Read((Call("weather", '{"city": "Paris"}'),))
    silent = rows.score(measure, question, "It rains.", "It rains.").values
    assert silent == {
        "exact_match": 0.0,
        **dict.fromkeys(OF_CALLS[:4], 0.0),
        "no_call_precision": 0.0,
        "no_call_recall": None,
    }
    none = {**question, "calls": []}
    assert list(rows.score(measure, none, "", "No.").values.values())[1:] == [None, None, None, 1.0, 1.0, 1.0]
    assert list(rows.score(measure, none, "", text_of([paris])).values.values())[1:] == [
        None,
        None,
        None,
        0.0,
        None,
        0.0,
    ]
    broken = rows.score(measure, question, "", "<tool_call>{</tool_call>")
    assert broken.read is not None and broken.read.fault is not None and broken.values["call_parsed"] == 0.0
    assert list(rows.score(measure, none, "", "<tool_call>{</tool_call>").values.values())[3:] == [None, 0.0, None, 0.0]
