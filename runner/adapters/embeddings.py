"""Input and output embeddings that are trained beside an adapter, whole, at a learning rate of their own.

PEFT holds a copy of them in the adapter (`modules_to_save`), so that the base model stays what it was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from runner import recipe

MARK = ".modules_to_save."  # how PEFT names a parameter of a copy


def with_embeddings(config: LoraConfig, base: PreTrainedModel) -> LoraConfig:
    """An adapter's configuration that trains the base model's embeddings too; those that are one tensor stay one."""
    ends = [base.get_input_embeddings(), base.get_output_embeddings()]
    names = [name for module in ends for name, each in base.named_modules() if each is module]
    tied = ends[1] is not None and ends[0].weight is ends[1].weight
    return replace(config, modules_to_save=names[:1] if tied else names, ensure_weight_tying=tied)


def rate(training: recipe.Training) -> float:
    """The learning rate of the embeddings: what the recipe says, or a tenth of the others'."""
    return training.embedding_learning_rate or training.learning_rate / 10


def give_rate(optimizer: torch.optim.Optimizer, model: torch.nn.Module, learning_rate: float) -> None:
    """Move the embeddings into groups of their own in a new optimizer, with their learning rate."""
    chosen = {id(each) for name, each in model.named_parameters() if MARK in name and each.requires_grad}
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        own = [each for each in group["params"] if id(each) in chosen]
        group["params"] = [each for each in group["params"] if id(each) not in chosen]
        if own:
            groups.append({**group, "params": own, "lr": learning_rate})
    for group in groups:
        optimizer.add_param_group(group)
