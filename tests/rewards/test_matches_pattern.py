"""The pay for a text of a certain form."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from loading import reward

score = reward("matches_pattern")


def test_the_whole_completion_must_match_unless_a_part_is_enough() -> None:
    assert score("", " 2024-01-31\n", {}, pattern=r"\d{4}-\d\d-\d\d") == 1
    assert score("", "on 2024-01-31", {}, pattern=r"\d{4}-\d\d-\d\d") == 0
    assert score("", "on 2024-01-31", {}, pattern=r"\d{4}-\d\d-\d\d", full=False) == 1


def test_case_and_newlines() -> None:
    assert score("", "YES", {}, pattern="yes") == 0
    assert score("", "YES", {}, pattern="yes", ignore_case=True) == 1
    assert score("", "a\nb", {}, pattern="a.b") == 1
    assert score("", "a\nb", {}, pattern="a.b", dot_matches_newline=False) == 0


def test_a_row_can_bring_its_pattern() -> None:
    assert score("", "abba", {"form": "(ab|ba)+"}, column="form") == 1


def test_nothing_does_not_pay_even_where_the_pattern_lets_it() -> None:
    assert score("", "", {}, pattern=".*") == 0
    assert score("", "x", {}, pattern=".*") == 1


@given(st.text(min_size=1).filter(str.strip))
def test_a_text_matches_itself(text: str) -> None:
    assert score("", text, {}, pattern=re.escape(text.strip())) == 1
