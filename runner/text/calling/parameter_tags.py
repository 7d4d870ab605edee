"""Calls as nested tags, `<function=name><parameter=key>value</parameter></function>`: Qwen3-Coder and its kin.

A turn and the tools in, its content and its calls out; raises `Broken`. A value is bare text, so that the tool's
parameters must say whether `5` is a number: what they allow is read as JSON, anything else is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from runner.data import strict_json
from runner.data.examples import Call
from runner.text.calling.faults import Broken

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FUNCTION = re.compile(r"<function=([^<>\n]+)>")
PARAMETER = re.compile(r"\s*<parameter=([^<>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
END = re.compile(r"\s*</function>")
PYTHON_LITERALS = {"True": "true", "False": "false", "None": "null"}  # what templates make of a value as a string
TYPES = {"integer", "number", "boolean", "object", "array", "null"}


def read(text: str, tools: Sequence[str]) -> tuple[str, list[Call]]:
    """Calls between `<tool_call>` tags, one after another; text before the first is the content."""
    start = re.search(rf"{OPEN}|<function=", text)
    if start is None:
        if CLOSE in text or "</function>" in text:
            raise Broken("a call is closed that was not opened")
        return text, []
    types = _types(tuple(tools))
    calls: list[Call] = []
    position = start.start()
    while text[position:].strip():
        call, position = _call(text, position, types, len(calls) + 1)
        calls.append(call)
    return text[: start.start()], calls


def _call(text: str, position: int, types: dict[str, dict[str, set[str]]], number: int) -> tuple[Call, int]:
    position = strict_json.skip_space(text, position)
    wrapped = text.startswith(OPEN, position)
    if wrapped:
        position = strict_json.skip_space(text, position + len(OPEN))
    function = FUNCTION.match(text, position)
    if function is None:
        raise Broken(f"call {number} does not begin with `<function=name>`" if wrapped else "text stands behind a call")
    known = types.get(function[1], {})
    members: dict[str, str] = {}
    position = function.end()
    while parameter := PARAMETER.match(text, position):
        key, value = parameter.groups()
        if key in members:
            raise Broken(f"call {number} has the parameter `{key}` twice")
        members[key] = _json(value, known.get(key))
        position = parameter.end()
    position = _expect(END, text, position, f"call {number} is not closed with `</function>`")
    if wrapped:
        position = _expect(re.compile(rf"\s*{CLOSE}"), text, position, f"call {number} is not closed with `{CLOSE}`")
    arguments = ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {value}" for key, value in members.items())
    return Call(function[1], "{" + arguments + "}"), position


def _expect(pattern: re.Pattern[str], text: str, position: int, complaint: str) -> int:
    found = pattern.match(text, position)
    if found is None:
        raise Broken(complaint)
    return found.end()


def _json(text: str, types: set[str] | None) -> str:
    """A bare value as JSON of a type that is allowed; any type is, where nothing is said."""
    literal = PYTHON_LITERALS.get(text.strip(), text)
    try:
        value = strict_json.Decoder().whole(literal)
    except strict_json.Invalid:
        return json.dumps(text, ensure_ascii=False)
    if isinstance(value, str) or (types is not None and not types & set(_names(value))):
        return json.dumps(text, ensure_ascii=False)
    return literal.strip()


def _names(value: Any) -> Iterator[str]:
    """The types of JSON Schema that a value has."""
    if value is None:
        yield "null"
    elif isinstance(value, bool):
        yield "boolean"
    elif isinstance(value, int | float):
        yield "number"
        if isinstance(value, int):
            yield "integer"
    else:
        yield "array" if isinstance(value, list) else "object"


@lru_cache(maxsize=256)
def _types(tools: tuple[str, ...]) -> dict[str, dict[str, set[str]]]:
    """Of each tool's parameters the types that they allow, where their schemas say so."""
    found: dict[str, dict[str, set[str]]] = {}
    for tool in tools:
        function = json.loads(tool).get("function", {})
        parameters = function.get("parameters")
        properties = parameters.get("properties") if isinstance(parameters, dict) else None
        found[str(function.get("name"))] = {
            key: types
            for key, schema in (properties.items() if isinstance(properties, dict) else ())
            if (types := _allowed(schema)) is not None
        }
    return found


def _allowed(schema: Any) -> set[str] | None:
    """The types that a schema allows, as far as it says them by `type`, `anyOf` or `oneOf`."""
    if not isinstance(schema, dict):
        return None
    said = schema.get("type")
    if isinstance(said, str | list):
        return {said} if isinstance(said, str) else {each for each in said if isinstance(each, str)}
    choices = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(choices, list):
        return None
    found = [_allowed(each) for each in choices]
    return None if None in found else {name for each in found if each is not None for name in each}
