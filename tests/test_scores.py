"""Scores of answers: pure functions of two texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import scores
from runner.reading import keys

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("got", "wanted", "score"),
    [("a", "a", 1.0), (" a\n", "a", 1.0), ("a", " a", 1.0), ("A", "a", 0.0), ("a b", "a  b", 0.0), ("", " ", 1.0)],
)
def test_exact_match(got: str, wanted: str, score: float) -> None:
    assert scores.exact_match(got, wanted) == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"a": [1, null]}', 1.0), (" 1 ", 1.0), ("null", 1.0), ('"x"', 1.0), ("", 0.0), ("{", 0.0), ("{'a': 1}", 0.0),
        ('{"a": 1} and more', 0.0), ("NaN", 0.0), ('{"a": -Infinity}', 0.0), ("[" * 100_000, 0.0), ("9" * 5000, 0.0),
        ("[" * 300 + "]" * 300, 1.0), ("True", 0.0), ("\ufeff1", 0.0),
    ],
)  # fmt: skip
def test_json_valid(text: str, score: float) -> None:
    assert scores.json_valid(text, "whatever") == score


@pytest.mark.parametrize(
    ("got", "wanted", "score"),
    [
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', 1.0), ("[1, 2]", "[2, 1]", 0.0), ("1", "true", 0.0), ("1", "1.0", 0.0),
        ('"é"', '"\\u00e9"', 1.0), ("x", "x", 0.0), ("{}", "x", 0.0), ("", "", 0.0),
        ('{"a": 1}', '{"a": 1, "b": 2}', 0.0),
    ],
)  # fmt: skip
def test_json_match(got: str, wanted: str, score: float) -> None:
    assert scores.json_match(got, wanted) == score


@given(JSON, JSON)
def test_json_matches_itself_in_any_spelling_and_nothing_else(one: Any, other: Any) -> None:
    assert scores.json_match(json.dumps(one, indent=2), f"\n{json.dumps(one, ensure_ascii=False)}") == 1.0
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert scores.json_match(json.dumps(one), json.dumps(other)) == float(same)


@given(st.text(), st.text())
def test_any_two_texts_have_a_score(got: str, wanted: str) -> None:
    assert {score(got, wanted) for score in scores.SCORES.values()} <= {0.0, 1.0}


def test_every_metric_of_a_recipe_is_computed() -> None:
    assert {*scores.SCORES, *scores.BY_LOSS, "reward"} == set(keys.METRICS)
