"""The evaluation stage: the adapter beside its base model, on held-out rows.

evaluation.json   each metric for the adapter and, where the recipe wants a baseline, for the base model, with intervals
samples.jsonl     each question with the answer it should get, the base model's and the adapter's, and their scores
losses.jsonl      the loss of each row, by which runs that are scored on the same rows can be compared
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from runner import asked, intervals, measuring, model, reload, rewarded, secrets, training
from runner.events import tell
from runner.intervals import Measured, Parts
from runner.plan import Plan
from runner.reload import Trained
from runner.scores.calls import Read
from runner.scores.metrics import BY_LOSS, GENERATED

logger = logging.getLogger(__name__)


def run(plan: Plan) -> None:
    """Assemble the adapter, prove that it can be read back, and score it. Raises UserError."""
    directory = Path(plan.directory)
    model.use_all_cores(plan)
    tokenizer = model.tokenizer(plan.recipe.model)
    manifest = reload.assemble(plan, tokenizer)
    adapted = reload.load(plan)
    held_out = directory / "prepared" / "evaluation"
    rows = training.rows(held_out if held_out.is_dir() else directory / "prepared" / "train")
    probe = rows.select(range(min(training.PROBE_ROWS, len(rows))))
    reloaded = reload.prove(adapted, probe, manifest, plan.batch.micro)
    tell({"event": "reloaded", "loss": reloaded, "training_loss": manifest.loss, "step": manifest.step})
    score(plan, adapted, tokenizer, manifest.step)


def again(plan: Plan) -> None:
    """Score an adapter that is there, `adapter` of `evaluating.json`, on the rows prepared in the plan's directory."""
    settings = json.loads((Path(plan.directory) / "evaluating.json").read_text(encoding="utf-8"))
    model.use_all_cores(plan)
    tokenizer = model.tokenizer(plan.recipe.model)
    score(plan, reload.load(plan, settings["adapter"]), tokenizer, settings["step"])


def score(plan: Plan, adapted: Trained, tokenizer: PreTrainedTokenizerBase, step: int) -> None:
    """Write both files of the evaluation beside `prepared/`; without held-out rows there are no scores in the first.

    `step` is the training step that the adapter is of. Raises UserError for rewards that cannot be run.
    """
    directory = Path(plan.directory)
    held_out = directory / "prepared" / "evaluation"
    metrics = plan.recipe.evaluation.metrics
    found: dict[str, Any] = {"step": step, "metrics": {}}
    if held_out.is_dir():
        rows = training.rows(held_out)
        found["rows"] = len(rows)
        baseline = plan.recipe.evaluation.baseline
        if plan.recipe.grpo:
            samples = rewarded.samples(plan, adapted, tokenizer, rows, step)
            measured = rewarded.measured(samples, baseline)
        else:
            measured = _by_loss(plan, adapted, rows, metrics)
            samples = _samples(plan, adapted, tokenizer, step)
            of_answers = [name for name in metrics if name in GENERATED]
            measured |= _by_generation(samples, [*of_answers, *rewarded.names(plan)], baseline)
        found["metrics"] = intervals.compare(measured, plan.recipe.training.seed)
        found["not_measured"] = [name for name in measured if name not in found["metrics"]]
        found["questions"] = len(samples)
        with (directory / "samples.jsonl").open("w", encoding="utf-8") as file:
            lines = (json.dumps(sample, ensure_ascii=False) for sample in samples)
            file.writelines(secrets.redact(line, os.environ) + "\n" for line in lines)
    (directory / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    tell({"event": "evaluated", **found})


def _by_loss(plan: Plan, adapted: Trained, rows: Any, metrics: Sequence[str]) -> dict[str, Measured]:
    if not set(metrics) & set(BY_LOSS):
        return {}
    tell({"event": "scoring", "what": "loss of the held-out rows"})
    adapter = reload.row_losses(adapted, rows, plan.batch.micro)
    base = None
    if plan.recipe.evaluation.baseline:
        with reload.base_of(plan, adapted) as before:
            base = reload.row_losses(before, rows, plan.batch.micro)
    _keep(Path(plan.directory) / "losses.jsonl", rows, adapter, base)
    return {name: Measured(adapter, base) for name in metrics if name in BY_LOSS}


def _keep(path: Path, rows: Any, adapter: Parts, base: Parts | None) -> None:
    """Write the summed loss of each row and its learned tokens; `row` is a digest of its ids and labels."""
    of_base = [None] * len(adapter) if base is None else [loss for loss, _ in base]
    with path.open("w", encoding="utf-8") as file:
        for row, (loss, tokens), before in zip(reload.unpacked(rows), adapter, of_base, strict=True):
            digest = hashlib.sha256(array("q", [*row["input_ids"], *row["labels"]]).tobytes()).hexdigest()[:32]
            file.write(json.dumps({"row": digest, "tokens": tokens, "adapter": loss, "base": before}) + "\n")


def _samples(plan: Plan, adapted: Trained, tokenizer: PreTrainedTokenizerBase, step: int) -> list[dict[str, Any]]:
    """The answers of both models, with the score of each metric that is of one answer."""
    settings = plan.recipe.evaluation
    held_out = asked.read(plan, adapted, tokenizer, settings.metrics)
    keys = ("file", "line", "prompt", "answer")
    samples = [{key: question[key] for key in keys} for question in held_out.questions]
    if not samples:
        return []
    with measuring.scorer(plan, step) as paid:
        for name in ("base", "adapter") if settings.baseline else ("adapter",):
            tell({"event": "scoring", "what": f"answers of the {'base model' if name == 'base' else name}"})
            with reload.base_of(plan, adapted) if name == "base" else contextlib.nullcontext(adapted) as who:
                answers = asked.answered(held_out, who, tokenizer, settings.max_new_tokens)
            rewards = paid(held_out.questions, [answer for answer, _ in answers])
            for number, (sample, (answer, scored)) in enumerate(zip(samples, answers, strict=True)):
                sample[name] = answer.text
                sample[f"{name}_scores"] = scored.values | rewards[number]
                if scored.read is not None:
                    sample |= {
                        "calls": held_out.questions[number].get("calls", []),
                        f"{name}_calls": _told(scored.read),
                    }
    return samples


def _told(read: Read) -> dict[str, Any]:
    """The calls of an answer as `samples.jsonl` has them, and why no more could be read."""
    calls = [{"name": call.name, "arguments": call.arguments} for call in read.calls]
    return {"read": calls, "fault": read.fault}


def _by_generation(samples: Sequence[dict[str, Any]], metrics: Sequence[str], baseline: bool) -> dict[str, Measured]:
    def parts(which: str, name: str) -> intervals.Parts:
        return intervals.means([sample[which][name] for sample in samples])

    return {
        name: Measured(parts("adapter_scores", name), parts("base_scores", name) if baseline else None)
        for name in metrics
        if samples
    }
