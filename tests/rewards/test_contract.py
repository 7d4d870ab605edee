"""What all reward files keep: they stand alone, take any text, stay in their range, and refuse bad rows and options."""

from __future__ import annotations

import ast
import inspect
import math
import re
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loading import NAMES, REWARDS, reward

CALL = {"name": "weather", "arguments": {"city": "Bern", "days": 3}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
# A row and options with which each function works.
WORKING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "exact_answer": ({"answer": "Bern"}, {}),
    "json_fields": ({"answer": {"a": 1, "b": ["x", None]}}, {}),
    "json_schema": ({}, {"schema": SCHEMA}),
    "length_between": ({}, {"minimum": 3, "maximum": 9, "edge": 4}),
    "matches_pattern": ({}, {"pattern": r"\w+"}),
    "multiple_choice": ({"answer": "B", "choices": ["red", "blue"]}, {"choices_column": "choices"}),
    "numeric_answer": ({"answer": 42}, {}),
    "repetition_penalty": ({}, {}),
    "tag_format": ({}, {}),
    "tool_call_match": ({"answer": [CALL]}, {}),
    "valid_json": ({}, {}),
}
# It starts a process for every score; its own tests are beside.
QUICK = [name for name in NAMES if name != "passes_tests"]

PIECES = [
    "<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "</tool_call>", "```", "```json\n", "\n",
    " ", "{", "}",
    "[", "]", "(", ")", '"', "'", "\\", "\\boxed{", "\\frac{1}{2}", ",", ":", "=", "-", ".", "%", "/", "42",
    "1e999", "9" * 30,
    "NaN", "null", "true", '{"a": 1}', '{"name": "weather", "arguments": {}}', "[f(a=1)]", "The answer is ",
    "A", "B", " or ",
    "red", "\x00", "\ud800", "\u2028", "½", "٣", "²", "𝟜",
]  # fmt: skip
UGLY = st.one_of(
    st.text(st.characters(), max_size=80),
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
)


def test_every_file_is_tested_here() -> None:
    assert set(QUICK) == set(WORKING) and len(NAMES) == 12


