"""Schedulers: each that transformers names can be made for any run, and the rate stays within its bounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs import events, run_of, tunesmith, write_recipe
from settled import recipe_of

from runner.choices import Conflict
from runner.reading.names import SCHEDULERS
from runner.schedule import BY_EVALUATION
from runner.steps import count

TRAINING = recipe_of().training
HIGHEST = 1e-3


def rates(scheduler: str, total: int, losses: float = 1.0, **chosen: Any) -> list[float]:
    """The learning rate of each step, from the scheduler that transformers makes with our settings."""
    import torch
    from transformers import get_scheduler

    training = replace(
        TRAINING,
        scheduler=scheduler,
        scheduler_settings=tuple(chosen.items()),
        learning_rate=HIGHEST,
        max_steps=total,
        epochs=None,
        warmup_ratio=0.1,
    )
    steps = count(training, 100, 10)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=HIGHEST)
    made = get_scheduler(scheduler, optimizer, steps.warmup, steps.total, dict(steps.schedule))
    seen = []
    for step in range(total):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step(*([losses + 0.01 * step] if scheduler in BY_EVALUATION else []))
    return seen


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("total", [1, 2, 3, 7, 100])
def test_every_scheduler_stays_within_its_bounds(scheduler: str, total: int) -> None:
    seen = rates(scheduler, total)
    assert all(0 <= rate <= HIGHEST * (1 + 1e-9) for rate in seen)
    assert max(seen) > 0


@pytest.mark.parametrize("scheduler", ["cosine_with_min_lr", "cosine_warmup_with_min_lr"])
def test_a_lowest_rate_is_a_tenth_unless_the_recipe_says(scheduler: str) -> None:
    assert rates(scheduler, 1000)[-1] == pytest.approx(HIGHEST / 10, rel=0.01)
    assert rates(scheduler, 1000, min_lr=2e-4)[-1] == pytest.approx(2e-4, rel=0.01)
    assert rates(scheduler, 1000, min_lr_rate=0.5)[-1] == pytest.approx(HIGHEST / 2, rel=0.01)


def test_a_fifth_of_the_steps_decays_unless_the_recipe_says() -> None:
    seen = rates("warmup_stable_decay", 100)
    assert seen[10:80] == [HIGHEST] * 70 and seen[81] < HIGHEST and seen[99] < 0.01 * HIGHEST
    assert rates("warmup_stable_decay", 100, num_decay_steps=50)[55] < HIGHEST
    assert max(rates("warmup_stable_decay", 10, num_decay_steps=5000)) > 0  # more than there are


@pytest.mark.parametrize("scheduler", BY_EVALUATION)
def test_a_loss_that_gets_no_better_lowers_the_rate(scheduler: str) -> None:
    seen = rates(scheduler, 40, patience=2, factor=0.5)
    assert seen[0] == HIGHEST and seen[-1] < HIGHEST / 4


@pytest.mark.parametrize("scheduler", BY_EVALUATION)
def test_a_rate_that_goes_by_evaluations_needs_some(scheduler: str) -> None:
    with pytest.raises(Conflict, match="no row is held out"):
        count(replace(TRAINING, scheduler=scheduler), 100, 0)


@pytest.mark.slow
def test_a_real_run_lowers_its_rate_when_the_loss_gets_no_better(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path,
        tiny_model,
        {
            "dataset": {"evaluation": 0.25},
            "training": {
                "scheduler": "reduce_lr_on_plateau",
                "scheduler_settings": {"patience": 0, "factor": 0.5, "threshold": 100, "threshold_mode": "abs"},
                "evaluate_every": 1,
            },
        },
    )
    command = tunesmith("train", recipe)
    assert command.code == 0, command.out + command.err
    seen = [event["learning_rate"] for event in events(run_of(recipe))]
    assert seen == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4])
