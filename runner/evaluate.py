"""The evaluation stage: the adapter beside its base model, on held-out rows.

evaluation.json   each metric for the adapter, and for the base model where the recipe wants a baseline
samples.jsonl     each question with the answer it should get, the base model's and the adapter's
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from runner import model, reload, rewarded, training
from runner.events import tell
from runner.plan import Plan
from runner.reload import Trained
from runner.scores import BY_LOSS, SCORES

logger = logging.getLogger(__name__)

QUESTIONS_AT_ONCE = 16


def run(plan: Plan) -> None:
    """Assemble the adapter, prove that it can be read back, and score it. Raises RunError."""
    directory = Path(plan.directory)
    if plan.device == "cpu":
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    tokenizer = model.tokenizer(plan.recipe.model)
    manifest = reload.assemble(plan, tokenizer)
    adapted = reload.load(plan)
    held_out = directory / "prepared" / "evaluation"
    rows = training.rows(held_out if held_out.is_dir() else directory / "prepared" / "train")
    probe = rows.select(range(min(training.PROBE_ROWS, len(rows))))
    reloaded = reload.prove(adapted, probe, manifest, plan.batch.micro)
    tell({"event": "reloaded", "loss": reloaded, "training_loss": manifest.loss, "step": manifest.step})

    metrics = plan.recipe.evaluation.metrics
    found: dict[str, Any] = {"step": manifest.step, "metrics": {}}
    if held_out.is_dir():
        found["rows"] = len(rows)
        baseline = plan.recipe.evaluation.baseline
        if plan.recipe.grpo:
            samples = rewarded.samples(plan, adapted, tokenizer, rows, manifest.step)
            found["metrics"] |= rewarded.metrics(samples, baseline)
        else:
            found["metrics"] |= _by_loss(plan, adapted, rows, metrics)
            samples = _samples(plan, adapted, tokenizer)
            found["metrics"] |= _by_generation(samples, metrics, baseline)
        found["questions"] = len(samples)
        with (directory / "samples.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    (directory / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    tell({"event": "evaluated", **found})


def _by_loss(plan: Plan, adapted: Trained, rows: Any, metrics: Sequence[str]) -> dict[str, dict[str, float | None]]:
    if not set(metrics) & set(BY_LOSS):
        return {}
    tell({"event": "scoring", "what": "loss of the held-out rows"})
    loss = reload.mean_loss(adapted, rows, plan.batch.micro)
    base = None
    if plan.recipe.evaluation.baseline:
        with reload.base_of(plan, adapted) as before:
            base = reload.mean_loss(before, rows, plan.batch.micro)
    both: dict[str, dict[str, float | None]] = {
        "loss": {"base": base, "adapter": loss},
        "perplexity": {"base": None if base is None else math.exp(base), "adapter": math.exp(loss)},
    }
    return {name: both[name] for name in metrics if name in both}


def _samples(plan: Plan, adapted: Trained, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """The answers of both models, greedily decoded."""
    asked = json.loads((Path(plan.directory) / "prepared" / "questions.json").read_text(encoding="utf-8"))
    questions, settings = asked["questions"], plan.recipe.evaluation
    wanted = [name for name in settings.metrics if name in SCORES]
    if not questions:
        return []
    answers: dict[str, list[str]] = {}
    for name in ("base", "adapter") if settings.baseline else ("adapter",):
        tell({"event": "scoring", "what": f"answers of the {'base model' if name == 'base' else name}"})
        with reload.base_of(plan, adapted) if name == "base" else contextlib.nullcontext(adapted) as asked_model:
            answers[name] = _answers(asked_model, tokenizer, questions, asked["stops"], settings.max_new_tokens)
    samples = []
    for number, question in enumerate(questions):
        sample = {key: question[key] for key in ("file", "line", "prompt", "answer")}
        for name, texts in answers.items():
            sample[name] = texts[number]
            sample[f"{name}_scores"] = {score: SCORES[score](texts[number], question["answer"]) for score in wanted}
        samples.append(sample)
    return samples


@torch.no_grad()
def _answers(
    adapted: Trained,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Any],
    stops: list[str],
    most: int,
) -> list[str]:
    """One answer a question, in the order of the questions; like lengths are asked together."""
    device = reload.plain(adapted).device
    answers = [""] * len(questions)
    order = sorted(range(len(questions)), key=lambda number: -len(questions[number]["ids"]))
    configured = adapted.generation_config.eos_token_id
    ends = {*(configured if isinstance(configured, list) else [configured]), *tokenizer.convert_tokens_to_ids(stops)}
    ends.discard(None)
    for start in range(0, len(order), QUESTIONS_AT_ONCE):
        some = order[start : start + QUESTIONS_AT_ONCE]
        longest = len(questions[some[0]]["ids"])
        ids = torch.full((len(some), longest), tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros((len(some), longest), dtype=torch.long)
        for row, number in enumerate(some):
            prompt = questions[number]["ids"]
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        generated = adapted.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=most,
            do_sample=False,
            eos_token_id=sorted(ends),
            pad_token_id=tokenizer.pad_token_id,
        )
        for row, number in enumerate(some):
            answers[number] = tokenizer.decode(generated[row, longest:], skip_special_tokens=True)
    return answers


def _by_generation(
    samples: Sequence[dict[str, Any]], metrics: Sequence[str], baseline: bool
) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for name in (metric for metric in metrics if metric in SCORES):
        if samples:
            found[name] = {
                "base": _mean(samples, "base_scores", name) if baseline else None,
                "adapter": _mean(samples, "adapter_scores", name),
            }
    return found


def _mean(samples: Sequence[dict[str, Any]], which: str, score: str) -> float:
    return float(sum(sample[which][score] for sample in samples)) / len(samples)
