"""The adapter that a run goes on from says what it is: its settings take the place of the recipe's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from runner import recipe, weights
from runner.errors import Problem, RecipeError


def settings(adapter: recipe.Adapter) -> recipe.Adapter:
    """The recipe's adapter with type, rank, alpha, dropout and targets of the one it continues.

    One on the Hub is read by PEFT later. Raises RecipeError where its configuration cannot be read.
    """
    if adapter.continue_from is None or not Path(adapter.continue_from).is_dir():
        return adapter
    if pickled := weights.pickled_in(adapter.continue_from):
        message = f"`{adapter.continue_from}` has its weights as a pickle, `{pickled}`"
        raise RecipeError(Problem(message, hint=weights.HINT))
    path = Path(adapter.continue_from) / "adapter_config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        targets = found["target_modules"]
        kind = "dora" if found.get("use_dora") else "rslora" if found.get("use_rslora") else adapter.type
        return replace(
            adapter,
            type=kind,
            rank=int(found["r"]),
            alpha=float(found["lora_alpha"]),
            dropout=float(found["lora_dropout"]),
            train_embeddings=bool(found.get("modules_to_save")),
            target_modules=(targets,) if isinstance(targets, str) else tuple(sorted(targets)),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "name the directory that a run wrote as `adapter/`, or that PEFT saved a LoRA to"
        raise RecipeError(Problem(f"`{path}` does not describe a LoRA adapter", hint=hint)) from error
