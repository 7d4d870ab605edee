"""Recipes with `task: function_calling`: what they may say of their data, and what they get."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_recipe import faults, write

from runner.data.calling.formats import CONVERTERS
from runner.reading import check

RECIPE = "task: function_calling\nmodel: {name: owner/model}\ndataset:\n  train: rows.jsonl\n"
FORMATS = ", ".join(f"`{name}`" for name in CONVERTERS)


def told(path: str, *overrides: str) -> list[tuple[str, str | None]]:
    return [(problem.message, problem.hint) for problem in faults(path, *overrides)]


def test_a_recipe_that_says_nothing_of_formats(tmp_path: Path) -> None:
    read = check.read(write(tmp_path, RECIPE))
    assert (read.task, read.grpo, read.rewards) == ("function_calling", None, ())
    assert [source.format for source in read.dataset.train] == ["calls"]


@pytest.mark.parametrize("name", CONVERTERS)
def test_every_format_can_be_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, RECIPE)
    sources = f"[rows.jsonl, {{path: rows.jsonl, format: auto}}, {{path: rows.jsonl, format: {name}}}]"
    read = check.read(path, ["dataset.format=xlam", f"dataset.train={sources}"])
    assert [source.format for source in read.dataset.train] == ["xlam", "calls", name]


@pytest.mark.parametrize("name", ["prompt_completion", "messages", "prompt"])
def test_formats_of_other_tasks(tmp_path: Path, name: str) -> None:
    hint = f"its formats are {FORMATS}; `auto` tells them apart"
    message = f"`format: {name}` is none of `task: function_calling`"
    assert told(write(tmp_path, RECIPE), f"dataset.format={name}") == [(message, hint)]


@pytest.mark.parametrize("name", CONVERTERS)
def test_formats_with_calls_belong_to_this_task(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, RECIPE.replace("function_calling", "sft"))
    hint = "rows with tools belong to `task: function_calling`"
    assert told(path, f"dataset.train=[{{path: rows.jsonl, format: {name}}}]") == [
        (f"`format: {name}` is none of `task: sft`", hint)
    ]


def test_calls_go_through_the_chat_template(tmp_path: Path) -> None:
    message = "`task: function_calling` needs the chat template, and `dataset.apply_chat_template` is `false`"
    hint = "take it away; `model.chat_template` names a template where the model has none"
    assert told(write(tmp_path, RECIPE), "dataset.apply_chat_template=false") == [(message, hint)]
    for fine in ("true", "auto"):
        check.read(write(tmp_path, RECIPE), [f"dataset.apply_chat_template={fine}", "dataset.learn=last"])


def test_columns_of_other_names(tmp_path: Path) -> None:
    read = check.read(write(tmp_path, RECIPE), ["dataset.columns={messages: chat, tools: functions}"])
    assert read.dataset.train[0].columns == (("messages", "chat"), ("tools", "functions"))


def test_the_command_line_takes_such_a_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, RECIPE)
    done = subprocess.run(
        [sys.executable, "-m", "runner.cli", "validate", path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    schema = json.loads((Path(__file__).parents[2] / "recipes" / "schema.json").read_text())
    assert schema["properties"]["task"]["enum"][-1] == "function_calling"
