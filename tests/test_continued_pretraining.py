"""Continued pretraining from end to end on a tiny model: wrapped and apart, on two processes, killed and gone on."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import ROOT, events, run_of, tunesmith, workers_of, write_recipe
from small_model import MODEL
from test_resume import start
from test_trainer import trained_again, weights

from runner import planfile
from runner.choices import Choice
from runner.signals import Signals
from runner.token_rows import TokenRows
from runner.workers import Stage, run

pytestmark = pytest.mark.slow

TOPICS = ROOT / "recipes" / "python_topics"


def recipe(folder: Path, model: Path, **training: Any) -> Path:
    """A short recipe on Python's help texts."""
    dataset = {"train": str(TOPICS / "train.jsonl"), "evaluation": 0.2, "max_length": 48}
    path = write_recipe(folder, model, {"model": {"dtype": "float32"}, "training": training})
    values = yaml.safe_load(path.read_text()) | {"task": "continued_pretraining", "dataset": dataset}
    del values["evaluation"]
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four steps on one process in float32."""
    written = recipe(tmp_path_factory.mktemp("text"), tiny_model)
    command = tunesmith("train", written)
    assert command.code == 0, command.out + command.err
    return written


def test_a_run_scores_held_out_documents_before_and_after(finished: Path) -> None:
    directory = run_of(finished)
    scores = json.loads((directory / "evaluation.json").read_text())["metrics"]
    assert scores["loss"]["adapter"] < scores["loss"]["base"]
    for which in ("base", "adapter"):
        assert scores["perplexity"][which] == pytest.approx(math.exp(scores["loss"][which]))
    assert (directory / "samples.jsonl").read_text() == ""
    ledger = json.loads((directory / "ledger.json").read_text())
    assert ledger["read"] == ledger["kept"] == sum(split["documents"] for split in ledger["splits"].values()) == 19
    rows = TokenRows(directory / "prepared" / "train")
    assert {row["length"] for row in list(rows)[:-1]} == {48}
    assert all(event["tokens"] >= event["learned_tokens"] for event in events(directory))
    assert "continued-pretraining" in (directory / "adapter" / "README.md").read_text()


def test_a_second_preparation_is_the_first(finished: Path) -> None:
    before = (run_of(finished) / "prepared").stat().st_mtime_ns
    state = json.loads((run_of(finished) / "run.json").read_text())
    (run_of(finished) / "run.json").write_text(json.dumps(state | {"status": "training"}))
    again = tunesmith("train", finished)
    assert again.code == 0, again.out + again.err
    assert (run_of(finished) / "prepared").stat().st_mtime_ns == before


def test_two_processes_train_what_one_does(finished: Path, tmp_path: Path) -> None:
    directory = trained_again(run_of(finished), tmp_path, processes=2)
    for ours, theirs in zip(events(directory), events(run_of(finished)), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["learned_tokens"] == theirs["learned_tokens"]
    expected = weights(run_of(finished))
    for name, tensor in weights(directory).items():
        assert (tensor - expected[name]).abs().max() < 1e-4, name


def test_documents_apart_train_alike_in_rows_and_laid_together(tiny_model: Path, tmp_path: Path) -> None:
    """Laid together is what flash attention does; here the run proves that they do not see each other, and goes on."""
    written = recipe(tmp_path / "rows", tiny_model, packing="document")
    command = tunesmith("train", written)
    assert command.code == 0, command.out + command.err
    ledger = json.loads((run_of(written) / "ledger.json").read_text())["splits"]["train"]
    assert ledger["tokens_read"] == ledger["tokens_trained"] == ledger["learned_tokens"] + ledger["documents"]
    assert ledger["windows"] > ledger["documents"]

    settled = planfile.from_json((run_of(written) / "plan.json").read_text())
    together = tmp_path / "together"
    shutil.copytree(run_of(written) / "prepared", together / "prepared")
    laid = replace(settled, directory=str(together), packing=Choice("padding_free", "flash attention does so"))
    (together / "plan.json").write_text(planfile.to_json(laid))
    run(Stage("train", 1, laid.device, together), Signals(), lambda event: None)
    for ours, theirs in zip(events(together), events(run_of(written)), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_kill_9_costs_one_interval(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    schedule = {"max_steps": 12, "checkpoints": {"every": 2}, "learning_rate": 1e-4}
    whole, killed = (recipe(tmp_path / name, tiny_model, **schedule) for name in ("whole", "killed"))
    for written in (whole, killed):
        values = yaml.safe_load(written.read_text()) | {"adapter": {"type": kind}}
        written.write_text(yaml.safe_dump(values))
    command = tunesmith("train", whole)
    assert command.code == 0, command.out + command.err
    process = start(killed)
    for worker in workers_of(process.pid):
        os.kill(worker, signal.SIGKILL)
    process.communicate()
    assert process.returncode == 4
    again = tunesmith("train", killed)
    assert again.code == 0, again.out + again.err
    assert "going on from step" in again.out
    assert [event["step"] for event in events(run_of(killed))] == list(range(1, 13))
    weights_file = "model.safetensors" if kind == "full" else "adapter_model.safetensors"
    ended = [(run_of(each) / "adapter" / weights_file).read_bytes() for each in (whole, killed)]
    assert ended[0] == ended[1]


def test_a_preview_shows_a_document(finished: Path) -> None:
    shown = tunesmith("preview", finished, "--row", 2)
    assert shown.code == 0, shown.err
    assert "from " in shown.out and "train.jsonl:2" in shown.out and "the first 48 of them shown" in shown.out
    assert "documents are laid end to end and cut into rows of 48 tokens" in shown.out
    missing = tunesmith("preview", finished, "--row", 99)
    assert missing.code == 2 and "there is no document 99" in missing.err


def test_the_recipe_that_ships_lowers_perplexity(tmp_path: Path) -> None:
    """A quarter of its run, on documents that the real model has not been trained on here."""
    recipe = ROOT / "recipes" / "continued_pretraining.yaml"
    settings = {
        "model.name": MODEL,
        "output.directory": tmp_path,
        "training.epochs": "null",
        "training.max_steps": 8,
        "training.evaluate_every": 8,
        "training.checkpoints.every": 8,
    }
    command = tunesmith(
        "train", recipe, *(word for name, value in settings.items() for word in ("--set", f"{name}={value}"))
    )
    assert command.code == 0, command.out + command.err
    perplexity = json.loads((tmp_path / "continued-pretraining" / "evaluation.json").read_text())["metrics"][
        "perplexity"
    ]
    assert perplexity["adapter"] < 0.95 * perplexity["base"], perplexity


@pytest.mark.parametrize(("processes", "stage"), [(1, 1), (2, 3)])
def test_embeddings_are_trained_at_a_rate_of_their_own(
    tiny_model: Path, tmp_path: Path, processes: int, stage: int
) -> None:
    written = recipe(tmp_path, tiny_model, learning_rate=1e-9, embedding_learning_rate=1e-2, warmup_ratio=0.0)
    settings = ("adapter.train_embeddings=true", f"deepspeed.processes={processes}", f"deepspeed.zero_stage={stage}")
    command = tunesmith("train", written, *(word for each in settings for word in ("--set", each)))
    assert command.code == 0, command.out + command.err
    from safetensors.torch import load_file

    base = load_file(tiny_model / "model.safetensors")["model.embed_tokens.weight"]
    learned = load_file(run_of(written) / "adapter" / "adapter_model.safetensors")
    saved = {name: tensor for name, tensor in learned.items() if "lora" not in name}
    assert saved and all(tensor.equal(next(iter(saved.values()))) for tensor in saved.values()), "tied, and saved so"
    for tensor in saved.values():
        assert 1e-3 < (tensor - base).abs().max() < 1e-1
    assert max(tensor.abs().max() for name, tensor in learned.items() if "lora_B" in name) < 1e-6
    settled = json.loads((run_of(written) / "plan.json").read_text())
    trained = sum(tensor.numel() for name, tensor in learned.items() if "lora" in name) + base.numel()
    assert settled["trainable"] == trained
    scores = json.loads((run_of(written) / "evaluation.json").read_text())["metrics"]["loss"]
    assert scores["adapter"] < scores["base"] - 0.05


def test_new_tokens_are_learned_saved_and_read_back(tiny_model: Path, tmp_path: Path) -> None:
    """A word that was three tokens is one: its embedding is learned, once, and its tokenizer is saved."""
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    written = recipe(tmp_path, tiny_model)
    values = yaml.safe_load(written.read_text())
    values["model"]["add_tokens"] = ["__init__", "⟦note⟧"]
    values["adapter"] = {"train_embeddings": True}
    written.write_text(yaml.safe_dump(values))
    command = tunesmith("train", written)
    assert command.code == 0, command.out + command.err
    adapter = run_of(written) / "adapter"
    saved = AutoTokenizer.from_pretrained(adapter)
    before = AutoTokenizer.from_pretrained(tiny_model)
    assert saved("__init__")["input_ids"] == [len(before)] and len(saved) == len(before) + 2
    learned = load_file(adapter / "adapter_model.safetensors")
    assert {len(tensor) for name, tensor in learned.items() if "embed_tokens" in name} == {len(saved)}
    assert json.loads((run_of(written) / "plan.json").read_text())["trainable"] == sum(
        tensor.numel() for name, tensor in learned.items() if "lm_head" not in name
    )
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    base.resize_token_embeddings(max(len(saved), base.get_input_embeddings().num_embeddings))  # as the card says
    adapted = PeftModel.from_pretrained(base, adapter)
    table = adapted.get_base_model().get_output_embeddings().weight
    (embedded,) = (tensor for name, tensor in learned.items() if "embed_tokens" in name)
    assert table.equal(embedded)
    assert "base.resize_token_embeddings" in (adapter / "README.md").read_text()
    again = tunesmith("validate", written, "--set", "adapter.train_embeddings=false")
    assert again.code == 2 and "adds embeddings, and none are trained" in again.err
