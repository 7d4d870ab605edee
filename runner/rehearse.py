"""The rehearsal of a GRPO run: completions of some prepared prompts, sampled from the model as it is before training.

prompts.json    which prepared rows are asked: numbers that the supervisor picked
sampled.jsonl   the completions, one `Answer` of `data/completions.py` a line

Sampling is that of a run: as many completions of as many prompts at a time, with the recipe's settings. The model is
the base model, with the adapter that the recipe continues where it names one.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
from peft import PeftModel

from runner import generation, model
from runner.data.completions import Answer
from runner.events import tell
from runner.plan import Plan
from runner.tasks import grpo

PROMPTS, SAMPLED = "prompts.json", "sampled.jsonl"


def run(plan: Plan) -> None:
    """Sample the completions. Raises UserError for a model or an adapter that cannot be loaded."""
    assert plan.recipe.grpo is not None
    directory = Path(plan.directory)
    model.use_all_cores(plan)
    prepared = datasets.load_from_disk(str(directory / "prepared" / "train"))
    rows = prepared.select(json.loads((directory / PROMPTS).read_text(encoding="utf-8")))
    tokenizer = model.tokenizer(plan.recipe.model)
    loaded = _loaded(plan)
    ends = model.ends(loaded, tokenizer)
    sampling, copies = grpo.sampling(plan, ends), plan.recipe.grpo.num_generations
    at_once = max(plan.batch.effective // plan.processes // copies, 1)  # prompts: what a process samples in a step
    finishing = {*ends, tokenizer.pad_token_id}
    with (directory / SAMPLED).open("w", encoding="utf-8") as file:
        for start in range(0, len(rows), at_once):
            asked: list[dict[str, Any]] = [rows[n] for n in range(start, min(start + at_once, len(rows)))]
            seed = plan.recipe.training.seed + start
            found = generation.sample(loaded, [row["input_ids"] for row in asked], copies, sampling, seed)
            texts = tokenizer.batch_decode([each.tokens for each in found], skip_special_tokens=True)
            for number, (completion, text) in enumerate(zip(found, texts, strict=True)):
                row = asked[number // copies]
                answer = Answer(
                    **{key: row[key] for key in ("prompt", "asked", "columns", "file", "line")},
                    completion=text,
                    group=start + number // copies,
                    ids=completion.tokens,
                    cut=not completion.tokens or completion.tokens[-1] not in finishing,
                )
                file.write(json.dumps(asdict(answer)) + "\n")
            done = (start + len(asked)) * copies
            tell({"event": "sampled", "done": done, "of": len(rows) * copies})


def _loaded(plan: Plan) -> Any:
    base = model.weights(plan, "auto" if plan.device == "cuda" else None)
    if plan.recipe.adapter.continue_from:
        base = PeftModel.from_pretrained(base, plan.recipe.adapter.continue_from, autocast_adapter_dtype=False)
    return base.eval()
