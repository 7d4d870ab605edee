"""The tasks a recipe can name, each a module with `prepare` and `trainer`."""

from __future__ import annotations

from types import ModuleType

from runner.tasks import sft

TASKS: dict[str, ModuleType] = {"sft": sft}
