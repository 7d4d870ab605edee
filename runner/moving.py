"""Completions that move the model: those from which nothing is learned are left out of a micro-batch of GRPO."""

from __future__ import annotations

from typing import Any

import torch

# What a loss is divided by: the rows of a micro-batch, or its tokens. The others divide by all tokens of the step,
# which TRL has counted beforehand.
BY_ROWS, BY_TOKENS = ("grpo", "sapo", "luspo", "dr_grpo"), ("bnpo",)


def rows(inputs: dict[str, Any], trainer: Any) -> tuple[dict[str, Any], float]:
    """A micro-batch without the rows that move nothing, and what its loss has to be multiplied by.

    A row whose advantage is 0 has no gradient where the loss has no term beside the advantage's. It still counts in
    what the loss is divided by, which the factor makes good. At least one row stays, and as many on every process:
    TRL gathers a number for each.
    """
    if trainer.beta or trainer.top_entropy_quantile < 1 or trainer.aux_loss_enabled or trainer.entropy_coef:
        return inputs, 1.0
    moved, mask, count = inputs["advantages"] != 0, inputs["completion_mask"], len(inputs["advantages"])
    needed = max(int(trainer.accelerator.gather(moved.sum()).max()), 1)
    if needed == count:
        return inputs, 1.0
    lengths = mask.sum(1)
    in_turn = (lengths - moved * (mask.shape[1] + 1)).argsort(stable=True)  # those that move something come first
    chosen = in_turn[:needed].sort().values
    kept = {
        name: value[chosen] if isinstance(value, torch.Tensor) and value.dim() and len(value) == count else value
        for name, value in inputs.items()
    }
    if trainer.loss_type in BY_ROWS:
        return kept, needed / count
    if trainer.loss_type in BY_TOKENS:
        return kept, float(lengths[chosen].sum() / lengths.sum().clamp(min=1))
    return kept, 1.0
