"""Training on a tiny model: every ZeRO stage on one and two processes, beside plain TRL, and packed rows apart."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs import events, run_of, tunesmith, write_recipe
from transformers import DefaultFlowCallback, TrainerControl, TrainerState, TrainingArguments

from runner import isolation, plan, planfile, training
from runner.errors import RunError
from runner.reading import check
from runner.signals import Signals
from runner.workers import Stage, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one_process(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on one process in float32, that the others are held against."""
    recipe = write_recipe(tmp_path_factory.mktemp("one"), tiny_model, {"model": {"dtype": "float32"}})
    command = tunesmith("train", recipe)
    assert command.code == 0, command.out + command.err
    return run_of(recipe)


def trained_again(reference: Path, folder: Path, dtype: str = "float32", **deepspeed: Any) -> Path:
    """The training stage alone, with other DeepSpeed settings, on the rows that another run prepared."""
    settled = planfile.from_json((reference / "plan.json").read_text())
    recipe = replace(settled.recipe, deepspeed=replace(settled.recipe.deepspeed, **deepspeed))
    recipe = replace(recipe, model=replace(recipe.model, dtype=dtype))
    recipe = replace(recipe, output=replace(recipe.output, directory=str(folder)))
    from runner import architecture, machine

    again = plan.make(recipe, machine.here(), architecture.read(recipe.model.name), settled.rows)
    directory = Path(again.directory)
    shutil.copytree(reference / "prepared", directory / "prepared")
    (directory / "plan.json").write_text(planfile.to_json(again))
    run(Stage("train", again.processes, again.device, directory), Signals(), lambda event: None)
    return directory


