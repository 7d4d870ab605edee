"""Scores of answers: pure functions of two texts."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.scores import fits_schema, metrics, read_answers, rows
from runner.scores.read_answers import choice_accuracy, listed_choices, numeric_match
from runner.scores.rows import Measure
from runner.scores.texts import exact_match, json_match, json_valid
from runner.scores.words import rouge_l, token_f1

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.lists(st.sampled_from("red blue green the a 7 x,y Blue".split()), max_size=12).map(" ".join)


@pytest.mark.parametrize(
    ("got", "wanted", "score"),
    [("a", "a", 1.0), (" a\n", "a", 1.0), ("a", " a", 1.0), ("A", "a", 0.0), ("a b", "a  b", 0.0), ("", " ", 1.0)],
)
def test_exact_match(got: str, wanted: str, score: float) -> None:
    assert exact_match(got, wanted) == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"a": [1, null]}', 1.0), (" 1 ", 1.0), ("null", 1.0), ('"x"', 1.0), ("", 0.0), ("{", 0.0), ("{'a': 1}", 0.0),
        ('{"a": 1} and more', 0.0), ("NaN", 0.0), ('{"a": -Infinity}', 0.0), ("[" * 100_000, 0.0), ("9" * 5000, 0.0),
        ("[" * 300 + "]" * 300, 1.0), ("True", 0.0), ("\ufeff1", 0.0),
    ],
)  # fmt: skip
def test_json_valid(text: str, score: float) -> None:
    assert json_valid(text, "whatever") == score


@pytest.mark.parametrize(
    ("got", "wanted", "score"),
    [
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', 1.0), ("[1, 2]", "[2, 1]", 0.0), ("1", "true", 0.0), ("1", "1.0", 0.0),
        ('"é"', '"\\u00e9"', 1.0), ("x", "x", 0.0), ("{}", "x", 0.0), ("", "", 0.0),
        ('{"a": 1}', '{"a": 1, "b": 2}', 0.0),
    ],
)  # fmt: skip
def test_json_match(got: str, wanted: str, score: float) -> None:
    assert json_match(got, wanted) == score


@given(JSON, JSON)
def test_json_matches_itself_in_any_spelling_and_nothing_else(one: Any, other: Any) -> None:
    assert json_match(json.dumps(one, indent=2), f"\n{json.dumps(one, ensure_ascii=False)}") == 1.0
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert json_match(json.dumps(one), json.dumps(other)) == float(same)


@pytest.mark.parametrize(
    ("got", "wanted", "score"),
    [
        ("The cat sat.", "a cat, sat", 1.0),  # articles and punctuation do not count
        ("cat", "dog", 0.0), ("", "", 1.0), ("the", "", 1.0), ("the", "cat", 0.0), ("", "cat", 0.0),
        ("red red blue", "red green", 0.4),  # one word in common of 3 and 2
        ("state-of-the-art", "stateoftheart", 1.0),
    ],
)  # fmt: skip
def test_token_f1(got: str, wanted: str, score: float) -> None:
    assert token_f1(got, wanted) == pytest.approx(score)


@given(WORDS, WORDS)
def test_token_f1_is_what_the_script_of_squad_gives(got: str, wanted: str) -> None:
    def tokens(text: str) -> list[str]:
        kept = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    one, other = tokens(got), tokens(wanted)
    common = sum((Counter(one) & Counter(other)).values())
    expected = float(one == other) if not one or not other else 0.0
    if common:
        precision, recall = common / len(one), common / len(other)
        expected = 2 * precision * recall / (precision + recall)
    assert token_f1(got, wanted) == pytest.approx(expected)


def longest(one: list[str], other: list[str]) -> int:
    """The textbook's table."""
    before = [0] * (len(other) + 1)
    for word in one:
        now = [0]
        for number, against in enumerate(other):
            now.append(before[number] + 1 if word == against else max(before[number + 1], now[number]))
        before = now
    return before[-1]


@given(WORDS, WORDS)
def test_rouge_l_is_the_harmonic_mean_over_the_longest_common_subsequence(got: str, wanted: str) -> None:
    one, other = (re.sub("[^a-z0-9]+", " ", text.lower()).split() for text in (got, wanted))
    common = longest(one, other)
    expected = 2 * common / (len(one) + len(other)) if common else 0.0
    assert rouge_l(got, wanted) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("got", "wanted", "score"),
    [
        # Lin 2004, section 3.1: both have four words, and 3 and 2 of them in a common order
        ("police kill the gunman", "police killed the gunman", 0.75),
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("", "", 0.0), ("?", "!", 0.0), ("Don't", "don t", 1.0),
    ],
)  # fmt: skip
def test_rouge_l(got: str, wanted: str, score: float) -> None:
    assert rouge_l(got, wanted) == pytest.approx(score)


