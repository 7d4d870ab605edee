"""What continued pretraining demands of the settings beside it, and what it settles by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from settled import CPU, LLAMA_8B
from small_recipe import faults, only, write

from runner import machine, plan
from runner.choices import Choice
from runner.plan import Plan
from runner.reading import check, task_rules

TEXT = "task: continued_pretraining\nmodel: {name: owner/model}\ndataset:\n  train: rows.jsonl\n"


def test_what_is_settled_without_a_word(tmp_path: Path) -> None:
    recipe = check.read(write(tmp_path, TEXT))
    assert recipe.dataset.train[0].format == "text"
    assert recipe.evaluation.metrics == ("loss", "perplexity")
    assert (recipe.training.packing, recipe.dataset.overflow) == ("auto", "split")
    assert check.read(write(tmp_path, TEXT), ["training.packing=document", "dataset.overflow=drop"])
    assert check.read(write(tmp_path, TEXT), ["dataset.format=text", "dataset.columns={text: body, split: part}"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset.learn", "all"),
        ("dataset.apply_chat_template", "false"),
        ("evaluation.samples", "4"),
        ("evaluation.max_new_tokens", "8"),
    ],
)
def test_settings_that_mean_nothing(tmp_path: Path, key: str, value: str) -> None:
    problem = only(write(tmp_path, TEXT), f"{key}={value}")
    assert problem.message == f"`{key}` means nothing to `task: continued_pretraining`"
    assert problem.hint == task_rules.NOT_TEXT[key]


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        (
            "dataset.overflow=drop", "`dataset.overflow` means nothing where rows are wrapped",
            "documents are joined, and every token has a place; `training.packing: document` keeps them apart",
        ),
        (
            "training.packing=bfd", "`packing: bfd` is none of `task: continued_pretraining`",
            "`wrapped` joins documents and cuts them into full rows, `document` keeps them apart",
        ),
        (
            "evaluation.metrics=[exact_match]", "the metric `exact_match` is none of `task: continued_pretraining`",
            "its rows are texts without an answer: write `metrics: [loss, perplexity]`",
        ),
        (
            "dataset.format=messages", "`format: messages` is none of `task: continued_pretraining`",
            "its rows have a `text`; prompts, completions and messages belong to `task: sft`",
        ),
        (
            "dataset.columns={prompt: question}", "`dataset.columns.prompt` is of no use to `format: text`",
            "take it away, or set another format",
        ),
    ],
)  # fmt: skip
def test_settings_of_other_tasks(tmp_path: Path, override: str, message: str, hint: str) -> None:
    problem = only(write(tmp_path, TEXT), override)
    assert (problem.message, problem.hint) == (message, hint)


@pytest.mark.parametrize("packing", ["wrapped", "document"])
def test_documents_are_packed_in_this_task_alone(tmp_path: Path, packing: str) -> None:
    problem = only(write(tmp_path), f"training.packing={packing}")
    assert problem.message == f"`packing: {packing}` is none of `task: sft`"
    assert problem.hint == "it packs the documents of `task: continued_pretraining`"
    assert [each.message for each in faults(write(tmp_path), "dataset.format=text")] == [
        "`format: text` is none of `task: sft`"
    ]


def settled(folder: Path, *overrides: str, where: machine.Machine = CPU) -> Plan:
    return plan.make(check.read(write(folder, TEXT), overrides), where, LLAMA_8B)


def test_rows_are_as_long_as_a_batch_of_them_allows(tmp_path: Path) -> None:
    length = settled(tmp_path).max_length
    assert length.value == 2048 and "the model can take 8192" in length.reason
    assert settled(tmp_path, "dataset.max_length=4096").max_length == Choice(4096, "the recipe says so")


def test_how_documents_are_packed(tmp_path: Path) -> None:
    gpu = machine.named("h100")
    assert settled(tmp_path).packing == Choice("wrapped", "documents are joined and cut into full rows")
    assert settled(tmp_path, "training.packing=wrapped").packing == Choice("wrapped", "the recipe says so")
    assert settled(tmp_path, "training.packing=document").packing.value == "none"
    flash = settled(tmp_path, "training.packing=document", where=gpu)
    assert flash.attention.value == "flash_attention_2" and flash.packing.value == "padding_free"
