"""The pay for the one right answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loading import reward


def score(completion: str, answer: Any = "Bern", **options: Any) -> float:
    return reward("exact_answer")("", completion, {"answer": answer}, **options)


@pytest.mark.parametrize(
    ("completion", "options", "wanted"),
    [
        ("Bern", {}, 1),
        ("It is a city.\n\n  bern ", {}, 1),
        ("Bern\nor Basel", {}, 0),
        ("Bern or Basel", {}, 0),
        ("Bern.", {}, 0),
        ("Bern.", {"ignore_punctuation": True}, 1),
        ("bern", {"ignore_case": False}, 0),
        ("<answer> Bern </answer> I think", {"tag": "answer"}, 1),
        ("<answer>Bern</answer><answer>Basel</answer>", {"tag": "answer"}, 0),
        ("<answer>Basel</answer><answer>Bern</answer>", {"tag": "answer"}, 0),
        ("<answer>Bern Basel Genf</answer>", {"tag": "answer"}, 0),
        ("</answer>Bern<answer>", {"tag": "answer"}, 0),
        ("Bern", {"tag": "answer"}, 0),
        ("Bern</answer>", {"tag": "answer", "prefill": "<answer>"}, 1),
        ("Answer: Basel. Answer: Bern.", {"pattern": r"Answer: (\w+)"}, 1),
        ("Answer: Bern. Answer: Basel.", {"pattern": r"Answer: (\w+)"}, 0),
        ("Bern", {"pattern": r"Answer: (\w+)"}, 0),
        ("x", {"pattern": "(y)?x"}, 0),
        ("It is\nBern", {"whole": True}, 0),
    ],
)
def test_one_answer_is_read(completion: str, options: dict[str, Any], wanted: int) -> None:
    assert score(completion, **options) == wanted


@pytest.mark.parametrize(
    ("answer", "completion", "wanted"),
    [
        (42, "42", 1),
        ("42", "42", 1),
        (42.0, "42", 1),
        (42.5, "42.5", 1),
        (True, "true", 1),
        (["Bern", "Berne"], "Berne", 1),
        ('["Bern", "Berne"]', "Berne", 1),
        ('["Bern"]', '["Bern"]', 1),
        ("[broken", "[broken", 1),
        ("Zürich", "Zu\u0308rich", 1),
        ("a b", "a   b", 1),
    ],
)
def test_answers_come_as_texts_numbers_and_lists(answer: Any, completion: str, wanted: int) -> None:
    assert score(completion, answer) == wanted


def test_punctuation_that_makes_another_number_is_kept() -> None:
    assert score("-5", "5", ignore_punctuation=True) == 0
    assert score("3.5", "35", ignore_punctuation=True) == 0
    assert score("well known!", "well-known", ignore_punctuation=True) == 1


@pytest.mark.parametrize("answer", [None, [], [None], {}, "", "  ", ["Bern", ""], "two\nlines"])
def test_a_row_whose_answer_cannot_be_given_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="the column `answer`"):
        score("x", answer)


@given(st.text().filter(str.strip))
def test_the_right_answer_pays(answer: str) -> None:
    assert score(answer, answer, whole=True) == 1
    if not set(answer) & set("\r\n"):
        assert score("Let me think.\n" + answer, answer) == 1
    assert score(f"<a>{answer}</a>", json.dumps([answer]), tag="a") == (1 if "<a>" not in answer else 0)
