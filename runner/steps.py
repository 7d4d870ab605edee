"""How long a run is, in optimizer steps, and how often it is evaluated and saved. Pure, and light."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from runner import recipe, schedule
from runner.choices import Conflict

EVALUATIONS = 10  # of a run at most, where the recipe does not say how often
EVALUATION_SHARE = 0.25  # of a run's computation that may go into them; a row costs a third of a row that is learned
CHECKPOINT_STEPS = 50  # between two checkpoints, at most, where the recipe does not say


@dataclass(frozen=True)
class Steps:
    """Optimiser steps."""

    an_epoch: int
    total: int
    warmup: int
    evaluate_every: int | None
    checkpoint_every: int
    schedule: tuple[schedule.Setting, ...] = ()  # what the scheduler is made with, beside the steps


def count(training: recipe.Training, rows: int, evaluation_rows: int, grpo: recipe.Grpo | None = None) -> Steps:
    """The run in optimiser steps, for so many rows to learn from and to evaluate on.

    A step of GRPO takes fewer rows than completions, and held-out prompts are scored before the end of the run only
    where the recipe says so.
    Raises `Conflict` where the scheduler goes by an evaluation loss that there will not be.
    """
    rows_a_step, times = training.batch_size, 1
    if grpo is not None:
        rows_a_step, times = training.batch_size // grpo.num_generations, grpo.num_iterations
        if training.evaluate_every is None and training.early_stopping is None:
            evaluation_rows = 0
    if training.scheduler in schedule.BY_EVALUATION and (grpo is not None or not evaluation_rows):
        lacking, hint = "no row is held out", "set `dataset.evaluation`, or use another scheduler"
        if grpo is not None:
            lacking, hint = "prompts that are held out have none", "use another scheduler"
        message = f"`scheduler: {training.scheduler}` changes the rate by the evaluation loss, and {lacking}"
        raise Conflict(message, ("training", "scheduler"), hint)
    an_epoch = max(-(-rows // rows_a_step), 1) * times
    total = training.max_steps or max(math.ceil(an_epoch * _exact(training.epochs or 1.0)), 1)
    every = training.checkpoints.every or max(min(CHECKPOINT_STEPS, math.ceil(total / EVALUATIONS)), 1)
    evaluate = None
    if evaluation_rows:
        affordable = int(3 * EVALUATION_SHARE * total * training.batch_size / evaluation_rows)
        often = max(min(affordable, EVALUATIONS), 1)
        evaluate = training.evaluate_every or math.ceil(total / often)
        evaluate = min(-(-evaluate // times) * times, total)  # it is followed by a checkpoint, as below
    # The learning rate of a step that warms up begins at 0: a run of one step would learn nothing.
    warmup = min(math.ceil(_exact(training.warmup_ratio) * total), total - 1)
    if training.scheduler in schedule.WITHOUT_WARMUP:
        warmup = 0
    every = -(-every // times) * times  # a checkpoint between two steps on the same completions would lose those
    return Steps(an_epoch, total, warmup, evaluate, min(every, total), schedule.settings(training, total, warmup))


def _exact(number: float) -> Fraction:
    """The number as it was written: 0.07 × 100 is 7, and not a little more, which would be rounded up to 8."""
    return Fraction(repr(number))
