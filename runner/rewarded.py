"""Held-out prompts, answered by the base model and by the adapter, and scored by the recipe's own rewards.

A recipe of another task may name rewards as well, which score the answers to its held-out questions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from runner import answering, intervals, measuring, model, rollouts, scoring
from runner.events import tell
from runner.intervals import Measured
from runner.plan import Plan
from runner.scores.metrics import of_reward
from runner.tasks import grpo


def samples(plan: Plan, adapted: PeftModel, tokenizer: PreTrainedTokenizerBase, rows: Any, step: int) -> list[Any]:
    """One entry a prompt, of as many as the recipe asks for: both models' answers with the score of each reward."""
    asked = [rows[number] for number in range(min(plan.recipe.evaluation.samples, len(rows)))]
    models = ("base", "adapter") if plan.recipe.evaluation.baseline else ("adapter",)
    directory = Path(plan.directory)
    sampling = grpo.sampling(plan, model.ends(adapted, tokenizer))
    found: list[dict[str, Any]] = [{key: row[key] for key in ("file", "line", "prompt")} for row in asked]
    with (
        closing(rollouts.Log(directory, sampled=False)) as log,
        scoring.pool(plan.recipe, directory, 1, 0, log.told) as pool,
    ):
        for name in models if asked else ():
            tell({"event": "scoring", "what": f"answers of the {'base model' if name == 'base' else name}"})
            with adapted.disable_adapter() if name == "base" else contextlib.nullcontext():
                ids = answering.tokens(adapted, [row["input_ids"] for row in asked], sampling)
            texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
            scores = measuring.by_row(pool.score(scoring.batch(asked, texts, ids, step, 0.0)), len(asked))
            for entry, text, scored in zip(found, texts, scores, strict=True):
                entry[name], entry[f"{name}_scores"] = text, scored
    return found


def measured(found: Sequence[dict[str, Any]], baseline: bool) -> dict[str, Measured]:
    """The total, `reward`, and each reward, row by row; a completion without a score does not count."""

    def parts(which: str, name: str) -> intervals.Parts:
        return intervals.means([entry[which][name] for entry in found])

    return {
        name: Measured(parts("adapter_scores", name), parts("base_scores", name) if baseline else None)
        for name in (found[0]["adapter_scores"] if found else ())
    }


def names(plan: Plan) -> list[str]:
    """What the scores of `evaluation.rewards` are called among the metrics."""
    return [of_reward(reward.name) for reward in plan.recipe.evaluation.rewards]
