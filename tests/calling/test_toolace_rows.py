"""Rows of ToolACE: tools in the text of `system`, and calls in brackets whose names hold blanks and slashes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from calling_rows import chat, chosen, told, tool
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data import strict_json
from runner.data.calling import toolace_calls
from runner.data.examples import Call, Chat, Message

TRENDS: dict[str, Any] = {
    "name": "Market Trends API",
    "description": "d",
    "parameters": {
        "type": "dict",
        "properties": {"trend_type": {"type": "string"}, "top": {"type": "float"}, "more": {"type": "dict"}},
        "required": ["trend_type"],
    },
    "required": None,
}
CANONICAL = {
    "name": "Market Trends API",
    "description": "d",
    "parameters": {
        "type": "object",
        "properties": {"trend_type": {"type": "string"}, "top": {"type": "number"}, "more": {"type": "object"}},
        "required": ["trend_type"],
    },
}
ROLL = {"name": "/roll (v2)"}
HEAD = (
    "You are an expert in composing functions. You are given a question and a set of possible functions. Based on the "
    "question, you will need to make one or more function/tool calls to achieve the purpose.\nIf none of the function "
    "can be used, point it out.\nYou should only return the function call in tools call sections.\nHere is a list of "
    "functions in JSON format that you can invoke:\n"
)
TAIL = (
    ". \nShould you decide to return the function call(s). \nPut it in the format of [func1(params_name=params_value, "
    "params_name2=params_value2...), func2(params)]\n\nNO other text MUST be included. \n"
)


def row(*turns: tuple[str, str], tools: str | None = None) -> dict[str, Any]:
    given = json.dumps([TRENDS, ROLL]) if tools is None else tools
    spoken = [("user", "q"), *turns]
    return {
        "system": HEAD + given + TAIL,
        "conversations": [{"from": who, "value": value} for who, value in spoken],
    }


def test_a_row() -> None:
    text = '[Market Trends API(trend_type="MARKET_INDEXES", top=1.0), /roll (v2)()]'
    values = row(("assistant", text), ("tool", '[{"name": "Market Trends API"}]'), ("assistant", "Up."))
    assert chosen(values) == "toolace"
    calls = (Call("Market Trends API", '{"trend_type": "MARKET_INDEXES", "top": 1.0}'), Call("/roll (v2)", "{}"))
    system = "You are an expert in composing functions.\nIf none of the function can be used, point it out."
    assert chat(values) == chat(values, "toolace") == Chat(
        (
            Message("system", system),
            Message("user", "q"),
            Message("assistant", "", calls),
            Message("tool", '[{"name": "Market Trends API"}]'),
            Message("assistant", "Up."),
        ),
        (tool(CANONICAL), tool(ROLL)),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["[Note] it is so.", "No.", "[]", "[1, 2]", "f(x) is [0, 1]"])
def test_text_is_no_call(text: str) -> None:
    assert chat(row(("assistant", text))).messages[-1] == Message("assistant", text)


def test_a_system_text_without_tools_stays_whole() -> None:
    values = {**row(("assistant", "a")), "system": HEAD}
    assert chat(values).messages[0] == Message("system", HEAD)


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ("a=1", '{"a": 1}'),
        ("a = -1.50 , b=1e5", '{"a": -1.50, "b": 1e5}'),
        ("a=123456789012345678901234567890", '{"a": 123456789012345678901234567890}'),
        ("a=True, b=False, c=None, d=true, e=null", '{"a": true, "b": false, "c": null, "d": true, "e": null}'),
        ("a='it\\'s', b=\"it's\"", '{"a": "it\'s", "b": "it\'s"}'),
        ('a="x), B(c=[1])]", b="\\"é\\n"', '{"a": "x), B(c=[1])]", "b": "\\"é\\n"}'),
        ("a=[], b=[1, 'x', [2.0]], c={}", '{"a": [], "b": [1, "x", [2.0]], "c": {}}'),
        ('a={\'k\': [{"x": None}], "l": 1}', '{"a": {"k": [{"x": null}], "l": 1}}'),
        ("start-date='x', $top=1, max results=2", '{"start-date": "x", "$top": 1, "max results": 2}'),
        ("\n  a=1,\n  b=2\n", '{"a": 1, "b": 2}'),
        ("a='\\x41'", '{"a": "A"}'),
    ],
)
def test_values(written: str, arguments: str) -> None:
    (call,) = toolace_calls.read(f" [A b/c({written})] ", [])
    assert (call.name, call.arguments) == ("A b/c", arguments)
    json.loads(call.arguments)


BROKEN = [
    ("[A(a=1)", 8, "the text ends where `]` is due"),
    ("[A(a=1]", 7, "`]` stands where `)` is due"),
    ("[A(a=1)] b", 10, "there is more text after the calls"),
    ("[A(1)]", 4, "no argument of the form `name=value` stands here"),
    ("[A(a=1,)]", 8, "no argument of the form `name=value` stands here"),
    ("[A(a=1, a=2)]", 9, "the argument `a` stands twice in one call"),
    ("[A(a=b)]", 6, "no value stands here"),
    ("[A(a=1_000)]", 7, "`_` stands where `)` is due"),
    ("[A(a=01)]", 6, "no value stands here"),
    ("[A(a='x)]", 6, "a string is not closed"),
    ("[A(a='\\d')]", 6, "a string has an escape that neither JSON nor Python knows"),
    ("[A(a=[1 2])]", 9, "`2` stands where `,` is due"),
    ("[A(a={b: 1})]", 7, "a key is not in quotes"),
    ("[A(a={'b': 1, \"b\": 2})]", 15, "key `b` stands twice in one object"),
    ("[A(a=)]", 6, "no value stands here"),
    ("[A(a=1), ]", 10, "no call of the form `name(…)` stands here"),
    ("[A(a=" + "[" * 60 + "]" * 60 + ")]", 57, "values are nested too deeply"),
]


@pytest.mark.parametrize(("text", "position", "message"), BROKEN)
def test_broken_calls(text: str, position: int, message: str) -> None:
    with pytest.raises(strict_json.Invalid) as raised:
        toolace_calls.read(text, [])
    assert (raised.value.message, raised.value.position + 1) == (message, position)


def python(value: Any) -> str:
    """A value as ToolACE writes it, in Python's way."""
    return repr(value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
LETTERS = st.characters(codec="utf-8", exclude_characters="(", exclude_categories=("Cc", "Cs"))
NAMES = st.text(LETTERS, min_size=1).map(str.strip).filter(bool)
KEYS = st.from_regex(r"[A-Za-z_$][A-Za-z0-9_.-]{0,8}", fullmatch=True)


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, st.dictionaries(KEYS, VALUES, max_size=4)), min_size=1, max_size=3), st.booleans())
def test_calls_read_back_as_they_were_written(calls: list[tuple[str, dict[str, Any]]], as_json: bool) -> None:
    write = json.dumps if as_json else python
    text = ", ".join(f"{name}({', '.join(f'{k}={write(v)}' for k, v in given.items())})" for name, given in calls)
    found = toolace_calls.read(f"[{text}]", [name for name, _ in calls])
    assert [(each.name, json.loads(each.arguments)) for each in found] == calls
    for each in found:
        assert text[each.name_start - 1 :].startswith(each.name)
        assert text[each.arguments_start - 1] == "("


