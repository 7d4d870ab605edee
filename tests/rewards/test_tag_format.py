"""The pay for a layout in tags."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loading import reward


def score(completion: str, **options: Any) -> float:
    return reward("tag_format")("", completion, {}, **options)


RIGHT = "<think>because</think>\n<answer>4</answer>"


@pytest.mark.parametrize(
    ("completion", "steps"),
    [
        (RIGHT, 5),
        ("Well: " + RIGHT, 4),
        (RIGHT + " so there", 4),
        (RIGHT.replace("\n", " and "), 4),
        ("<think>because</think><answer>4", 3),
        ("<think>because", 1),
        ("<answer>4</answer>", 2),
        ("<think></think><answer></answer>", 2),
        ("<answer>4</answer><think>because</think>", 2),
        ("<think>a<answer>b</think>4</answer>", 3),
        ("<think><answer>", 2),
        ("<think>" * 9, 0),
        (RIGHT + "<answer>5</answer>", 2),
        (RIGHT * 2, 0),
        ("four", 0),
    ],
)
def test_each_tag_once_and_in_order_is_a_step(completion: str, steps: int) -> None:
    assert score(completion) == steps / 5


def test_what_the_prompt_opened_pays_nothing_and_is_not_asked_for_again() -> None:
    assert score("because</think><answer>4</answer>", prefill="<think>") == 1
    assert score("", prefill="<think>") == 0
    assert score(RIGHT, prefill="<think>") < 1


def test_text_outside_is_free_where_asked() -> None:
    assert score("Well: " + RIGHT, only=False) == 1


def test_a_section_can_be_asked_to_be_long() -> None:
    assert score(RIGHT, least_characters=2) < score(RIGHT) == 1


@given(
    st.text(st.characters(exclude_characters="<"), min_size=1).filter(str.strip),
    st.text(st.characters(exclude_characters="<")),
)
def test_cutting_a_right_answer_short_never_pays_more(inside: str, behind: str) -> None:
    whole = f"<think>{inside}</think><answer>{inside}</answer>"
    assert score(whole) == 1
    scores = [score(whole[:end]) for end in range(len(whole) + 1)]
    assert scores == sorted(scores)
    assert score(whole + behind) == (0.8 if behind.strip() else 1)
