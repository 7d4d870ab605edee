"""The pay for the one right number."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loading import reward


def score(completion: str, answer: Any, **options: Any) -> float:
    return reward("numeric_answer")("", completion, {"answer": answer}, **options)


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("72", 72),
        ("It costs 1,234.5.", 1234.5),
        ("so 72", "#### 72"),
        (r"\boxed{\frac{3}{4}}", "0.75"),
        (r"\boxed{5} which is 10 less than 15", 5),
        (r"\boxed{4} no, \boxed{5}", 5),
        (r"$-\frac{1}{2}$", -0.5),
        (r"3\frac{1}{2}", 3.5),
        ("3/4", 0.75),
        ("1 1/2 cups", 1.5),
        ("50%", 0.5),
        (r"50\%", "50%"),
        ("x = -5", -5),
        ("−5", -5),
        ("-$5", -5),
        ("between 3-5", 5),
        ("1{,}234", 1234),
        (r"1\,234", 1234),
        ("1_234", 1234),
        ("1\u202f234", 1234),
        (r"1.5 \times 10^{3}", 1500),
        ("1.5e3", 1500),
        ("2x10^3", 2000),
        ("42km", 42),
        (".5", 0.5),
        ("7 molecules of H2O", 7),
        ("0.3333333", "1/3"),
        ("1.2e-07", 1.2e-7),
    ],
)
def test_numbers_are_read_as_people_write_them(completion: str, answer: Any) -> None:
    assert score(completion, answer) == 1


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("", 0),
        ("none", 0),
        ("1 2 3 4 5 6", 3),
        ("1, 2, 3", 1),
        (r"\boxed{1} \boxed{2}", 1),
        (r"\boxed{}", 0),
        ("1/0", 0),
        ("9" * 5000, 9),
        ("1e999", 1),
        ("5", -5),
        ("0.33", "1/3"),
        ("50", 0.5),
    ],
)
def test_a_wrong_or_missing_number_does_not_pay(completion: str, answer: Any) -> None:
    assert score(completion, answer) == 0


def test_where_the_number_is_read() -> None:
    assert score("<answer>5</answer> of 9", 5, tag="answer") == 1
    assert score("<answer>4</answer><answer>5</answer>", 5, tag="answer") == 0
    assert score("5</answer>", 5, tag="answer", prefill="<answer>") == 1
    assert score("total: 5, rest: 9", 5, pattern=r"total: (\S+)") == 1
    assert score("5", 5, pattern=r"total: (\S+)") == 0


def test_tolerances_percentages_and_commas() -> None:
    assert score("101", 100, absolute_tolerance=1) == 1
    assert score("102", 100, absolute_tolerance=1) == 0
    assert score("102", 100, relative_tolerance=0.02) == 1
    assert score("50%", 50, percent_is_hundredth=False) == 1
    assert score("1.234,5", 1234.5, decimal_comma=True) == 1


@pytest.mark.parametrize("answer", [None, True, "none", "", "[1, 2]", [1], float("nan"), float("inf"), "1/0"])
def test_a_row_without_a_number_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="must hold a number"):
        score("1", answer)


@given(st.one_of(st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False)))
def test_the_right_number_pays_as_a_number_and_as_a_text(number: float) -> None:
    assert score(f"So it is {number}.", number) == score(f"\\boxed{{{number}}}", str(number)) == 1


@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_are_no_difference(number: int) -> None:
    assert score(f"{number:,}", number) == score(f"{number:_}", number) == 1


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 10))
def test_nearer_never_pays_less(one: float, other: float, tolerance: float) -> None:
    near, far = sorted([one, other], key=abs)
    assert score(repr(near), 0, absolute_tolerance=tolerance) >= score(repr(far), 0, absolute_tolerance=tolerance)
