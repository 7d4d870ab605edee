"""The tasks a recipe can name, each a module with a `trainer`."""

from __future__ import annotations

from types import ModuleType

from runner.tasks import grpo, sft

TASKS: dict[str, ModuleType] = {"sft": sft, "grpo": grpo}
