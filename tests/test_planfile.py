"""Plans go to JSON and come back as they were."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settled import LLAMA_8B, plan_of

from runner import planfile, recipe
from runner.architecture import Architecture
from runner.choices import Rows

OPTIONAL = [
    (),
    (
        "model.revision=main", "dataset.limit=5", "dataset.max_length=null", "dataset.evaluation=0.5",
        "dataset.columns={prompt: question, completion: answer}", "adapter.target_modules=[q_proj, v_proj]",
        "training.max_steps=9", "training.epochs=null", "training.early_stopping={}", "training.evaluate_every=3",
        "training.checkpoints={every: 2, minutes: 1.5}", "training.micro_batch_size=1", "deepspeed.zero_stage=2",
        "deepspeed.processes=1", "output.hub={repository: owner/name}", "tracking={wandb: a, mlflow: b, trackio: c}",
    ),
    ("dataset.evaluation=data/instruction.jsonl", "training.early_stopping=null"),
    ("adapter=null", "adapter.continue_from=owner/x"),
]  # fmt: skip


@pytest.mark.parametrize("overrides", OPTIONAL)
@pytest.mark.parametrize("shape", [None, LLAMA_8B])
@pytest.mark.parametrize("rows", [None, Rows(10, 0, 5), Rows(10, 3, 5)])
def test_a_plan_comes_back_from_json_as_it_was(
    overrides: tuple[str, ...], shape: Architecture | None, rows: Rows | None
) -> None:
    settled = plan_of(*overrides, shape=shape, rows=rows)
    text = planfile.to_json(settled)
    assert planfile.from_json(text) == settled
    assert planfile.to_json(planfile.from_json(text)) == text


@given(st.text(max_size=8), st.none() | st.text(max_size=8), st.lists(st.tuples(st.text(), st.text()), max_size=3))
def test_any_text_comes_back_from_json(name: str, revision: str | None, columns: list[tuple[str, str]]) -> None:
    base = plan_of()
    source = recipe.Source(name, 0.1, revision, tuple(columns), "auto")
    changed = replace(base.recipe, file=name, dataset=replace(base.recipe.dataset, train=(source,) * 2))
    settled = replace(base, recipe=changed)
    assert planfile.from_json(planfile.to_json(settled)) == settled


def test_half_a_character_in_a_file_name_can_be_written() -> None:
    settled = replace(plan_of(), device_name="caf\udce9 é")
    text = planfile.to_json(settled)
    assert "é" in text and json.loads(text.encode()) and planfile.from_json(text) == settled


def test_a_plan_from_before_a_key_was_added_is_read() -> None:
    settled = plan_of()
    older = json.loads(planfile.to_json(settled))
    del older["recipe"]["model"]["hub_id"]
    assert planfile.from_json(json.dumps(older)) == settled
    del older["recipe"]["model"]["name"]
    with pytest.raises(TypeError, match="name"):
        planfile.from_json(json.dumps(older))
