"""Rows of xLAM: a query, its answers, and tools whose parameters are a flat map of Python types."""

from __future__ import annotations

import json
from typing import Any

import pytest
from calling_rows import chat, chosen, told, tool
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runner.data.calling import python_types
from runner.data.examples import Call, Chat, Message

FLAT: dict[str, Any] = {
    "name": "giveaways",
    "description": "d",
    "parameters": {
        "type": {"description": "The kind.", "type": "str", "default": "game"},
        "most": {"description": "How many.", "type": "int, optional"},
        "scores": {"description": "Scores.", "type": "List[float]"},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "The kind.", "default": "game"},
        "most": {"type": "integer", "description": "How many."},
        "scores": {"type": "array", "items": {"type": "number"}, "description": "Scores."},
    },
    "required": ["scores"],
}
ANSWERS = (
    '[{"name": "giveaways", "arguments": {"scores": [1.0, 2]}}, {"name": "giveaways", "arguments": {"scores":[]}}]'
)


def row(answers: Any = ANSWERS, tools: Any = None, **more: Any) -> dict[str, Any]:
    return {"id": 1, "query": "q", "tools": json.dumps([FLAT]) if tools is None else tools, "answers": answers, **more}


def test_a_row_of_texts_and_of_lists() -> None:
    assert chosen(row()) == "xlam"
    calls = (Call("giveaways", '{"scores": [1.0, 2]}'), Call("giveaways", '{"scores":[]}'))
    canonical = (tool({**FLAT, "parameters": SCHEMA}),)
    assert (
        chat(row()) == chat(row(), "xlam") == Chat((Message("user", "q"), Message("assistant", "", calls)), canonical)
    )
    found = chat(row(json.loads(ANSWERS), [FLAT]))
    assert found.tools == canonical
    assert found.messages[1].calls[1].arguments == '{"scores": []}'


def test_a_schema_is_taken_as_it_is() -> None:
    assert chat(row(tools=[{**FLAT, "parameters": SCHEMA}])).tools == (tool({**FLAT, "parameters": SCHEMA}),)


TYPES: dict[str, dict[str, Any] | None] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
    "set": {"type": "array", "uniqueItems": True},
    "any": {},
    "typing.Any": {},
    "string": {"type": "string"},
    "List[int]": {"type": "array", "items": {"type": "integer"}},
    "list[List[str]]": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
    "List[Any]": {"type": "array"},
    "Set[int]": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    "Dict[str, Any]": {"type": "object"},
    "Dict[str, float]": {"type": "object", "additionalProperties": {"type": "number"}},
    "Tuple[float, ...]": {"type": "array", "items": {"type": "number"}},
    "Tuple[int, str]": {
        "type": "array",
        "prefixItems": [{"type": "integer"}, {"type": "string"}],
        "minItems": 2,
        "maxItems": 2,
    },
    "Union[int, str]": {"type": ["integer", "string"]},
    "int | None": {"type": ["integer", "null"]},
    "Optional[int]": {"type": ["integer", "null"]},
    "Union[int, List[int]]": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]},
    "Union[int, Any]": {},
    "Literal['a', 'b']": {"enum": ["a", "b"]},
    "Callable[[float], float]": None,
    "np.ndarray": None,
    "Dict[int, str]": None,
    "List[int, str]": None,
    "complex": None,
    "": None,
    "int; str": None,
    "f()": None,
    "List[": None,
    "[" * 400: None,
}


@pytest.mark.parametrize(("text", "schema"), TYPES.items(), ids=[text[:30] for text in TYPES])
def test_types(text: str, schema: dict[str, Any] | None) -> None:
    assert python_types.of_type(text) == schema
    if schema is not None:
        Draft202012Validator.check_schema(schema)


@settings(deadline=None)
@given(st.recursive(st.sampled_from(["int", "str", "Any", "None"]), lambda inner: st.one_of(
    inner.map("List[{}]".format), inner.map("Dict[str, {}]".format), inner.map("Optional[{}]".format),
    st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"Union[{', '.join(parts)}]"),
    st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"Tuple[{', '.join(parts)}]"),
)))  # fmt: skip
def test_every_type_of_these_becomes_a_schema(text: str) -> None:
    schema = python_types.of_type(text)
    assert schema is not None
    Draft202012Validator.check_schema(schema)


def test_what_is_required() -> None:
    given = {
        "a": {"type": "int"},
        "b": {"type": "int, optional"},
        "c": {"type": "int", "default": 3},
        "d": {"type": "Optional[int]"},
        "e": {"description": "no type"},
        "f": {"type": "str, Optional", "default": None},
    }
    assert python_types.parameters(given, "p")[0]["required"] == ["a", "e"]


BROKEN: dict[str, tuple[dict[str, Any], list[tuple[str, str | None]]]] = {
    "answers cut off": (
        row(ANSWERS[:-1]),
        [(f"`answers` at character {len(ANSWERS)}: not valid JSON: the text ends before its value is complete", None)],
    ),
    "an unknown tool": (
        row('[{"name": "giveaway", "arguments": {}}]'),
        [("`answers[0].name`: there is no tool `giveaway`", "a similar tool exists: `giveaways`")],
    ),
    "several faults": (
        row('[{"name": "giveaways", "arguments": {"scores": [1, "a"], "kind": 2}}, {"name": 3}, 4]', query=""),
        [
            ("`query` is empty", None),
            ("`answers[1].name` is a number, not text", None),
            ("`answers[1].arguments` is missing", "write `{}` where there are none"),
            ("`answers[2]` is a number, not an object", None),
            (
                "`answers[0].arguments`: `giveaways` has no argument `kind`",
                "its arguments are `type`, `most`, `scores`",
            ),
            ("`answers[0].arguments`: `scores[1]` is text, not a number", None),
        ],
    ),
    "no calls": (row("[]"), [("`answers` is empty, so there is nothing to learn", None)]),
    "no list": (row("{}"), [("`answers` is an object, not a list of calls", None)]),
    "a type that JSON has not": (
        row(tools=[{**FLAT, "parameters": {"f": {"type": "Callable"}, "g": {"type": 3}, "h": 4}}]),
        [
            ("`tools[0].parameters.f.type` is `Callable`, which is no type that JSON has", None),
            ("`tools[0].parameters.g.type` is `3`, which is no type that JSON has", None),
            ("`tools[0].parameters.h` is a number, not an object", None),
        ],
    ),
}


@pytest.mark.parametrize(("values", "expected"), BROKEN.values(), ids=BROKEN)
def test_what_is_refused(values: dict[str, Any], expected: list[tuple[str, str | None]]) -> None:
    assert told(values) == expected


def test_columns_that_are_missing() -> None:
    assert told({"query": "a"}, "xlam") == [("missing column `answers`; the row has `query`", None)]
    assert told({"query": None, "answers": ANSWERS, "tools": [FLAT]}) == [("`query` is null, not text", None)]