def weights(directory: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    newest = sorted((directory / "checkpoints").iterdir())[-1]
    return load_file(newest / "adapter_model.safetensors")


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_processes_train_what_one_does(one_process: Path, tmp_path: Path, stage: int) -> None:
    directory = trained_again(one_process, tmp_path, processes=2, zero_stage=stage)
    for ours, theirs in zip(events(directory), events(one_process), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["learned_tokens"] == theirs["learned_tokens"]
    expected = weights(one_process)
    for name, tensor in weights(directory).items():
        assert (tensor - expected[name]).abs().max() < 1e-4, name


def test_half_precision_begins_with_a_whole_step(one_process: Path, tmp_path: Path) -> None:
    exact = weights(one_process)
    found = weights(trained_again(one_process, tmp_path, dtype="bfloat16", zero_stage=0))
    for name in exact:
        if "lora_B" in name:  # zeros before the first step, and as far from them as the steps are large
            size, wanted = (each[name].float().abs().mean().item() for each in (found, exact))
            assert size == pytest.approx(wanted, rel=0.03), name


def test_losses_are_those_of_plain_trl(one_process: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The same rows in the same order through TRL's own data path: the same loss at each step."""
    import datasets
    import torch
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from runner import batches
    from runner.tasks.sft import order

    settled = planfile.from_json((one_process / "plan.json").read_text())
    recipe = check.read(str(one_process.parent.parent / "recipe.yaml"))
    from runner.data import dataset

    samples = [sample.example for sample in dataset.read(recipe.dataset, recipe.training.seed).train]
    prepared = datasets.load_from_disk(str(one_process / "prepared" / "train"))
    rows = [
        {
            "prompt": [{"role": "user", "content": samples[row].prompt}],
            "completion": [{"role": "assistant", "content": samples[row].completion}],
        }
        for step in batches.steps(order(settled, prepared))
        for row in step
    ]
    settings = SFTConfig(
        output_dir=str(tmp_path),
        max_steps=4,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=1,
        weight_decay=0.0,
        logging_steps=1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to="none",
        seed=42,
        model_init_kwargs={"dtype": "float32"},
    )
    torch.manual_seed(42)
    trainer = SFTTrainer(
        str(tiny_model),
        settings,
        train_dataset=datasets.Dataset.from_list(rows),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    ours = [event["loss"] for event in events(one_process)]
    assert ours == pytest.approx(theirs, rel=2e-3)
    assert ours[-1] < ours[0]


@pytest.mark.parametrize("packing", ["padding_free", "bfd"])
def test_packed_rows_train_as_single_ones(one_process: Path, tiny_model: Path, tmp_path: Path, packing: str) -> None:
    recipe = write_recipe(
        tmp_path,
        tiny_model,
        {
            "model": {"dtype": "float32"},
            "training": {"packing": packing, "max_steps": 4 if packing == "padding_free" else 1},
            "dataset": {"max_length": 256},
        },
    )
    command = tunesmith("train", recipe)
    assert command.code == 0, command.out + command.err
    steps = events(run_of(recipe))
    if packing == "padding_free":
        assert [each["loss"] for each in steps] == pytest.approx(
            [each["loss"] for each in events(one_process)], rel=1e-4
        )
    else:  # more rows a step, by TRL's best fit
        assert steps[0]["learned_tokens"] > events(one_process)[0]["learned_tokens"]


def test_a_leak_between_packed_rows_is_refused(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32, attn_implementation="sdpa")
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    rows = [
        {"input_ids": list(range(start, start + 30)), "labels": list(range(start, start + 30))} for start in (9, 70)
    ]

    def leaking(pieces: list[dict[str, list[int]]]) -> dict[str, Any]:
        """Lays rows end to end, and does not say where each begins."""
        batch = collate(pieces)
        return {name: batch[name] for name in ("input_ids", "labels")} | {"position_ids": torch.arange(60)[None]}

    def loss(batch: dict[str, Any]) -> float:
        with torch.no_grad():
            return float(base(**batch, use_cache=False).loss)

    isolation.prove(*rows, 1000, collate, loss)
    with pytest.raises(RunError, match="packed rows see each other"):
        isolation.prove(*rows, 1000, leaking, loss)


@pytest.mark.parametrize("kind", ["dora", "rslora"])
def test_other_adapters_end_well_and_go_on(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    """Each is trained, then continued as the start of another run, whose first loss is where the first one ended."""
    recipe = write_recipe(
        tmp_path / "first",
        tiny_model,
        {"adapter": {"type": kind, "dropout": 0.1, "target_modules": "attention"}},
    )
    command = tunesmith("train", recipe)
    assert command.code == 0, command.out + command.err
    config = json.loads((run_of(recipe) / "adapter" / "adapter_config.json").read_text())
    assert config["use_dora"] is (kind == "dora") and config["use_rslora"] is (kind == "rslora")
    assert sorted(config["target_modules"])[:2] == ["c_attn", "k_proj"] or "q_proj" in config["target_modules"]
    if kind == "dora":
        return
    second = write_recipe(
        tmp_path / "second",
        tiny_model,
        {
            "adapter": {"continue_from": str(run_of(recipe) / "adapter")},
            "training": {"max_steps": 1, "learning_rate": 1e-9},
        },
    )
    command = tunesmith("train", second)
    assert command.code == 0, command.out + command.err
    settled = planfile.from_json((run_of(second) / "plan.json").read_text())
    assert (settled.recipe.adapter.type, settled.recipe.adapter.dropout) == (kind, 0.1)
    first, continued = (json.loads((run_of(each) / "run.json").read_text()) for each in (recipe, second))
    assert continued["result"]["loss"] == pytest.approx(first["result"]["loss"], rel=1e-3)


def test_early_stopping_ends_a_run_that_does_not_improve(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path,
        tiny_model,
        {
            "dataset": {"evaluation": 0.25},
            "training": {
                "max_steps": 12,
                "learning_rate": 1e-9,
                "evaluate_every": 1,
                "early_stopping": {"patience": 2, "min_delta": 0.5},
            },
        },
    )
    command = tunesmith("train", recipe)
    assert command.code == 0, command.out + command.err
    assert events(run_of(recipe))[-1]["step"] < 12


def test_the_head_for_learned_tokens_has_the_whole_heads_loss(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from runner import learned_head

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    ids = torch.randint(10, 1000, (3, 40))
    labels = ids.clone()
    labels[:, :25] = -100
    labels[2] = -100
    expected = base(input_ids=ids, labels=labels).loss * 30
    expected.backward()
    gradient = base.model.layers[0].mlp.up_proj.weight.grad.clone()
    base.zero_grad()
    assert learned_head.fits(base)
    learned_head.add(base)
    loss = base(input_ids=ids, labels=labels, learned_only=True)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(base.model.layers[0].mlp.up_proj.weight.grad, gradient, atol=1e-5)
    nothing = base(input_ids=ids, labels=torch.full_like(labels, -100), learned_only=True)
    nothing.backward()
    assert nothing.item() == 0.0


def test_the_last_step_is_logged_whatever_its_number(tmp_path: Path) -> None:
    reporter = training.Reporter(lambda first, last, logs: {}, steps_an_epoch=5, tell=lambda event: None)
    settings, control = TrainingArguments(output_dir=str(tmp_path), logging_steps=2, use_cpu=True), TrainerControl()
    asked = []
    for step in range(1, 6):
        state = TrainerState(global_step=step, max_steps=5, logging_steps=2)
        control.should_log = False
        DefaultFlowCallback().on_step_end(settings, state, control)
        reporter.on_step_end(settings, state, control)
        asked.append(control.should_log)
    assert asked == [False, True, False, True, True]