def test_long_answers_are_compared_at_once() -> None:
    one, other = " ".join(f"w{n % 97}" for n in range(20_000)), " ".join(f"w{n % 89}" for n in range(20_000))
    assert 0 < rouge_l(one, other) < 1


@pytest.mark.parametrize(
    ("got", "wanted", "score"),
    [
        ("so it is 1,234.", "1234", 1.0), ("\\boxed{\\frac{3}{4}}", "0.75", 1.0), ("about 7", "#### 72", 0.0),
        ("50%", "0.5", 1.0), ("none", "3", 0.0), ("3", "none", None), ("3", "", None), ("", "-3", 0.0),
    ],
)  # fmt: skip
def test_numeric_match(got: str, wanted: str, score: float | None) -> None:
    assert numeric_match(got, wanted) == score


LISTED = "Pick one.\nA) a red house\nB) a blue car\nC) Paris"


@pytest.mark.parametrize(
    ("got", "wanted", "prompt", "score"),
    [
        ("B", "B", "", 1.0), ("(b)", "The answer is B", "", 1.0), ("A", "B", "", 0.0), ("A or B", "B", "", 0.0),
        ("a blue car", "B", LISTED, 1.0), ("B", "a blue car", LISTED, 1.0), ("Paris", "(C)", LISTED, 1.0),
        ("Paris", "C", LISTED + "<|im_end|>\n<|im_start|>assistant\n", 1.0), ("Paris", "C", LISTED + " [/INST]", 1.0),
        ("a red house", "B", LISTED, 0.0), ("D", "A", LISTED, 0.0), ("A", "no choice at all", LISTED, None),
        ("B) a blue car", "B", LISTED, 1.0), ("B) a red house", "B", LISTED, 0.0), ("", "A", "", 0.0),
    ],
)  # fmt: skip
def test_choice_accuracy(got: str, wanted: str, prompt: str, score: float | None) -> None:
    assert choice_accuracy(got, wanted, prompt) == score


def test_the_choices_are_those_that_a_prompt_lists_last() -> None:
    earlier = "A. one\nB. two\n\nAnswer: A\n\n"
    assert listed_choices(earlier + "**A:** three\n(B) four\nC.  five \n") == {"A": "three", "B": "four", "C": "five"}
    assert listed_choices("A. Smith went home\nto rest") == {}
    assert listed_choices("A. one\nC. three") == {}


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "who": {"$ref": "#/$defs/name"}},
    "required": ["n"],
    "additionalProperties": False,
    "$defs": {"name": {"type": "string", "minLength": 1}},
}


@pytest.mark.parametrize(
    ("got", "score"),
    [
        ('{"n": 1}', 1.0), (' {"n": 1, "who": "x"}\n', 1.0), ('{"n": 1.5}', 0.0), ('{"who": "x"}', 0.0), ("[]", 0.0),
        ('{"n": 1, "who": ""}', 0.0), ('{"n": 1, "more": 1}', 0.0), ('{"n": 1} ok', 0.0), ("", 0.0), ("{", 0.0),
        ('```json\n{"n": 1}\n```', 0.0), ("[" * 100_000, 0.0),
    ],
)  # fmt: skip
def test_an_answer_fits_its_schema(got: str, score: float) -> None:
    assert fits_schema.fits(got, SCHEMA) == score


@given(JSON)
def test_a_value_fits_where_the_library_says_so(value: Any) -> None:
    one_of = {"anyOf": [SCHEMA, {"type": ["array", "string"], "maxItems": 1}, {"type": "number", "minimum": 0}]}
    schema = {"$defs": SCHEMA["$defs"], **one_of}
    valid = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert fits_schema.fits(json.dumps(value), schema) == float(valid)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([], "a schema is an object that is not empty"), ({}, "a schema is an object that is not empty"),
        ({"oneOf": []}, "the keyword `oneOf` of the schema is not known here"),
        ({"$ref": "#/$defs/none"}, "the reference `#/$defs/none` of the schema leads nowhere"),
    ],
)  # fmt: skip
def test_a_schema_that_would_not_be_checked_is_refused(schema: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        fits_schema.check(schema)


@given(st.text(), st.text(), st.text())
def test_any_texts_have_a_score(got: str, wanted: str, prompt: str) -> None:
    measure = Measure((*metrics.OF_TEXTS, metrics.CHOICE, metrics.SCHEMA), SCHEMA)
    found = rows.score(measure, {"prompt": prompt, "answer": wanted}, got, got)
    assert list(found.values) == list(measure.metrics) and found.read is None
    assert all(value is None or 0 <= value <= 1 for value in found.values.values())
    undecided = {name for name, value in found.values.items() if value is None}
    assert undecided <= {"numeric_match", metrics.CHOICE}


def test_what_is_right_scores_the_most() -> None:
    for name, score in metrics.OF_TEXTS.items():
        assert score("12", "12") == 1.0, name
    assert read_answers.choice_accuracy("C", "C", "") == 1.0
