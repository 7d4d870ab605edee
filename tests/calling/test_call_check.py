"""Every call against its tool, every answer against its call, and tools that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from calling_rows import USER, WEATHER, chat, told, tool

from runner.data.calling import formats
from runner.data.rows import Row
from runner.errors import Place

AT = "`messages[1].tool_calls[0].function.arguments`"


def asked(arguments: dict[str, Any], name: str = "f", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": arguments}, **more}]}


def row(parameters: Any, arguments: dict[str, Any], *after: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [USER, asked(arguments), *after], "tools": [{"name": "f", "parameters": parameters}]}


def properties(*required: str, **known: Any) -> dict[str, Any]:
    return {"type": "object", "properties": known, "required": list(required)}


FITS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"type": "object"}, {}),
    (properties(a={"type": "number"}), {"a": 1}),
    (properties(a={"type": "integer"}), {"a": 1.0}),
    (properties(a={"type": ["integer", "null"]}), {"a": None}),
    (properties(a={"type": "integer", "nullable": True}), {"a": None}),
    (properties(a={"type": "float"}, b={"type": "dict"}, c={"type": "tuple"}, d={"type": "any"}), {"a": 1, "b": {},
     "c": [], "d": [1]}),
    (properties("b"), {"b": 3}),
    ({**properties(), "additionalProperties": True}, {"x": 1}),
    ({**properties(), "additionalProperties": {"type": "string"}}, {"x": "y"}),
    (properties(a={"enum": [1, "x"]}), {"a": 1.0}),
    (properties(a={"type": "object", "properties": {"b": {}}}), {"a": {"c": 1}}),
    (properties(a={"items": {"type": "string"}, "minItems": 1, "format": "unknown"}), {"a": ["b"]}),
    (properties(a={"anyOf": [{"type": "string"}, {"type": "array"}]}), {"a": []}),
    ({**properties(a={"$ref": "#/$defs/b"}), "$defs": {"b": {"type": "integer"}}}, {"a": 1}),
    ({**properties(a={}, b={}), "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"b": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "arguments"), FITS)
def test_calls_that_fit(parameters: dict[str, Any], arguments: dict[str, Any]) -> None:
    assert chat(row(parameters, arguments)).messages[1].calls[0].arguments == json.dumps(arguments)


MISFITS: list[tuple[dict[str, Any], dict[str, Any], str, str | None]] = [
    (properties("a", a={}), {}, "`a` is missing, which `f` requires", None),
    (properties("b", a={}), {"a": 1}, "`b` is missing, which `f` requires",
     "`required` of the tool names it, and its `properties` do not"),
    (properties(city={}), {"citi": 1}, "`f` has no argument `citi`", "a similar argument exists: `city`"),
    ({}, {"a": 1}, "`f` has no argument `a`", None),
    (properties(a={"type": "integer"}), {"a": True}, "`a` is a boolean, not a whole number", None),
    (properties(a={"type": "integer"}), {"a": 1.5}, "`a` is `1.5`, not a whole number", None),
    (properties(a={"type": "number"}), {"a": "1"}, "`a` is text, not a number", None),
    (properties(a={"type": ["string", "null"]}), {"a": []}, "`a` is a list, not text or null", None),
    (properties(a={"enum": ["x", "y"]}), {"a": "z"}, "`a` is `z`, not `x` or `y`", None),
    (properties(a={"enum": [1, 0]}), {"a": True}, "`a` is `true`, not `1` or `0`", None),
    (properties(a={"const": "x"}), {"a": "y"}, "`a` is `y`, not `x`", None),
    (properties(a={"type": "array", "items": {"type": "string"}}), {"a": ["b", 3]},
     "`a[1]` is a number, not text", None),
    (properties(a=properties("b", b={})), {"a": {}}, "`a.b` is missing", None),
    (
        properties(a={**properties(b={}), "additionalProperties": False}), {"a": {"c": 1}},
        "`a` has `c`, which its schema does not know", None,
    ),
    (
        properties(a={"anyOf": [{"type": "string"}, {"type": "array"}]}), {"a": 1},
        "`a` is a number, and fits none of its 2 alternatives: `a` is a number, not text", None,
    ),
    (
        properties(a={"oneOf": [{"type": "number"}, {"type": "integer"}]}), {"a": 1},
        "`a` fits 2 of its alternatives, and only one is allowed", None,
    ),
    ({**properties(), "additionalProperties": {"type": "string"}}, {"x": 1}, "`x` is a number, not text", None),
    (properties(a={"$ref": "#/$defs/b"}), {"a": 1}, "the schema of `a` is a reference that leads nowhere", None),
    (properties(a={"prefixItems": [{"type": "string"}], "maxItems": 1}), {"a": ["b", 1]},
     "`a` has 2 items, and `maxItems` is 1", None),
    (properties(a=False), {"a": 1}, "`a` may not be there", None),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "arguments", "message", "hint"), MISFITS)
def test_calls_that_do_not_fit(
    parameters: dict[str, Any], arguments: dict[str, Any], message: str, hint: str | None
) -> None:
    assert told(row(parameters, arguments)) == [(f"{AT}: {message}", hint)]


def test_a_row_with_calls_and_no_tools() -> None:
    message = "`messages[1].tool_calls[0].function.name`: the row has no tools, and so none `f`"
    hint = "every row gives its own; for a column of another name set `columns: {tools: …}`"
    assert told({"messages": [USER, asked({})]}) == [(message, hint)]


BROKEN_TOOLS: list[tuple[Any, str, str | None]] = [
    ("x", "`tools[0]` is the text `x`, not a tool",
     'a tool is an object: `{"name": …, "description": …, "parameters": …}`'),
    ("{x", "`tools[0]` at character 2: not valid JSON: a key is not in double quotes", None),
    (3, "`tools[0]` is a number, not an object", None),
    ({"type": "function"}, "`tools[0].name` is missing", None),
    ({"type": "function", "function": 3}, "`tools[0].function` is a number, not an object", None),
    ({"function": {"nam": "f"}}, "`tools[0].function.name` is missing", "a similar key exists: `nam`"),
    ({"name": ""}, "`tools[0].name` is empty", None),
    ({"function": {"name": "f"}, "enabled": 1},
     "`tools[0]` has `enabled` beside `function`, which would be lost", None),
    ({"name": "f", "parameters": []}, "`tools[0].parameters` is a list, not an object", None),
    (
        {"name": "f", "parameters": {"type": "array"}},
        "`tools[0].parameters` has the type `array`, not `object`", 'arguments are an object: `"type": "object"`',
    ),
    (
        {"name": "f", "parameters": {"properties": {}}},
        "`tools[0].parameters` has no `type`", 'arguments are an object: `"type": "object"`',
    ),
    (
        {"name": "f", "parameters": properties(a={"type": "strnig"})},
        "`tools[0].parameters.properties.a.type` is `strnig`, which is no type", "write `string`",
    ),
    (
        {"name": "f", "parameters": properties(a={"type": "string", "required": True})},
        "`tools[0].parameters.properties.a.required` is a boolean, not a list of names",
        "it stands beside `properties`, and lists the arguments that have to be there",
    ),
    (
        {"name": "f", "parameters": properties(a={"enum": []})},
        "`tools[0].parameters.properties.a.enum` is empty, not a list of values", None,
    ),
    ({"name": "f", "input_schema": {}},
     "`tools[0]` has `input_schema` in place of `parameters`", "rename it `parameters`"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message", "hint"), BROKEN_TOOLS)
def test_tools_that_are_none(given: Any, message: str, hint: str | None) -> None:
    values = {"messages": [USER, {"role": "assistant", "content": "a"}], "tools": [given]}
    (found,) = told(values)
    assert found == (message.replace("Expecting value", "expecting value"), hint)


def test_two_tools_of_one_name() -> None:
    values = {"messages": [USER, {"role": "assistant", "content": "a"}], "tools": [WEATHER, {"name": "get_weather"}]}
    hint = "nobody could tell which of them a call means: rename one, or take one away"
    assert told(values) == [("`tools[1]` is the second tool with the name `get_weather`", hint)]


def test_what_a_tool_says_is_kept_in_its_order() -> None:
    function = {"strict": True, "name": "f", "returns": {"type": "dict"}, "description": "é", "parameters": {}}
    values = {"messages": [USER, {"role": "assistant", "content": "a"}], "tools": [{**function, "type": "function"}]}
    assert chat(values).tools == (tool(function),)


def answer(content: str = "a", **more: Any) -> dict[str, Any]:
    return {"role": "tool", "content": content, **more}


ANSWERS: list[tuple[list[dict[str, Any]], str, str | None]] = [
    ([USER, answer()], "`messages[1]` is a tool's answer, and the turn before it calls no tool", None),
    (
        [USER, asked({}, id="x"), answer(tool_call_id="y")],
        "`messages[2]` answers the call `y`, which `messages[1]` does not make", "their ids are `x`",
    ),
    (
        [USER, asked({}), answer(tool_call_id="y")],
        "`messages[2]` answers the call `y`, which `messages[1]` does not make", "give each call its `id`",
    ),
    (
        [USER, asked({}, id="x"), answer(tool_call_id="x"), answer(tool_call_id="x")],
        "`messages[3]` is the second answer to the call `x`", None,
    ),
    (
        [USER, asked({}), answer(name="g")],
        "`messages[2]` is an answer of `g`, which `messages[1]` does not call", "it calls `f`",
    ),
    ([USER, asked({}), USER, answer()], "`messages[3]` is a tool's answer, and the turn before it calls no tool", None),
    ([asked({})], "the conversation has no `user` turn", None),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "message", "hint"), ANSWERS)
def test_answers_that_answer_nothing(messages: list[dict[str, Any]], message: str, hint: str | None) -> None:
    ends = [] if any("tool_calls" in each for each in messages) else [asked({})]
    assert told({"messages": [*messages, *ends], "tools": [{"name": "f"}]}) == [(message, hint)]


def test_two_calls_with_one_id() -> None:
    call = {"id": "x", "function": {"name": "f", "arguments": {}}}
    values = {"messages": [USER, {"role": "assistant", "tool_calls": [call, call]}], "tools": [{"name": "f"}]}
    assert told(values) == [("`messages[1]` has two calls with the id `x`", None)]


def test_a_conversation_in_which_nobody_answers() -> None:
    message = "the conversation has no `assistant` turn, so there is nothing to learn"
    assert told({"messages": [USER], "tools": [{"name": "f"}]}) == [(message, None)]


def test_what_is_nested_beyond_reason_is_told() -> None:
    circle = {**properties(a={"$ref": "#/$defs/b"}), "$defs": {"b": {"anyOf": [{"$ref": "#/$defs/b"}]}}}
    expected = "values are nested too deeply, or references of a schema go in a circle"
    assert told(row(circle, {"a": 1})) == [(expected, None)]
    deep: Any = {}
    for _ in range(3000):
        deep = {"items": deep}
    given = Row(row(properties(a=deep), {}), Place("a", 1), raw="")
    found = formats.read(given)
    assert isinstance(found, list) and [problem.message for problem in found] == [expected]


def test_counts() -> None:
    values = row({}, {}, answer(), asked({}))
    assert formats.count(chat(values)) == "several"
    values["messages"] = values["messages"][:2]
    assert formats.count(chat(values)) == "one"
    values["messages"] = [USER, {"role": "assistant", "content": "a"}]
    assert formats.count(chat(values)) == "none"
