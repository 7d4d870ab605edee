"""What scores tell of rewards: how they spread, over all and within groups, and which limits are passed."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import spread
from runner.recipe import Guard
from runner.rewards.contract import RewardScores, Score, Scores

GUARD = Guard(without_signal=0.9, cut=0.9, faults=0.2)
VALUES = st.floats(-1e6, 1e6)


def scores(*rewards: RewardScores) -> Scores:
    return Scores(rewards, 1.0)


def reward(name: str, *values: float | None, weight: float = 1.0) -> RewardScores:
    return RewardScores(name, weight, tuple(Score(value) for value in values))


def failing(name: str, *faults: str | None) -> RewardScores:
    """Scores of 1, and zeros in place of those that failed after two seconds."""
    return RewardScores(
        name, 1.0, tuple(Score(0.0, fault, 2.0) if fault else Score(1.0, None, 0.5) for fault in faults)
    )


def report(*rewards: RewardScores, groups: tuple[int, ...], cut: tuple[bool | None, ...] = ()) -> spread.Report:
    return spread.report(groups, scores(*rewards), cut or (None,) * len(groups), {})


def test_spread_over_all_and_within_groups() -> None:
    found = spread.spread([0.0, 1.0, 5.0, 5.0], [0, 0, 1, 1])
    assert found.mean == 2.75
    assert found.over_all == pytest.approx(statistics.stdev([0.0, 1.0, 5.0, 5.0]))
    assert found.within == pytest.approx(statistics.stdev([0.0, 1.0]) / 2)
    assert found.without == 0.5


def test_groups_need_not_stand_together() -> None:
    apart = spread.spread([0.0, 5.0, 1.0, 5.0], [0, 1, 0, 1])
    assert apart == spread.spread([0.0, 1.0, 5.0, 5.0], [0, 0, 1, 1])


def test_a_group_of_one_score_tells_nothing() -> None:
    assert spread.spread([1.0, 2.0], [0, 1]) == spread.Spread(1.5, pytest.approx(math.sqrt(0.5)), None, None)
    assert spread.spread([1.0, None, 2.0, 2.0], [0, 0, 1, 1]).without == 1
    assert spread.spread([3.0], [0]) == spread.Spread(3.0, None, None, None)
    assert spread.spread([None, None], [0, 0]) == spread.Spread(None, None, None, None)


def test_what_the_trainer_cannot_tell_apart_is_equal() -> None:
    assert spread.spread([0.1 + 0.2, 0.3], [0, 0]).without == 1
    assert spread.spread([1e9, 1e9 + 1], [0, 0]).without == 1
    assert spread.spread([0.0, 1e-5], [0, 0]).without == 0


@given(st.lists(VALUES, min_size=2, max_size=30))
def test_the_spread_is_the_standard_deviation_of_a_sample(values: list[float]) -> None:
    found = spread.spread(values, [0] * len(values))
    assert found.over_all == found.within
    assert found.over_all == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-6 * max(map(abs, values)) + 1e-8)
    assert (found.without == 1) <= (found.over_all == 0)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_no_score_is_too_large(values: list[float]) -> None:
    spread.spread(values, [number % 2 for number in range(len(values))])


def test_the_total_is_what_training_pays() -> None:
    found = report(reward("a", 1.0, 0.0), reward("b", 2.0, None, weight=0.5), groups=(0, 0))
    assert found.totals == (2.0, 0.0)
    assert found.total.mean == 1.0
    assert [function.name for function in found.functions] == ["a", "b"]


def test_a_failure_is_counted_and_is_no_score_of_the_function() -> None:
    (function,) = report(failing("a", None, "was late", "broke", None), groups=(0, 0, 1, 1)).functions
    assert (function.failed, function.first_fault) == (2, "was late")
    assert function.spread.mean == 1.0
    assert (function.median_seconds, function.longest_seconds) == (1.25, 2.0)
    assert function.values == (1.0, 0.0, 0.0, 1.0)


def test_the_shares_that_have_limits() -> None:
    parts = failing("a", "broke", None), reward("b", 1.0, 1.0)
    assert report(*parts, groups=(0, 0), cut=(True, False)).shares == {"faults": 0.25, "without_signal": 0, "cut": 0.5}
    assert report(*parts, groups=(0, 1)).shares == {"faults": 0.25}


def test_a_limit_is_passed_above_it_and_not_at_it() -> None:
    flat = report(reward("a", *[1.0] * 4), groups=(0, 0, 1, 1), cut=(True, True, True, False))
    (passed,) = spread.passed(flat, GUARD)
    assert passed.sentence == (
        "the share of groups whose completions all score the same is 1, "
        "which is 0.1 above the limit `grpo.guard.without_signal: 0.9`"
    )
    assert spread.passed(flat, Guard(without_signal=1.0, cut=0.75, faults=0.2)) == []
    (passed,) = spread.passed(flat, Guard(without_signal=1.0, cut=0.7, faults=0.2))
    assert passed.sentence == (
        "the share of completions that are cut is 0.75, which is 0.05 above the limit `grpo.guard.cut: 0.7`"
    )


def test_one_function_that_fails_is_enough() -> None:
    good = [reward(name, 1.0, 2.0) for name in "bcdefg"]
    found = report(failing("a", "broke", "broke"), *good, groups=(0, 0))
    assert found.shares["faults"] < GUARD.faults
    (passed,) = spread.passed(found, GUARD)
    assert passed.sentence.startswith("the share of calls of `a` that fail is 1, which is 0.8 above the limit")


def test_steps_are_joined() -> None:
    first, second = scores(reward("a", 1.0), reward("b", 2.0)), scores(reward("a", 3.0), reward("b", None))
    both = spread.joined([first, second])
    assert both == replace(both, rewards=(reward("a", 1.0, 3.0), reward("b", 2.0, None)), seconds=2.0)


@given(st.lists(VALUES, max_size=9), st.integers(1, 5))
def test_best_and_worst_are_shown_once(totals: list[float], most: int) -> None:
    best, worst = spread.extremes(totals, most)
    shown = [*best, *worst]
    assert len(set(shown)) == len(shown) == min(len(totals), 2 * most)
    ranked = sorted(totals, reverse=True)
    assert [totals[number] for number in best] == ranked[: len(best)]
    assert [totals[number] for number in worst] == ranked[::-1][: len(worst)]


def test_a_completion_without_any_score_has_no_total() -> None:
    found = report(reward("a", 1.0, None), reward("b", 2.0, None), groups=(0, 0))
    assert found.totals == (3.0, None) and found.total.mean == 3.0
    assert spread.extremes(found.totals, 2) == ([0], [])
