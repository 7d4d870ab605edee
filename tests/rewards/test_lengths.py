"""The pay for a length within bounds, and the penalty for a text that repeats itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loading import reward

length = reward("length_between")
repetition = reward("repetition_penalty")


@pytest.mark.parametrize(
    ("words", "wanted"), [(0, 0), (1, 0), (2, 0.25), (4, 0.75), (5, 1), (8, 1), (9, 0.75), (11, 0.25), (12, 0), (99, 0)]
)
def test_outside_of_the_bounds_the_pay_falls_in_a_line(words: int, wanted: float) -> None:
    assert length("", "word " * words, {}, minimum=5, maximum=8, edge=4) == wanted


def test_a_hard_bound() -> None:
    assert length("", "one two", {}, minimum=2) == 1
    assert length("", "one", {}, minimum=2) == 0
    assert length("", "one", {}, minimum=0) == 1
    assert length("", "", {}, minimum=0) == 0


def test_signs_are_no_words_and_padding_is_no_length() -> None:
    assert length("", "- - - -", {}, minimum=4) == 0
    assert length("", "a" + " " * 50 + "b", {}, minimum=4, unit="characters") == 0
    assert length("", "東京都庁", {}, minimum=4, unit="characters") == 1


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 20))
def test_nearer_to_the_bounds_never_pays_less(one: int, other: int, edge: int) -> None:
    scores = [length("", "x " * words, {}, minimum=20, maximum=30, edge=edge) for words in range(61)]
    assert scores[:25] == sorted(scores[:25]) and scores[25:] == sorted(scores[25:], reverse=True)


@pytest.mark.parametrize(
    ("completion", "wanted"),
    [
        ("", 0),
        ("one two three", 0),
        ("one two three four five six", 0),
        ("no no no no no no", -1),
        ("No no NO no no no", -1),
        ("a b c a b c", -1 / 3),
        ("a" * 400, -1),
        ("!!! " * 20, -1),
    ],
)
def test_repeated_groups_cost(completion: str, wanted: float) -> None:
    assert repetition("", completion, {}) == pytest.approx(wanted)


def test_how_much_repeats_cost_can_be_set() -> None:
    assert repetition("", "a b c a b c", {}, free_share=0.4) == 0
    assert repetition("", "no no no no no no", {}, most=0.5) == -0.5
    assert repetition("", "哈哈哈哈哈哈", {}, unit="characters") == -1
    assert repetition("", "a b a b", {}, size=1) == pytest.approx(-2 / 3)


@given(st.lists(st.sampled_from("abcde"), min_size=2, max_size=30))
def test_saying_it_again_never_costs_less(words: list[str]) -> None:
    text = " ".join(words)
    assert -1 <= repetition("", f"{text} {words[0]}", {}, size=1) <= repetition("", text, {}, size=1) <= 0
    assert repetition("", " ".join(map(str, range(len(words)))), {}) == 0
