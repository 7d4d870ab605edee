"""A settled recipe -> the plain values of the blocks that an evaluation goes by, as a recipe file would say them.

So a finished run's settings can be changed and are checked again as a recipe is: `check.settle` gives the same blocks.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from runner.reading.check import AUTOMATIC_FORMATS
from runner.recipe import Recipe, Reward, Source


def values(recipe: Recipe) -> dict[str, Any]:
    """`task`, `model.name`, `dataset`, `evaluation` and `rewards`; whatever else a recipe has is left at its default.

    Columns and templates of the first held-out source, or else of the first one, are those of `dataset`.
    """
    dataset, evaluation, task = recipe.dataset, recipe.evaluation, recipe.task
    first = next(iter((*dataset.evaluation, *dataset.train)), None)
    held_out = [_source(each, first, task) for each in dataset.evaluation]
    found: dict[str, Any] = {
        "task": task,
        "model": {"name": recipe.model.name},
        "dataset": {
            **asdict(dataset),
            "train": [_source(each, first, task) for each in dataset.train],
            "evaluation": held_out or dataset.evaluation_fraction,
            "columns": dict(first.columns) if first else {},
            "templates": dict(first.templates) if first else {},
            "apply_chat_template": {"true": True, "false": False}.get(dataset.apply_chat_template, "auto"),
            "max_length": "auto" if dataset.max_length is None else dataset.max_length,
        },
        "evaluation": {
            **asdict(evaluation),
            "metrics": list(evaluation.metrics),
            "rewards": [_reward(each) for each in evaluation.rewards] or None,
        },
    }
    del found["dataset"]["evaluation_fraction"]
    if recipe.rewards:
        found["rewards"] = [_reward(each) for each in recipe.rewards]
    return found


def _source(settled: Source, first: Source | None, task: str) -> dict[str, Any]:
    assert first is not None
    return {
        "path": settled.path,
        "weight": settled.weight,
        "split": settled.split,
        "columns": None if settled.columns == first.columns else dict(settled.columns),
        "templates": None if settled.templates == first.templates else dict(settled.templates),
        "format": "auto" if settled.format == AUTOMATIC_FORMATS.get(task) else settled.format,
    }


def _reward(settled: Reward) -> dict[str, Any]:
    found = asdict(settled)
    file = found.pop("requirements_file")
    found |= {"options": json.loads(settled.options), "secrets": list(settled.secrets)}
    found["requirements"] = file or list(settled.requirements)
    return {key: value for key, value in found.items() if key != "requirements" or value}
