"""Steps whose loss is not a number, by a row that makes it so: named, and stopped at or passed over."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from runs import DEMO, events, run_of, tunesmith, write_recipe

pytestmark = pytest.mark.slow

POISON = "☃"  # whose embedding is not a number in the model below


@pytest.fixture(scope="module")
def poisoned(tiny_model: Path, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that gives no number for a text with one character in it."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("poisoned")
    model = AutoModelForCausalLM.from_pretrained(tiny_model, tie_word_embeddings=False, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight.copy_(model.get_input_embeddings().weight)
        model.get_input_embeddings().weight[tokenizer(POISON, add_special_tokens=False)["input_ids"][-1]] = math.nan
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Sixteen rows, the eleventh of them with the character."""
    lines = (DEMO / "train.jsonl").read_text(encoding="utf-8").splitlines()[:16]
    row = json.loads(lines[10])
    row["prompt"] += POISON
    lines[10] = json.dumps(row)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def changes(rows: Path, **training: Any) -> dict[str, Any]:
    """Four steps of four rows in the order of the file, two at a time."""
    return {
        "dataset": {"train": str(rows), "shuffle": False},
        "model": {"dtype": "float32"},
        "training": {"max_steps": 4, "micro_batch_size": 2, "checkpoints": {"every": 1}, **training},
    }


def test_a_loss_that_is_no_number_ends_a_run_and_names_the_rows(poisoned: Path, rows: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, poisoned, changes(rows) | {"deepspeed": {"processes": 2}})
    ended = tunesmith("train", recipe)
    assert ended.code == 1, ended.out + ended.err
    assert f"the loss is not a number at step 3; the rows of that batch: `{rows}:" in ended.err
    assert f"`{rows}:11`" in ended.err and f"`{rows}:8`" not in ended.err and "Traceback" not in ended.err
    assert {path.name for path in (run_of(recipe) / "checkpoints").iterdir()} == {"step-1", "step-2"}


def test_a_step_may_be_passed_over(poisoned: Path, rows: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, poisoned, changes(rows, non_finite="skip"))
    ended = tunesmith("train", recipe)
    assert ended.code == 0, ended.out + ended.err
    (skipped,) = events(run_of(recipe), "skipped")
    assert (skipped["step"], skipped["what"]) == (3, "loss")
    assert f"{rows}:11" in skipped["rows"] and len(skipped["rows"]) == 2
    assert f"warning: step 3 was passed over, since its loss is not a number: `{rows}:" in ended.out
    losses = [event["loss"] for event in events(run_of(recipe))]
    assert len(losses) == 4 and all(math.isfinite(loss) for loss in losses)
    from safetensors.torch import load_file

    weights = load_file(run_of(recipe) / "adapter" / "adapter_model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())


def test_no_step_is_passed_over_where_none_can_be(poisoned: Path, rows: Path, tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path, poisoned, changes(rows, non_finite="skip") | {"deepspeed": {"zero_stage": 0, "processes": 1}}
    )
    ended = tunesmith("plan", recipe)
    assert ended.code == 2
    assert "at ZeRO stage 0 in float32 no step can be passed over" in ended.err
