"""The adapters a recipe can ask for: its `adapter.type`, and the function that makes PEFT's configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runner import recipe
from runner.adapters import lora

ADAPTERS: dict[str, Callable[[recipe.Adapter], Any]] = {
    "lora": lora.lora,
    "dora": lora.dora,
    "rslora": lora.rslora,
    "qlora": lora.lora,  # the same adapter; the weights under it are quantised
}
