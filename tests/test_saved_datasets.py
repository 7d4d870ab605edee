"""Directories that `datasets` saved, and data sets of the Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from samples import pair, prompts, read, source, told, write

from runner import recipe
from runner.data import dataset

pytestmark = pytest.mark.usefixtures("here")


def saved(directory: str, rows: Sequence[dict[str, Any]]) -> None:
    """A directory as `datasets` saves it, in two files."""
    Path(directory).mkdir(parents=True)
    names = []
    for index, part in enumerate((rows[:2], rows[2:])):
        names.append(f"data-{index:05d}-of-00002.arrow")
        table = pyarrow.Table.from_pylist(list(part))
        with (
            pyarrow.OSFile(f"{directory}/{names[-1]}", "wb") as file,
            pyarrow.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    Path(directory, "state.json").write_text(json.dumps(state))


def test_a_saved_directory_is_read_file_by_file() -> None:
    saved("kept", [pair(1), pair(2), pair(3)])
    data = read("kept")
    assert [str(sample.place) for sample in data.train] == [
        "kept/data-00000-of-00002.arrow row 1",
        "kept/data-00000-of-00002.arrow row 2",
        "kept/data-00001-of-00002.arrow row 1",
    ]
    assert prompts(data.train) == ["p1", "p2", "p3"] and len(data.sha256) == 2


def test_what_datasets_saves_is_what_is_read() -> None:
    import datasets

    parts = datasets.DatasetDict(
        {
            "train": datasets.Dataset.from_list([pair(number) for number in range(8)]),
            "test": datasets.Dataset.from_list([pair(9), pair(8)]),
        }
    )
    parts["train"] = parts["train"].filter(lambda values: values["prompt"] != "p3", keep_in_memory=True)
    parts.save_to_disk("kept")
    data = read("kept", [source("kept", split="test")])
    assert prompts(data.train) == ["p0", "p1", "p2", "p4", "p5", "p6", "p7"]
    assert prompts(data.evaluation) == ["p9", "p8"]


def test_a_saved_directory_says_which_splits_it_has() -> None:
    saved("kept/train", [pair(1), pair(2), pair(3)])
    saved("kept/test", [pair(1), pair(2), pair(3)])
    Path("kept/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    hint = "set `split` to one of `train`, `test`"
    assert len(read("kept").train) == 3
    assert told([source("kept", split="dev")]) == [("kept", "there is no split `dev` in `kept`", hint)]
    assert told("kept", [source("kept")]) == [("kept", "`kept` has several splits", hint)]
    message = "`kept/test` has no splits to take `test` from"
    assert told([source("kept/test", split="test")]) == [("kept/test", message, "leave out `split`")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "`kept` is an empty directory"),
        ({"a.jsonl": "{}"}, "`kept` is a directory, and not one that `datasets` saved"),
        ({"state.json": "{}"}, "`kept` is not a directory that `datasets` saved whole"),
        ({"state.json": '{"_data_files": [7]}'}, "`kept` is not a directory that `datasets` saved whole"),
        ({"state.json": "[]"}, "`kept` cannot be read: `state.json` is not an object"),
        ({"state.json": "{"}, "`kept` cannot be read: Expecting property name"),
        ({"state.json": '{"_data_files": [{"filename": "../x.arrow"}]}'}, "`kept/x.arrow` does not exist"),
        ({"dataset_dict.json": '{"splits": []}'}, "`kept` is not a directory that `datasets` saved whole"),
        ({"dataset_dict.json": '{"splits": ["train"]}'}, "`kept/train` cannot be read: No such file or directory"),
        ({"dataset_dict.json": '{"splits": [".."]}'}, "`kept/..` is a directory, and not one that `datasets` saved"),
    ],
)
def test_a_directory_that_is_no_dataset_is_told(files: dict[str, str], message: str) -> None:
    Path("kept").mkdir()
    for name, text in files.items():
        Path("kept", name).write_text(text)
    ((_, found, _),) = told("kept")
    assert found.startswith(message)


def test_a_split_of_a_plain_file_is_told() -> None:
    write("a.jsonl", [pair(1)])
    message = "`split: train` picks a part of a Hub or saved dataset, and `a.jsonl` is neither"
    assert told([source("a.jsonl", split="train")]) == [("a.jsonl", message, "mark rows with a column `split` instead")]


def test_a_hub_dataset_for_evaluation_has_to_name_its_split() -> None:
    write("a.jsonl", [pair(1)])
    hub = recipe.Source("owner/name", 1.0, None, (), "auto")
    message = "it is not said which split of Hub dataset `owner/name` to evaluate on"
    assert told("a.jsonl", [hub]) == [("owner/name", message, "set `split`, to `test` for example")]


def test_a_hub_dataset_that_cannot_be_loaded_is_told() -> None:
    program = """
from runner import errors, recipe
from runner.data import dataset
for item in dataset.rows([recipe.Source("nobody/nothing", 1.0, None, (), "auto")]):
    print(item.whole, errors.as_json(item.problem))
"""
    root = str(Path(dataset.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "HF_HUB_OFFLINE": "1", "HF_HOME": str(Path("cache").absolute())}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    whole, _, text = done.stdout.partition(" ")
    problem = json.loads(text)
    assert whole == "True" and problem["file"] == "nobody/nothing[train]"
    assert problem["message"].startswith("Hub dataset `nobody/nothing`, split `train`, cannot be loaded: ")
    assert problem["hint"].startswith("the Hub is switched off here by `HF_HUB_OFFLINE`")
