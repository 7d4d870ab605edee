"""Real runs on a GPU: every precision, sharding, packing and task, and what happens when memory runs out."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from runs import Command, events, run_of, tunesmith, write_recipe

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

STEPS = 12
LEARNED = 0.8  # of the loss is left at most: a random model has little that an adapter could use
TRAINING = {
    "max_steps": STEPS,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "scheduler": "constant",
    "warmup_ratio": 0.0,
    "checkpoints": {"every": STEPS},
}
NEEDED = {
    "nf4": "bitsandbytes",
    "int8": "bitsandbytes",
    "flash attention": "flash_attn",
}
# What is laid over the recipe, and how far the losses may be from those of float32 (for the same rows in each step).
CASES: dict[str, tuple[Mapping[str, Mapping[str, Any]], float | None]] = {
    "as planned": ({}, 0.02),
    "zero 0": ({"deepspeed": {"zero_stage": 0}}, 0.02),
    "zero 2": ({"deepspeed": {"zero_stage": 2}}, 0.02),
    "zero 3": ({"deepspeed": {"zero_stage": 3}}, 0.02),
    "offload optimizer": ({"deepspeed": {"offload": "optimizer"}}, 0.02),
    "offload parameters": ({"deepspeed": {"offload": "parameters"}}, 0.02),
    "float16": ({"model": {"dtype": "float16"}}, 0.02),
    "eager": ({"model": {"attention": "eager"}}, 0.02),
    "checkpointing": ({"training": {"gradient_checkpointing": True}}, 0.02),
    "dora": ({"adapter": {"type": "dora", "rank": 8}}, None),
    "full": ({"adapter": {"type": "full"}, "training": {"learning_rate": 5e-4}}, None),
    "nf4": ({"adapter": {"type": "qlora", "rank": 8}}, 0.1),
    "int8": ({"model": {"quantization": "int8"}}, 0.02),
    "flash attention": ({"model": {"attention": "flash_attention_2"}}, 0.02),
}


def changed(rows: Path, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    blocks: dict[str, dict[str, Any]] = {
        "dataset": {"train": str(rows), "limit": 96, "evaluation": 0.1},
        "training": dict(TRAINING),
        "evaluation": {"samples": 4, "metrics": ["loss", "exact_match"], "max_new_tokens": 8},
        "adapter": {"rank": 8} if "adapter" not in changes else {},
    }
    for name, values in changes.items():
        blocks[name] = {**blocks.get(name, {}), **values}
    return blocks


def trained(recipe: Path) -> Path:
    command = tunesmith("train", recipe)
    assert command.code == 0, _told(command, recipe)
    return run_of(recipe)


def _told(command: Command, recipe: Path) -> str:
    logs = sorted((run_of(recipe) / "logs").glob("*.log")) if (run_of(recipe) / "logs").is_dir() else []
    return command.out + command.err + "".join(log.read_text()[-3000:] for log in logs)


def losses(directory: Path) -> list[float]:
    return [event["loss"] for event in events(directory)]


@pytest.fixture(scope="session")
def exact(model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in float32."""
    folder = tmp_path_factory.mktemp("exact")
    return trained(write_recipe(folder, model, changed(rows, {"model": {"dtype": "float32"}})))


def test_float32_agrees_with_a_cpu(exact: Path, model: Path, rows: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, model, changed(rows, {"model": {"dtype": "float32"}}))
    command = tunesmith("train", recipe, environment={"CUDA_VISIBLE_DEVICES": ""})
    assert command.code == 0, _told(command, recipe)
    assert losses(run_of(recipe)) == pytest.approx(losses(exact), abs=2e-3)
    settled = json.loads((exact / "plan.json").read_text())
    assert settled["device"] == "cuda" and settled["precision"]["value"] == "float32"
    assert min(losses(exact)[-3:]) < losses(exact)[0] * LEARNED


