"""What `--set` lays over a recipe, and what is said where it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_recipe import SMALLEST, faults, only, write

from runner import errors
from runner.reading import check


def test_overrides_are_typed_and_shown_as_such(tmp_path: Path) -> None:
    path = write(tmp_path, SMALLEST + "training: {epochs: 1, seed: 3}\n")
    read = check.read(path, ["training.epochs=2", "training.epochs=4", "evaluation.metrics=[loss]", "name='7'"])
    assert (read.training.epochs, read.training.seed, read.evaluation.metrics, read.name) == (4.0, 3, ("loss",), "7")
    error = errors.RecipeError(only(path, "training.epochs=three"))
    assert errors.report(error) == (
        "error: `training.epochs` must be a number, found the text `three`\n"
        " --> --set:1:17\n"
        "  |\n"
        "1 | training.epochs=three\n"
        "  |                 ^^^^^"
    )


@pytest.mark.parametrize(
    ("override", "message", "column"),
    [
        ("training.epoch=2", "unknown key `epoch` in `training`", 10),
        ("training.epoch=null", "unknown key `epoch` in `training`", 10),
        ("trainin.epochs=2", "unknown key `trainin`", 1),
        ("training.epochs", "the override has no `=`", 1),
        ("=2", "the override names no key before its `=`", 1),
        ("training..epochs=2", "a key is missing at the `.`", 1),
        ("training.epochs=", "`training.epochs` is given no value", 1),
        ("name=#x", "the value of `name` reads as a comment", 6),
        ("training.epochs=[1", "the `[` that opens here is not closed", 17),
        ("training.epochs=&a 1", "`&a` is an anchor, and a recipe has none", 17),
        ("name.x=1", "`name` is text and has no key `x`", 6),
        ("dataset.train.1.path=x", "`dataset.train` has 1 item, counted from 0, and no `1`", 15),
        ("dataset.train.first=x", "`dataset.train` is a list, and `first` is no number", 15),
        ("dataset.train.0.wieght=1", "unknown key `wieght` in `dataset.train[0]`", 17),
        ("dataset.train.0=null", "`dataset.train[0]` has no value", 17),
        ("dataset.train=[{path: rows.jsonl, wieght: 1}]", "unknown key `wieght` in `dataset.train[0]`", 35),
        ("model.name=null", "missing key `name` in `model`", 1),
        ("output.hub.private=false", "missing key `repository` in `output.hub`", 8),
        ("name=\udce9", "the character U+DCE9 cannot stand in a recipe", 6),
    ],
)
def test_faults_in_overrides(tmp_path: Path, override: str, message: str, column: int) -> None:
    text = "task: sft\nname: x\nmodel:\n  name: owner/model\ndataset:\n  train:\n    - path: rows.jsonl\n"
    problem = only(write(tmp_path, text), override)
    assert problem.place is not None
    assert (problem.message, problem.place.column) == (message, column)
    assert errors.report(errors.RecipeError(problem)).encode()


def test_an_override_of_null_puts_the_default_back(tmp_path: Path) -> None:
    path = write(tmp_path, SMALLEST + "training: {epochs: 1, warmup_ratio: 0.5}\n")
    assert check.read(path, ["training.epochs=null"]).training.epochs == 3.0
    assert check.read(path, ["training.epochs=null", "training.max_steps=5"]).training.max_steps == 5
    assert check.read(path, ["training=null"]).training.warmup_ratio == 0.03
    assert check.read(path, ["training.early_stopping.patience=~"]).training.early_stopping is None
    assert check.read(path, ["output.hub.private=null"]).output.hub is None


def test_an_item_of_a_list_can_be_overridden(tmp_path: Path) -> None:
    text = SMALLEST.replace("rows.jsonl", "[{path: rows.jsonl, weight: 2}]")
    assert check.read(write(tmp_path, text), ["dataset.train.0.weight=0.5"]).dataset.train[0].weight == 0.5


def test_all_faults_of_overrides_come_at_once(tmp_path: Path) -> None:
    assert len(faults(write(tmp_path), "a", "training.epochs=[", "=1")) == 3
    assert len(faults(write(tmp_path), "training.epochs=x", "traning.seed=1")) == 2
