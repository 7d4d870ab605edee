"""Held-out prompts, answered by the base model and by the adapter, and scored by the recipe's own rewards.

Answers are decoded greedily: what differs between the two models is what was learned, and not chance.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from runner import generation, model, rollouts, scoring
from runner.events import tell
from runner.plan import Plan
from runner.rewards.contract import Scores
from runner.tasks import grpo

PROMPTS_AT_ONCE = 16


def samples(plan: Plan, adapted: PeftModel, tokenizer: PreTrainedTokenizerBase, rows: Any, step: int) -> list[Any]:
    """One entry a prompt, of as many as the recipe asks for: both models' answers with the score of each reward."""
    asked = [rows[number] for number in range(min(plan.recipe.evaluation.samples, len(rows)))]
    names = ("base", "adapter") if plan.recipe.evaluation.baseline else ("adapter",)
    directory = Path(plan.directory)
    found: list[dict[str, Any]] = [{key: row[key] for key in ("file", "line", "prompt")} for row in asked]
    with (
        closing(rollouts.Log(directory)) as log,
        scoring.pool(plan.recipe, directory, 1, 0, log.told) as pool,
    ):
        for name in names if asked else ():
            tell({"event": "scoring", "what": f"answers of the {'base model' if name == 'base' else name}"})
            with adapted.disable_adapter() if name == "base" else contextlib.nullcontext():
                ids = _answers(plan, adapted, tokenizer, [row["input_ids"] for row in asked])
            texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
            scores = pool.score(scoring.batch(asked, texts, ids, step, 0.0))
            for number, entry in enumerate(found):
                entry[name] = texts[number]
                entry[f"{name}_scores"] = _scores(scores, number)
    return found


def metrics(found: Sequence[dict[str, Any]], baseline: bool) -> dict[str, dict[str, float | None]]:
    """The mean of the total, `reward`, and of each reward, for both models, of the completions that have a score.

    A reward that scored none of the adapter's is left out.
    """
    if not found:
        return {}
    return {
        name: {"base": _mean(found, "base_scores", name) if baseline else None, "adapter": mean}
        for name in found[0]["adapter_scores"]
        if (mean := _mean(found, "adapter_scores", name)) is not None
    }


def _answers(
    plan: Plan, adapted: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]]
) -> list[list[int]]:
    sampling = replace(grpo.sampling(plan, model.ends(adapted, tokenizer)), temperature=0.0)
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    answers: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), PROMPTS_AT_ONCE):
        some = order[start : start + PROMPTS_AT_ONCE]
        decoded = generation.sample(adapted, [prompts[number] for number in some], 1, sampling, seed=0)
        for number, completion in zip(some, decoded, strict=True):
            answers[number] = completion.tokens
    return answers


def _scores(scores: Scores, number: int) -> dict[str, float | None]:
    each = {reward.name: reward.scores[number].value for reward in scores.rewards}
    return {"reward": scores.total(number), **{f"reward/{name}": value for name, value in each.items()}}


def _mean(found: Sequence[dict[str, Any]], which: str, name: str) -> float | None:
    values = [entry[which][name] for entry in found if entry[which][name] is not None]
    return float(sum(values)) / len(values) if values else None
