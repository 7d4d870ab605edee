"""Scores of completions in, what they tell about the rewards out: how far they spread, and what failed. Pure.

Completions of one prompt are scored against each other, so that what counts is the spread within a group.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runner.recipe import Guard
from runner.rewards.contract import RewardScores, Score, Scores

EQUAL = 1e-7  # relative: the trainer counts in float32, which tells no closer scores apart
ZERO = 1e-8  # the difference of two scores that the trainer takes for none


@dataclass(frozen=True)
class Spread:
    """How one function, or the total, scored. What is None cannot be told from so few scores."""

    mean: float | None
    over_all: float | None  # standard deviation of all scores
    within: float | None  # the same within a group, as the mean over the groups
    without: float | None  # the share of the groups whose scores are all equal


@dataclass(frozen=True)
class Function:
    """What one reward function did. `failed` are scores; seconds are those of a call."""

    name: str
    weight: float
    spread: Spread
    failed: int
    first_fault: str | None
    median_seconds: float
    longest_seconds: float
    printed: tuple[str, ...]  # first lines
    values: tuple[float | None, ...]  # what each completion is paid for, before the weight


@dataclass(frozen=True)
class Report:
    """What a check found. `totals` has one item a completion, None without any score; `cut` is None if nobody knows."""

    completions: int
    prompts: int
    functions: tuple[Function, ...]
    total: Spread
    totals: tuple[float | None, ...]
    cut: float | None

    @property
    def shares(self) -> dict[str, float]:
        """The shares that `grpo.guard` has limits for, as far as they are known."""
        failed = sum(function.failed for function in self.functions)
        found = {"faults": failed / max(self.completions * len(self.functions), 1)}
        if self.total.without is not None:
            found["without_signal"] = self.total.without
        if self.cut is not None:
            found["cut"] = self.cut
        return found


@dataclass(frozen=True)
class Passed:
    """A limit of `grpo.guard` that was passed; `reward` where one function alone did it."""

    key: str
    share: float
    limit: float
    reward: str | None = None

    @property
    def sentence(self) -> str:
        what = {
            "without_signal": "the share of groups whose completions all score the same",
            "cut": "the share of completions that are cut",
            "faults": f"the share of calls of `{self.reward}` that fail",
        }[self.key]
        above = f"{self.share - self.limit:.2g} above the limit `grpo.guard.{self.key}: {self.limit:g}`"
        return f"{what} is {self.share:.3g}, which is {above}"


def report(
    groups: Sequence[int], scores: Scores, cut: Sequence[bool | None], printed: Mapping[str, Iterable[str]]
) -> Report:
    """What the scores of completions tell. `groups`, `cut` and each function's scores have one item a completion.

    `printed` are the first lines that a function printed, by its name.
    """
    functions = tuple(_function(reward, groups, tuple(printed.get(reward.name, ()))) for reward in scores.rewards)
    totals = tuple(scores.total(number) for number in range(len(groups)))
    known = [each for each in cut if each is not None]
    return Report(
        completions=len(groups),
        prompts=len(set(groups)),
        functions=functions,
        total=spread(totals, groups),
        totals=totals,
        cut=sum(known) / len(known) if known else None,
    )


def joined(parts: Sequence[Scores]) -> Scores:
    """The scores of several steps as those of one. There is at least one."""
    rewards = tuple(
        RewardScores(each[0].name, each[0].weight, tuple(score for part in each for score in part.scores))
        for each in zip(*(part.rewards for part in parts), strict=True)
    )
    return Scores(rewards, sum(part.seconds for part in parts))


def spread(values: Sequence[float | None], groups: Sequence[int]) -> Spread:
    """How scores spread, over all and within groups. None is no score; a group of one score has no spread to tell."""
    scored: dict[int, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        if value is not None:
            scored.setdefault(group, []).append(value)
    every = [value for group in scored.values() for value in group]
    several = [group for group in scored.values() if len(group) > 1]
    return Spread(
        mean=_mean(every) if every else None,
        over_all=_deviation(every) if len(every) > 1 else None,
        within=_mean([_deviation(group) for group in several]) if several else None,
        without=_mean([float(_are_equal(group)) for group in several]) if several else None,
    )


def passed(found: Report, guard: Guard) -> list[Passed]:
    """The limits that the shares are above. Faults are looked at for each function: one that fails is enough."""
    limits = {"without_signal": guard.without_signal, "cut": guard.cut}
    wrong = [
        Passed(key, found.shares[key], limit)
        for key, limit in limits.items()
        if key in found.shares and found.shares[key] > limit
    ]
    for function in found.functions:
        share = function.failed / max(found.completions, 1)
        if share > guard.faults:
            wrong.append(Passed("faults", share, guard.faults, function.name))
    return wrong


def extremes(totals: Sequence[float | None], most: int) -> tuple[list[int], list[int]]:
    """Which completions score best and which worst, best and worst first, none of them twice."""
    scored = {number: total for number, total in enumerate(totals) if total is not None}
    order = sorted(scored, key=lambda number: -scored[number])
    best = order[: min(most, -(-len(order) // 2))]
    return best, order[: len(best) - 1 if best else None : -1][:most]


def _function(reward: RewardScores, groups: Sequence[int], printed: tuple[str, ...]) -> Function:
    faults = [fault for fault in reward.faults if fault is not None]
    seconds = [score.seconds for score in reward.scores]
    return Function(
        name=reward.name,
        weight=reward.weight,
        spread=spread([_given(score) for score in reward.scores], groups),
        failed=len(faults),
        first_fault=faults[0] if faults else None,
        median_seconds=statistics.median(seconds) if seconds else 0.0,
        longest_seconds=max(seconds, default=0.0),
        printed=printed,
        values=tuple(reward.values),
    )


def _given(score: Score) -> float | None:
    """What the function gave itself: the zero that stands for a failure is none of its scores."""
    return None if score.fault is not None else score.value


def _mean(values: Sequence[float]) -> float:
    return sum(value / len(values) for value in values)


def _deviation(values: Sequence[float]) -> float:
    """The standard deviation of a sample, of two values at least, as the trainer takes it."""
    if _are_equal(values):
        return 0.0
    mean = _mean(values)
    return math.hypot(*(value - mean for value in values)) / math.sqrt(len(values) - 1)


def _are_equal(values: Sequence[float]) -> bool:
    return math.isclose(min(values), max(values), rel_tol=EQUAL, abs_tol=ZERO)
