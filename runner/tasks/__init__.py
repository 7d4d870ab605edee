"""The tasks a recipe can name, each a module with a `trainer`. Calls are learned as answers are, from their text."""

from __future__ import annotations

from types import ModuleType

from runner.tasks import grpo, sft

TASKS: dict[str, ModuleType] = {
    "sft": sft,
    "function_calling": sft,
    "continued_pretraining": sft,  # the same loss and order, over rows of which every token is learned
    "grpo": grpo,
}