@pytest.mark.parametrize("case", CASES)
def test_a_run_learns(case: str, exact: Path, model: Path, rows: Path, tmp_path: Path) -> None:
    if case in NEEDED and importlib.util.find_spec(NEEDED[case]) is None:
        pytest.skip(f"`{NEEDED[case]}` is not installed")
    changes, within = CASES[case]
    directory = trained(write_recipe(tmp_path, model, changed(rows, changes)))
    found = losses(directory)
    assert len(found) == STEPS and min(found[-3:]) < found[0] * LEARNED, found
    if within is not None:
        assert found == pytest.approx(losses(exact), abs=within)
    settled = json.loads((directory / "plan.json").read_text())
    assert settled["device"] == "cuda"
    if case == "flash attention":
        assert settled["packing"]["value"] == "padding_free"
    evaluated = json.loads((directory / "evaluation.json").read_text())["metrics"]
    assert evaluated["loss"]["adapter"]["value"] < evaluated["loss"]["base"]["value"] * LEARNED, evaluated


def test_text_is_learned(model: Path, rows: Path, tmp_path: Path) -> None:
    prompts = [json.loads(line)["prompt"] for line in rows.read_text().splitlines()]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": prompt}) + "\n" for prompt in prompts))
    packing = "document" if importlib.util.find_spec("flash_attn") else "wrapped"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"task: continued_pretraining\nmodel: {{name: {model}}}\nadapter: {{rank: 8, train_embeddings: true}}\n"
        "dataset: {train: texts.jsonl, evaluation: 0.2, max_length: 256}\n"
        f"training: {{max_steps: 12, batch_size: 8, learning_rate: 2.0e-3, packing: {packing}}}\n"
        f"output: {{directory: {tmp_path}/outputs}}\n"
    )
    found = losses(trained(recipe))
    assert found[-1] < found[0] * 0.9, found


def test_completions_are_sampled_and_learned_from(model: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"prompt": f"Say {n}."}) + "\n" for n in range(16)))
    (tmp_path / "reward.py").write_text(
        "def vowels(prompt, completion, row):\n"
        "    letters = [each for each in completion.lower() if each.isalpha()]\n"
        "    return sum(each in 'aeiou' for each in letters) / max(len(letters), 1)\n"
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"task: grpo\nmodel: {{name: {model}}}\nadapter: {{rank: 16}}\ndataset: {{train: rows.jsonl}}\n"
        "grpo: {num_generations: 8, max_completion_length: 32, engine: transformers}\n"
        "rewards: [{file: reward.py}]\n"
        "training: {max_steps: 6, batch_size: 64, learning_rate: 2.0e-3, scheduler: constant, warmup_ratio: 0.0}\n"
        f"output: {{directory: {tmp_path}/outputs}}\n"
    )
    found = events(trained(recipe))
    assert all(event["gradient_norm"] > 0 and event["without_signal"] < 1 for event in found), found
    assert all(0 < event["reward"] < 1 for event in found), found


def test_a_run_that_was_stopped_goes_on(exact: Path, model: Path, rows: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, model, changed(rows, {"model": {"dtype": "float32"}}))
    process = subprocess.Popen([sys.executable, "-m", "runner.cli", "train", str(recipe)], stdout=subprocess.DEVNULL)
    metrics = run_of(recipe) / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and events(run_of(recipe))):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75
    assert len(losses(run_of(recipe))) < STEPS
    assert losses(trained(recipe)) == pytest.approx(losses(exact), abs=1e-5)


def test_too_large_a_step_is_told(model: Path, tmp_path: Path) -> None:
    text = "one two three four five six seven eight nine ten " * 780
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"{n} {text}", "completion": "yes"}) + "\n" for n in range(256))
    )
    changes = {
        "dataset": {"train": str(tmp_path / "rows.jsonl"), "limit": 256},
        "training": {"max_steps": 1, "batch_size": 256, "micro_batch_size": 256, "gradient_checkpointing": False},
    }
    recipe = write_recipe(tmp_path, model, changes)
    command = tunesmith("train", recipe)
    assert command.code == 4, _told(command, recipe)
    assert "ran out of memory" in command.err and "`training.micro_batch_size`" in command.err, command.err


def test_doctor_names_the_gpu() -> None:
    command = tunesmith("doctor")
    assert command.code == 0, command.out + command.err
    assert "NVIDIA" in command.out and "has used each" in " ".join(command.out.split()), command.out
