"""All weights trained: what is saved is a model that loads by itself, and the base is loaded again beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import model_files
import pytest
from runs import DEMO, events, run_of, tunesmith, write_recipe
from safetensors.torch import load_file
from settled import LLAMA_8B, plan_of
from small_recipe import only, write

from runner import memory
from runner.reading import check

FULL = {"adapter": {"type": "full"}, "training": {"max_steps": 4, "batch_size": 4, "learning_rate": 1e-3}}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["adapter.rank=4"], "`adapter.rank` means nothing to `adapter.type: full`"),
        (["adapter.train_embeddings=true"], "`adapter.train_embeddings` means nothing to `adapter.type: full`"),
        (
            ["adapter.continue_from=a/b"],
            "`adapter.type` is that of the adapter in `adapter.continue_from`, and cannot be chosen again",
        ),
        (
            ["model.quantization=nf4"],
            "`adapter.type: full` trains all weights, and `model.quantization: nf4` freezes them",
        ),
    ],
)
def test_nothing_of_an_adapter_is_left_to_choose(tmp_path: Path, overrides: list[str], message: str) -> None:
    assert only(write(tmp_path), "adapter.type=full", *overrides).message == message


def test_it_is_none_of_reinforcement_and_has_a_lower_rate(tmp_path: Path) -> None:
    rewarded = "task: grpo\nmodel: {name: owner/model}\ndataset: {train: rows.jsonl}\nrewards: [{use: valid_json}]\n"
    problem = only(write(tmp_path, rewarded), "adapter.type=full")
    assert problem.message.startswith("`adapter.type: full` is none of `task: grpo`")
    path = write(tmp_path)
    assert check.read(path).training.learning_rate == 2e-4
    assert check.read(path, ["adapter.type=full"]).training.learning_rate == 2e-5
    assert check.read(path, ["adapter.type=full", "training.learning_rate=1e-4"]).training.learning_rate == 1e-4


def test_embeddings_have_a_rate_only_where_they_are_trained(tmp_path: Path) -> None:
    path = write(tmp_path)
    problem = only(path, "training.embedding_learning_rate=1e-5")
    assert problem.message == "`training.embedding_learning_rate` is set, and no embeddings are trained"
    check.read(path, ["training.embedding_learning_rate=1e-5", "adapter.train_embeddings=true"])


def test_new_tokens_need_embeddings_that_are_trained(tmp_path: Path) -> None:
    path = write(tmp_path)
    problem = only(path, "model.add_tokens=[<note>]")
    assert problem.message == "`model.add_tokens` adds embeddings, and none are trained"
    assert problem.hint == "set `adapter.train_embeddings: true`, or `adapter.type: full`"
    for trained in ("adapter.type=full", "adapter.train_embeddings=true"):
        found = check.read(path, ["model.add_tokens=[<note>]", trained])
        assert found.model.add_tokens == ("<note>",)
    rate = "training.embedding_learning_rate=1e-6"
    assert check.read(path, ["adapter.train_embeddings=true", rate]).training.embedding_learning_rate == 1e-6


def test_the_memory_of_all_weights_and_of_embeddings_is_counted() -> None:
    adapter, whole, beside = (
        plan_of(*overrides, where="h100:1", shape=LLAMA_8B)
        for overrides in ([], ["adapter={type: full}"], ["adapter.train_embeddings=true"])
    )
    assert whole.trainable == whole.parameters == LLAMA_8B.parameters
    assert adapter.trainable and beside.trainable == adapter.trainable + 2 * LLAMA_8B.vocabulary * LLAMA_8B.hidden
    assert whole.memory and adapter.memory and whole.memory.adapter == 0
    assert whole.memory.weights == adapter.memory.weights
    assert whole.memory.gradients == 4 * LLAMA_8B.parameters  # DeepSpeed sums them in float32
    assert whole.memory.optimizer == 12 * LLAMA_8B.parameters  # Adam's two states and the copy that is stepped on
    assert isinstance(whole.memory, memory.Memory)


@pytest.mark.parametrize("tied", [True, False])
def test_whether_embeddings_are_one_matrix_is_read_from_the_weights(tmp_path: Path, tied: bool) -> None:
    folder = model_files.model(tmp_path, model_files.llama(tied), tie_word_embeddings=tied)
    assert model_files.shape_of(folder).tied is tied
    assert model_files.real().tied


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "stage"), [(1, 1), (2, 3)])
def test_a_run_ends_in_a_model(tiny_model: Path, tmp_path: Path, hub: Any, processes: int, stage: int) -> None:
    changes: dict[str, Any] = {
        **FULL,
        "dataset": {"evaluation": str(DEMO / "evaluation.jsonl"), "limit": 8},
        "evaluation": {"metrics": ["loss", "exact_match"], "samples": 2, "max_new_tokens": 4},
        "deepspeed": {"processes": processes, "zero_stage": stage},
        "output": {"hub": {"repository": f"ann/full-{processes}"}},
    }
    recipe = write_recipe(tmp_path, tiny_model, changes)
    command = tunesmith("train", recipe, environment=hub.environment)
    assert command.code == 0, command.out + command.err
    import torch
    from transformers import AutoModelForCausalLM

    adapter = run_of(recipe) / "adapter"
    assert not (adapter / "adapter_config.json").exists()
    loaded = AutoModelForCausalLM.from_pretrained(adapter, dtype=torch.float32)
    before = load_file(tiny_model / "model.safetensors")
    after = loaded.state_dict()
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved >= {name for name in before if "proj" in name}, "every matrix has learned"
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    scores = json.loads((run_of(recipe) / "evaluation.json").read_text())["metrics"]["loss"]
    assert scores["adapter"] < scores["base"]
    assert [event["step"] for event in events(run_of(recipe))] == [1, 2, 3, 4]
    card = (adapter / "README.md").read_text()
    assert (
        "all of whose weights were trained" in card and "PeftModel" not in card and "library_name: transformers" in card
    )
