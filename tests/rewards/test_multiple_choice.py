"""The pay for the right one of several choices."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loading import reward

CHOICES = ["red car", "blue boat", "green hat", "old dog"]


def score(completion: str, answer: Any = "B", choices: Any = CHOICES, **options: Any) -> float:
    row = {"answer": answer, "choices": choices}
    return reward("multiple_choice")("", completion, row, choices_column="choices", **options)


@pytest.mark.parametrize(
    "completion",
    [
        "B", "(B)", "B.", "b", "**B**", "B)", "[B]", "B) blue boat", "B: blue boat", "B - blue boat",
        "B blue boat", "blue boat",
        "Blue boat.", "The answer is blue boat.", "The answer is B", "The answer is (B).", "answer: b", "**Answer:** B",
        "Option B", "The correct option is B, because C is wrong.", "The answer is **B. blue boat**", r"\boxed{B}",
        r"$\boxed{\text{B}}$", "First I took A.\nB: blue boat", "The answer is A? No.\nThe answer is B.",
        "The answer is B. A whale is a mammal.", "The final answer is: B",
    ],
)  # fmt: skip
def test_a_choice_is_read_as_people_write_it(completion: str) -> None:
    assert score(completion) == 1


@pytest.mark.parametrize(
    "completion",
    [
        "", "A", "A or B", "B or C", "B, C", "B/C", "A, B, C, D", "ABCD", "A B C D", "(A) (B) (C) (D)",
        "The answer is A or B",
        "The answer is B or C", "The answer is B and C", "The answer is (B) or (C)", "The answer is B/C",
        r"\boxed{A, B}",
        r"\boxed{B, C}", "The answer is not B", "A dog", "A boat", "red car", "B) red car", "B red car",
        "blue boat, red car",
        "The answer is B.\nThe answer is C.", "B\nC", "E",
    ],
)  # fmt: skip
def test_another_choice_several_or_none_do_not_pay(completion: str) -> None:
    assert score(completion) == 0


@pytest.mark.parametrize("answer", ["B", "b", "(B)", 1, "1", "blue boat", "Blue boat"])
def test_the_right_choice_comes_as_letter_index_or_text(answer: Any) -> None:
    assert score("B", answer) == 1
    assert score("C", answer) == 0


@pytest.mark.parametrize(
    "choices",
    [
        json.dumps(CHOICES),
        {"A": "red car", "B": "blue boat"},
        {"label": ["A", "B"], "text": ["red car", "blue boat"]},
        json.dumps({"label": ["1", "2"], "text": ["red car", "blue boat"]}),
        {"text": ["red car", "blue boat"]},
    ],
)
def test_choices_come_in_several_forms(choices: Any) -> None:
    assert score("blue boat", "B", choices) == score("B", "B", choices) == 1


def test_an_index_may_count_from_one() -> None:
    assert score("B", 2, first_index=1) == 1


def test_numbers_as_choices_are_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="more than one"):
        score("B", "2", ["1", "2", "3", "4"])
    assert score("B", "2", ["1", "2", "3", "4"], answer_is="text") == 1
    assert score("C", "2", ["1", "2", "3", "4"], answer_is="index") == 1
    assert score("C", 2, [1, 2, 3, 4]) == 1


def test_letters_do_without_a_column_of_choices() -> None:
    function = reward("multiple_choice")
    assert function("", "E) some text", {"answer": "E"}, letters="ABCDE") == 1
    assert function("", "<answer>C</answer> not D", {"answer": "C"}, tag="answer") == 1
    assert function("", "<answer>C</answer><answer>D</answer>", {"answer": "C"}, tag="answer") == 0


@pytest.mark.parametrize("answer", ["E", 4, -1, "yellow", None, [1], ""])
def test_a_right_answer_that_is_no_choice_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="answer"):
        score("B", answer)


@pytest.mark.parametrize(
    "choices", [None, [], ["one"], "text", "{", {"A": "x", "a": "y"}, {"AB": "x", "B": "y"}, ["a", None]]
)
def test_choices_that_cannot_be_read_are_refused(choices: Any) -> None:
    with pytest.raises(ValueError, match="choice|JSON"):
        score("B", "B", choices)


@given(st.text())
def test_a_text_makes_one_choice_at_most(completion: str) -> None:
    assert sum(score(completion, letter) for letter in "ABCD") <= 1
    assert score(completion + "\nThe answer is (C).", "C") == 1
