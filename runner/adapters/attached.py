"""A plan -> what a trainer is given: the base model and a new adapter to add, or a model that has one already."""

from __future__ import annotations

from typing import Any

from peft import PeftModel

from runner import model
from runner.adapters import ADAPTERS, embeddings
from runner.errors import Problem, RunError
from runner.plan import Plan


def attached(plan: Plan) -> tuple[Any, Any]:
    """The model, and PEFT's configuration of the adapter that is to be added to it.

    Where the recipe goes on with an adapter, the model has it, and where all weights are trained there is none: then
    the configuration is None.
    """
    settings, base = plan.recipe.adapter, model.weights(plan)
    if settings.type == "full":
        return base, None
    if settings.continue_from:
        return _continued(base, plan), None
    config = ADAPTERS[settings.type](settings)
    if settings.train_embeddings:
        config = embeddings.with_embeddings(config, base)
    return base, config


def _continued(base: Any, plan: Plan) -> PeftModel:
    """The adapter that the recipe goes on with, on the model. Raises RunError where it is that of another one."""
    named = str(plan.recipe.adapter.continue_from)
    try:
        return PeftModel.from_pretrained(base, named, is_trainable=True)
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        raise RunError(
            Problem(
                f"the adapter in `{named}` does not fit the model `{plan.recipe.model.name}`",
                hint="it is another model's, or was trained with `model.add_tokens`: then name the same tokens here",
            )
        ) from error