@settings(deadline=None)
@given(st.text())
def test_any_text_is_calls_or_told(text: str) -> None:
    try:
        found = toolace_calls.read(text, ["a"])
    except strict_json.Invalid as error:
        assert 0 <= error.position <= len(text)
    else:
        assert found


def at(number: int) -> str:
    return f"`conversations[1].value` at character {number}"


REFUSED = {
    "an argument that is not there": (
        '[Market Trends API(trend_typ="a")]',
        [
            (f"{at(19)}: `trend_type` is missing, which `Market Trends API` requires", None),
            (f"{at(19)}: `Market Trends API` has no argument `trend_typ`", "a similar argument exists: `trend_type`"),
        ],
    ),
    "a tool that is not there": (
        "[Rolls(a=1)]", [(f"{at(2)}: there is no tool `Rolls`", "the tools are `Market Trends API`, `/roll (v2)`")],
    ),
    "a call that is cut off": (
        '[Market Trends API(trend_type="a"', [(f"{at(34)}: the text ends where `)` is due", None)],
    ),
    "a call within text": (
        "I call [Market Trends API(trend_type='a')].",
        [(f"{at(8)}: a call of `Market Trends API` stands within text", None)],
    ),
    "a number beyond all": (
        "[Market Trends API(trend_type='a', top=1e999)]",
        [(f"{at(19)}: the arguments hold what JSON has not", None)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(text: str, expected: list[tuple[str, str | None]]) -> None:
    assert told(row(("assistant", text))) == expected


def test_tools_that_cannot_be_read() -> None:
    (fault,) = told(row(("assistant", "a"), tools="[{'name': 1}]"))
    message = f"`system` at character {len(HEAD) + 3}: not valid JSON: a string is in single quotes"
    assert fault == (message, "JSON strings take double quotes; `json.dumps` writes them")
    (fault,) = told(row(("assistant", "a"), tools='[{"name": "a", "parameters": {"type": "dikt"}}]'))
    assert fault == (f"`system` at character {len(HEAD) + 2}: `parameters.type` is `dikt`, which is no type", None)
