"""Answers to held-out questions in, the scores of `evaluation.rewards` out.

Used at the end of a run for both models, and during training where such a score decides when to stop.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from runner import rollouts, scoring, training
from runner.answering import Answer
from runner.plan import Plan
from runner.rewards.contract import Scores
from runner.scores.metrics import BY_REWARDS, of_reward
from runner.stopping import never

Scorer = Callable[[Sequence[Any], Sequence[Answer]], list[dict[str, Any]]]


@contextlib.contextmanager
def scorer(plan: Plan, step: int, rank: int = 0, leave: Callable[[], bool] = never) -> Iterator[Scorer]:
    """A function of questions and their answers, which gives the score of each of `evaluation.rewards`, row by row.

    A row has the wanted answer as `answer` and `completion`, and its `calls` and `tools` where it has any. Each process
    that scores has a `rank` of its own. Raises UserError with every fault of every reward that cannot be run. The
    function raises GivenUp where `leave` says so while it waits.
    """
    directory = Path(plan.directory)
    if not plan.recipe.evaluation.rewards:
        yield lambda questions, answers: [{} for _ in questions]
        return

    def scores(questions: Sequence[Any], answers: Sequence[Answer]) -> list[dict[str, Any]]:
        if not questions:
            return []
        rows = [{"prompt": each["prompt"], "asked": json.dumps(each["prompt"]), **_columns(each)} for each in questions]
        ids = [answer.ids for answer in answers]
        found = pool.score(scoring.batch(rows, [answer.text for answer in answers], ids, step, 0.0), leave)
        return [by_name(found, number) for number in range(len(answers))]

    with (
        closing(rollouts.Log(directory, sampled=False)) as log,
        scoring.measuring_pool(plan.recipe, directory, rank, log.told) as pool,
    ):
        yield scores


def by_row(scores: Scores, rows: int) -> list[dict[str, float | None]]:
    """The total of each completion, and each reward's score of it, by the names of their metrics."""
    return [{BY_REWARDS: scores.total(number), **by_name(scores, number)} for number in range(rows)]


def means(scored: Sequence[Mapping[str, float | None]], names: Sequence[str], device: Any) -> dict[str, float | None]:
    """The mean of each metric over the rows of all processes that have it; None where none has."""
    values = [[value for each in scored if (value := each[name]) is not None] for name in names]
    sums = training.over_processes(device, *map(float, map(sum, values)), *map(len, values))
    pairs = zip(sums[: len(names)], sums[len(names) :], strict=True)
    return {name: total / count if count else None for name, (total, count) in zip(names, pairs, strict=True)}


def by_name(scores: Scores, number: int) -> dict[str, float | None]:
    """Each reward's score of a completion, by the name of its metric."""
    return {of_reward(reward.name): reward.scores[number].value for reward in scores.rewards}


def _columns(question: Mapping[str, Any]) -> dict[str, str]:
    columns = {"answer": question["answer"], "completion": question["answer"]}
    return {"columns": json.dumps(columns | {key: question[key] for key in ("calls", "tools") if key in question})}