@pytest.mark.parametrize("name", NAMES)
def test_a_file_stands_alone_and_has_the_one_signature(name: str) -> None:
    tree = ast.parse((REWARDS / f"{name}.py").read_text())
    imported = {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {one.split(".")[0] for one in imported} <= sys.stdlib_module_names

    function = reward(name)
    parameters = list(inspect.signature(function).parameters.values())
    assert [one.name for one in parameters[:3]] == ["prompt", "completion", "example"]
    assert all(one.kind is one.KEYWORD_ONLY and one.default is not one.empty for one in parameters[3:])
    assert all(one.annotation is not one.empty for one in parameters)
    assert inspect.signature(function).return_annotation is float
    for one in parameters[3:]:
        assert f"`{one.name}`" in (function.__doc__ or ""), f"option `{one.name}` is not told"
    assert "What can be gamed" in (function.__doc__ or "")


def test_what_stands_in_several_files_is_the_same_in_all() -> None:
    seen: dict[str, str] = {}
    shared = {"find_json", "read_json", "between", "is_number", "last_number"}
    copies = 0
    for name in NAMES:
        text = (REWARDS / f"{name}.py").read_text()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name in shared:
                source = ast.get_source_segment(text, node) or ""
                copies += node.name in seen
                assert seen.setdefault(node.name, source) == source, f"`{node.name}` in `{name}.py`"
    assert copies >= 4


@pytest.mark.parametrize("name", QUICK)
@settings(max_examples=150, deadline=None)
@given(completion=UGLY)
def test_any_text_gets_a_score_in_range(name: str, completion: str) -> None:
    row, options = WORKING[name]
    score = reward(name)("a prompt", completion, row, **options)
    assert isinstance(score, float) and math.isfinite(score)
    assert (-1 <= score <= 0) if name == "repetition_penalty" else (0 <= score <= 1)


@pytest.mark.parametrize("blank", ["", " ", "\n\t "])
@pytest.mark.parametrize("name", QUICK)
def test_a_blank_completion_never_pays(name: str, blank: str) -> None:
    row, options = WORKING[name]
    assert reward(name)("", blank, row, **options) == 0


LONG = [
    piece * (30_000 // len(piece))
    for piece in [
        "[", "{", '{"a":', "(", "<think>", "<tool_call>", "```", "```\n", "``` ", " ", "\n", "9", "1,", "1 ",
        ".1", "-", "A ",
        "answer ", "answer: ", "answer is ", "\\boxed{", "\\frac{", "f(", "[f(", "f(a=", "a", "((a", '"',
        "'", "\\", "[a ",
    ]
]  # fmt: skip
LONG += [
    "[a" + " " * 30_000,
    "answer" + " " * 30_000 + "x",
    "```" + " " * 30_000,
    "1" + " " * 30_000 + "/",
    "[f(a=" + "[" * 3000,
]
LONG += [
    "[" * 30_000 + "]" * 30_000,
    '{"a":' * 900 + "1" + "}" * 900,
    "<tool_call>" + "[" * 900 + "]" * 900 + "</tool_call>",
]


@pytest.mark.parametrize("name", QUICK)
def test_long_and_deep_texts_neither_raise_nor_take_long(name: str) -> None:
    row, options = WORKING[name]
    for text in LONG:
        started = time.perf_counter()
        assert math.isfinite(reward(name)("", text, row, **options))
        assert time.perf_counter() - started < 5, text[:20]


NEEDS_ROW = ["exact_answer", "json_fields", "multiple_choice", "numeric_answer", "tool_call_match"]


@pytest.mark.parametrize("name", NEEDS_ROW)
def test_a_row_without_the_column_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="the row has no column `answer`"):
        reward(name)("", "x", {"other": 1})


@pytest.mark.parametrize("name", [*NEEDS_ROW, "json_schema", "matches_pattern"])
@pytest.mark.parametrize("value", [3.5j, object, b"x", ()])
def test_a_row_with_an_odd_value_is_a_value_error(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        reward(name)("", "x", {"answer": value}, **({} if name in NEEDS_ROW else {"column": "answer"}))


BAD = [
    ("tag_format", {"tags": "think"}),
    ("tag_format", {"tags": []}),
    ("tag_format", {"tags": ["a", "a"]}),
    ("tag_format", {"tags": ["<a>"]}),
    ("tag_format", {"tags": ["a"], "prefill": "<a></a>"}),
    ("tag_format", {"least_characters": 0}),
    ("tag_format", {"prefill": 3}),
    ("matches_pattern", {"pattern": ""}),
    ("matches_pattern", {"pattern": "("}),
    ("matches_pattern", {"pattern": "a{99999999999999}"}),
    ("matches_pattern", {"column": "other"}),
    ("exact_answer", {"tag": "a", "whole": True}),
    ("exact_answer", {"pattern": "("}),
    ("numeric_answer", {"relative_tolerance": 1}),
    ("numeric_answer", {"absolute_tolerance": -1}),
    ("numeric_answer", {"absolute_tolerance": math.nan}),
    ("numeric_answer", {"absolute_tolerance": "1"}),
    ("numeric_answer", {"tag": "a", "pattern": "b"}),
    ("multiple_choice", {"letters": "AAB"}),
    ("multiple_choice", {"letters": "ab"}),
    ("multiple_choice", {"answer_is": "number"}),
    ("multiple_choice", {"first_index": 2}),
    ("multiple_choice", {"choices_column": "other"}),
    ("valid_json", {"kind": "text"}),
    ("valid_json", {"around": 2}),
    ("json_fields", {"around": True}),
    ("json_schema", {}),
    ("json_schema", {"schema": {}}),
    ("json_schema", {"schema": SCHEMA, "around": -1}),
    ("json_schema", {"schema": SCHEMA, "column": "a"}),
    ("length_between", {"minimum": 5, "maximum": 4}),
    ("length_between", {"unit": "tokens"}),
    ("length_between", {"edge": -1}),
    ("length_between", {"minimum": 1.5}),
    ("repetition_penalty", {"size": 0}),
    ("repetition_penalty", {"free_share": 1}),
    ("repetition_penalty", {"most": 0}),
    ("repetition_penalty", {"unit": "tokens"}),
    ("tool_call_match", {"ordered": "yes"}),
]


@pytest.mark.parametrize(("name", "options"), BAD)
def test_a_bad_option_is_a_value_error(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        reward(name)("", "x", WORKING[name][0], **options)


def test_the_readme_tells_of_every_file() -> None:
    told = re.findall(r"^\| `(\w+)` \|", (REWARDS / "README.md").read_text(), re.MULTILINE)
    assert sorted(told) == NAMES
