"""A step whose loss or gradient is not a number: told with the rows of its batch, and stopped at or passed over.

DeepSpeed leaves a step out whose gradient is not a number, and says nothing of it. So the weights are as they were
before, whichever of the two a recipe asks for.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from runner import training
from runner.errors import Problem, RunError, listed
from runner.plan import Plan

IN_A_ROW = 10  # steps that may be passed over one after the other: a model that has gone astray does not come back
MOST_NAMED = 16  # rows
SCALE_AT_ITS_END = "loss scale already at minimum"  # what DeepSpeed says when no scale of float16 gradients will do

logger = logging.getLogger(__name__)


class Learns(Protocol):
    """A trainer as it is seen here."""

    losses: list[torch.Tensor]  # of the micro-batches since the last step, of this process
    deepspeed: Any
    model: Any

    def rows_of(self, step: int, micro: int) -> list[str]:
        """Where the rows stand of a micro-batch of this process; both are counted from 0."""


class Finite(TrainerCallback):
    """Looks at every step before anything is saved. Raises RunError as the recipe wants it, with the rows named.

    `tell` gets an event for each step that is passed over; it is None on all processes but the first.
    """

    def __init__(self, trainer: Learns, plan: Plan, tell: Callable[[dict[str, Any]], None] | None) -> None:
        self.trainer, self.plan, self.tell = trainer, plan, tell
        self.in_a_row = 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        losses = torch.stack(self.trainer.losses).detach()
        self.trainer.losses.clear()
        wrong = [number for number, fine in enumerate(losses.isfinite().tolist()) if not fine]
        found = training.any_of((bool(wrong), not self._is_gradient_finite()), args.device)
        if not any(found):
            self.in_a_row = 0
            return
        self.in_a_row += 1
        what = "loss" if found[0] else "gradient"
        step = state.global_step
        of_step = wrong if found[0] else range(len(losses))
        rows = _gathered([row for number in of_step for row in self.trainer.rows_of(step - 1, number)])
        if self.plan.recipe.training.non_finite == "stop":
            raise _fault(f"the {what} is not a number at step {step}", rows)
        if self.in_a_row == IN_A_ROW:
            raise _fault(f"the {what} was not a number for {IN_A_ROW} steps one after the other, up to {step}", rows)
        if self.tell is not None:
            self.tell({"event": "skipped", "step": step, "what": what, "rows": rows})

    def _is_gradient_finite(self) -> bool:
        """Whether the step's gradient, the same on all processes, was a number."""
        engine = self.trainer.deepspeed
        if self.plan.precision.value == "float16":
            return True  # gradients that are too large are a part of finding their scale
        if self.plan.zero_stage.value == 0 and self.plan.precision.value == "float32":
            # Nothing looks at gradients there, and what they did to the weights is done.
            return all(bool(each.isfinite().all()) for each in self.trainer.model.parameters() if each.requires_grad)
        norm = engine.get_global_grad_norm()
        return not engine.optimizer.overflow and (norm is None or math.isfinite(float(norm)))


def without_a_scale(error: Exception) -> RunError | None:
    """The fault that DeepSpeed's error is where float16 gradients overflow at every scale; None for another one."""
    if SCALE_AT_ITS_END not in str(error):
        return None
    return RunError(
        Problem(
            "the gradients are too large for float16 at every scale",
            hint="use `model.dtype: bfloat16` or `float32`, or lower `training.learning_rate`; "
            "the checkpoints before this step are kept",
        )
    )


def _fault(message: str, rows: Sequence[str]) -> RunError:
    named = listed(rows[:MOST_NAMED]) + (f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else "")
    return RunError(
        Problem(
            f"{message}; the rows of that batch: {named}",
            hint="look at these rows, lower `training.learning_rate`, or use `model.dtype: bfloat16` or `float32`; "
            "`training.non_finite: skip` passes such a step over; the checkpoints before it are kept",
        )
    )


def _gathered(rows: list[str]) -> list[str]:
    """The rows of all processes, the same list on each."""
    if not (distributed.is_initialized() and distributed.get_world_size() > 1):
        return rows
    everywhere: list[list[str]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(everywhere, rows)
    return [row for each in everywhere for row in each]
