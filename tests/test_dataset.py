"""From the sources of a recipe to samples: what is taken, held out and refused, and that no row vanishes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import recipe
from runner.data import choice, dataset
from runner.data.dataset import Data
from runner.data.formats import Chat, Instruction
from runner.data.rows import Fault, Row
from runner.errors import DataError, Place, report

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def pair(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"p{number}", "completion": f"c{number}", **more}


def write(name: str, rows: Sequence[Any]) -> None:
    """JSON lines; a text stands on its line as it is."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def source(path: str, **given: Any) -> recipe.Source:
    settled: dict[str, Any] = {"weight": 1.0, "split": None, "columns": (), "format": "auto", **given}
    return recipe.Source(path=str(Path(path).absolute()), **settled)


def read(
    train: Sequence[recipe.Source] | str,
    evaluation: Sequence[recipe.Source] = (),
    seed: int = 1,
    **given: Any,
) -> Data:
    settled: dict[str, Any] = {
        "evaluation_fraction": None, "apply_chat_template": "auto", "learn": "completions", "max_length": None,
        "overflow": "error", "on_bad_row": "error", "shuffle": True, "limit": None, **given,
    }  # fmt: skip
    sources = (source(train),) if isinstance(train, str) else tuple(train)
    data = dataset.read(recipe.Dataset(train=sources, evaluation=tuple(evaluation), **settled), seed)
    for file in data.ledger.files:
        assert file.read == file.kept + sum(file.dropped.values())
    assert len(data.train) + len(data.evaluation) == data.ledger.kept + data.ledger.repeats
    return data


def refused(*given: Any, **named: Any) -> DataError:
    with pytest.raises(DataError) as raised:
        read(*given, **named)
    return raised.value


def told(*given: Any, **named: Any) -> list[tuple[str, str, str | None]]:
    error = refused(*given, **named)
    assert error.total == len(error.problems)
    return [(str(problem.place), problem.message, problem.hint) for problem in error.problems]


def prompts(samples: Sequence[dataset.Sample]) -> list[str]:
    return [sample.example.prompt for sample in samples if isinstance(sample.example, Instruction)]


def test_samples_come_in_order_with_their_places_and_hashes() -> None:
    write("data/a.jsonl", [pair(1), pair(2)])
    data = read("data/a.jsonl")
    assert data.train == [
        dataset.Sample(Instruction("p1", "c1"), Place("data/a.jsonl", 1)),
        dataset.Sample(Instruction("p2", "c2"), Place("data/a.jsonl", 2)),
    ]
    assert data.evaluation == [] and data.rejected == []
    assert data.ledger.files == (dataset.FileLedger("data/a.jsonl", 2, 2, {}),)
    assert data.sha256 == {"data/a.jsonl": hashlib.sha256(Path("data/a.jsonl").read_bytes()).hexdigest()}


def test_rows_are_read_without_being_checked() -> None:
    write("a.jsonl", [pair(1, split="train"), "[", {"text": 3}])
    first, fault, last = dataset.rows([source("a.jsonl")])
    assert first == Row(pair(1, split="train"), Place("a.jsonl", 1), "train", json.dumps(pair(1, split="train")))
    assert isinstance(fault, Fault) and not fault.whole
    assert isinstance(last, Row) and last.values == {"text": 3} and last.split is None


def test_a_pattern_takes_its_files_in_the_order_of_their_names() -> None:
    for name, number in (("b", 2), ("a", 1), ("deep/c", 3)):
        write(f"data/{name}.jsonl", [pair(number)])
    assert prompts(read("data/*.jsonl").train) == ["p1", "p2"]
    assert prompts(read("data/**/*.jsonl").train) == ["p1", "p2", "p3"]
    write("data/[1].jsonl", [pair(4)])
    assert prompts(read("data/[1].jsonl").train) == ["p4"]


def test_a_pattern_that_matches_nothing_or_more_than_data_is_told() -> None:
    assert told("data/*.jsonl") == [("data/*.jsonl", "no file matches `data/*.jsonl`", None)]
    write("data/a.jsonl", [pair(1)])
    write("data/notes.md", ["notes"])
    assert [message for _, message, _ in told("data/*")] == ["`data/notes.md` is of no known type"]


def test_columns_are_renamed_even_where_they_trade_places() -> None:
    write("a.jsonl", [{"question": "q", "answer": "a", "prompt": "old"}])
    columns = (("prompt", "question"), ("completion", "answer"))
    (row,) = dataset.rows([source("a.jsonl", columns=columns)])
    assert isinstance(row, Row) and row.values == {"prompt": "q", "completion": "a"}
    assert read([source("a.jsonl", columns=columns)]).train[0].example == Instruction("q", "a")
    write("a.jsonl", [pair(1)])
    columns = (("prompt", "completion"), ("completion", "prompt"))
    assert read([source("a.jsonl", columns=columns)]).train[0].example == Instruction("c1", "p1")


def test_a_renamed_column_that_is_not_there_is_told_once_for_a_table() -> None:
    Path("a.csv").write_text("prompt,answer\na,b\nc,d\n")
    columns = (("completion", "anwser"),)
    message = "`columns` names column `anwser`, and the file has `prompt`, `answer`"
    assert told([source("a.csv", columns=columns)]) == [("a.csv:2", message, "a similar column exists: `answer`")]


def test_csv_without_a_header_is_told_at_its_first_line() -> None:
    Path("a.csv").write_text("Say hello,Bonjour\nSay bye,Au revoir\nSay yes,Oui\n")
    message = "the file has neither `prompt` and `completion` nor `messages`; it has `Say hello`, `Bonjour`"
    assert told("a.csv") == [("a.csv:1", message, "the first line of a CSV file names its columns")]


def test_a_table_that_lacks_a_column_is_told_once() -> None:
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["a"] * 50, "response": ["b"] * 50}), "a.parquet")
    message = "missing column `completion`; the file has `prompt`, `response`"
    hint = "if these columns hold it, set `columns: {completion: response}`"
    assert told("a.parquet", on_bad_row="skip") == [("a.parquet", message, hint)]


def test_the_first_good_row_settles_the_format_of_its_source() -> None:
    write("a.jsonl", [{"text": "x"}, pair(1), CHAT])
    found = told("a.jsonl")
    assert [place for place, _, _ in found] == ["a.jsonl:1", "a.jsonl:3"]
    assert found[1][1] == "the row is in format `messages`, and its source in `prompt_completion`"
    write("a.jsonl", [pair(1)])
    write("b.jsonl", [CHAT])
    assert isinstance(read([source("a.jsonl"), source("b.jsonl")]).train[1].example, Chat)


def test_messages_in_csv_and_parquet() -> None:
    Path("a.csv").write_text('messages\n"' + json.dumps(CHAT["messages"]).replace('"', '""') + '"\n')
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([CHAT, {"messages": [{"role": "user", "content": "x", "name": "Ann"}]}]), "b.parquet"
    )
    data = read([source("a.csv"), source("b.parquet")], on_bad_row="skip")
    assert data.train[0].example == data.train[1].example
    (rejected,) = data.rejected
    assert str(rejected.place) == "b.parquet row 2" and json.loads(rejected.raw)["messages"][0]["name"] == "Ann"


def test_faults_of_all_sources_come_together_files_first() -> None:
    write("a.jsonl", [pair(1), "[", pair(2, completion="")])
    write("b.jsonl", [{"prompt": 1, "completion": 2}])
    found = told([source("a.jsonl"), source("none.jsonl")], [source("b.jsonl"), source("none.json")])
    assert [place for place, _, _ in found] == [
        "none.jsonl", "none.json", "a.jsonl:2:2", "a.jsonl:3", "b.jsonl:1", "b.jsonl:1"
    ]  # fmt: skip


def test_the_first_twenty_problems_are_told_and_all_are_counted() -> None:
    write("a.jsonl", [pair(number, completion="") for number in range(1000)])
    error = refused("a.jsonl")
    assert (len(error.problems), error.total, error.exit_code) == (20, 1000, 2)
    assert [problem.place.line for problem in error.problems if problem.place] == list(range(1, 21))
    assert report(error).endswith("Found 1000 problems; the first 20 are shown")


def test_bad_rows_are_left_out_and_kept_as_rejected_where_that_is_asked() -> None:
    write("a.jsonl", [pair(1), '{"prompt": ', pair(2, completion=""), {"prompt": 1, "completion": 2}, pair(3)])
    data = read("a.jsonl", on_bad_row="skip")
    assert prompts(data.train) == ["p1", "p3"]
    assert [(str(row.place), row.problem.message, row.raw) for row in data.rejected] == [
        ("a.jsonl:2:12", "not valid JSON: the text ends before its value is complete", '{"prompt": '),
        ("a.jsonl:3", "`completion` is empty", json.dumps(pair(2, completion=""))),
        ("a.jsonl:4", "`prompt` is a number, not text; `completion` is a number, not text",
         '{"prompt": 1, "completion": 2}'),
    ]  # fmt: skip
    assert data.ledger.files == (dataset.FileLedger("a.jsonl", 5, 2, {"unreadable": 1, "invalid": 2}),)
    assert data.ledger.dropped == {"unreadable": 1, "invalid": 2}


def test_a_file_that_cannot_be_read_is_never_left_out() -> None:
    write("a.jsonl", [pair(1)])
    Path("b.jsonl").write_bytes(json.dumps(pair(2)).encode() + b"\n\xff\n")
    found = told([source("a.jsonl"), source("b.jsonl")], on_bad_row="skip")
    assert [place for place, _, _ in found] == ["b.jsonl:2:1"]


def test_a_split_without_any_row_is_told_with_the_first_reasons() -> None:
    write("a.jsonl", [pair(1, completion=""), pair(2, completion=" ")])
    found = told("a.jsonl", on_bad_row="skip")
    assert found == [
        ("a.jsonl", "no row is left for `train`, of 2 that were read", None),
        ("a.jsonl:1", "`completion` is empty", None),
        ("a.jsonl:2", "`completion` is only white space", None),
    ]
    write("b.jsonl", [pair(1)])
    found = told("b.jsonl", [source("a.jsonl")], on_bad_row="skip")
    assert found[0][:2] == ("a.jsonl", "no row is left for `evaluation`, of 3 that were read")


def test_a_column_says_which_split_a_row_is_for() -> None:
    write("a.jsonl", [pair(1, split="train"), pair(2, split="evaluation"), pair(3), pair(4, split=None)])
    data = read("a.jsonl")
    assert (prompts(data.train), prompts(data.evaluation)) == (["p1", "p3", "p4"], ["p2"])
    write("b.jsonl", [{"question": "q", "completion": "c", "part": "evaluation"}])
    columns = (("prompt", "question"), ("split", "part"))
    assert prompts(read([source("a.jsonl"), source("b.jsonl", columns=columns)]).evaluation) == ["p2", "q"]


@pytest.mark.parametrize(
    ("split", "shown", "hint"),
    [
        ("validation", "validation", "write `evaluation`, or leave the row out"),
        ("test", "test", "write `evaluation`, or leave the row out"),
        ("Train", "Train", None),
        ("", "", None),
        (["train"], "['train']", None),
    ],
)
def test_an_unknown_split_is_told(split: Any, shown: str, hint: str | None) -> None:
    write("a.jsonl", [pair(1), pair(2, split=split)])
    assert told("a.jsonl") == [("a.jsonl:2", f"`split` is `{shown}`, not `train` or `evaluation`", hint)]


def test_a_training_row_in_a_source_for_evaluation_is_told() -> None:
    write("a.jsonl", [pair(1)])
    write("b.jsonl", [pair(2, split="evaluation"), pair(3, split="train")])
    hint = "name the file in `dataset.train` alone: its `split` is followed there"
    message = "the row says `split: train`, and its source is of `dataset.evaluation`"
    assert told("a.jsonl", [source("b.jsonl")]) == [("b.jsonl:2", message, hint)]


def test_a_share_and_a_column_cannot_both_say_what_to_evaluate_on() -> None:
    write("a.jsonl", [pair(1), pair(2, split="evaluation"), pair(3)])
    message = "the row is for evaluation by its `split`, and `dataset.evaluation` asks for a share of all rows"
    assert told("a.jsonl", evaluation_fraction=0.5) == [("a.jsonl:2", message, "use one of the two")]


def test_a_share_is_held_out_by_the_seed() -> None:
    write("a.jsonl", [pair(number) for number in range(100)])
    data = read("a.jsonl", evaluation_fraction=0.2)
    assert (len(data.train), len(data.evaluation)) == (80, 20)
    assert sorted(prompts(data.train) + prompts(data.evaluation)) == sorted(f"p{number}" for number in range(100))
    assert data == read("a.jsonl", evaluation_fraction=0.2)
    assert data.evaluation != read("a.jsonl", evaluation_fraction=0.2, seed=2).evaluation
    assert data.ledger.leaked == 0


def test_equal_rows_are_not_parted_by_a_share() -> None:
    write("a.jsonl", [pair(number % 10) for number in range(100)])
    data = read("a.jsonl", evaluation_fraction=0.2)
    assert len(data.evaluation) == 20 and not set(prompts(data.train)) & set(prompts(data.evaluation))


def test_a_share_of_very_few_rows() -> None:
    write("a.jsonl", [pair(1), pair(2)])
    assert len(read("a.jsonl", evaluation_fraction=0.01).evaluation) == 1
    assert len(read("a.jsonl", evaluation_fraction=0.99).train) == 1
    write("a.jsonl", [pair(1)])
    assert len(read("a.jsonl", evaluation_fraction=0.9).train) == 1
    write("a.jsonl", [pair(1), pair(1)])
    assert read("a.jsonl", evaluation_fraction=0.5).ledger.leaked == 1


def test_a_weight_below_one_takes_a_part_by_the_seed() -> None:
    write("a.jsonl", [pair(number) for number in range(100)])
    half = [source("a.jsonl", weight=0.5)]
    data = read(half)
    assert len(data.train) == 50 and prompts(data.train) == sorted(prompts(data.train), key=lambda name: int(name[1:]))
    assert data.ledger.dropped == {"weight below 1": 50}
    assert data == read(half) and data.train != read(half, seed=2).train
    assert len(read([source("a.jsonl", weight=0.001)]).train) == 1


def test_a_weight_above_one_repeats_and_holds_no_copy_out() -> None:
    write("a.jsonl", [pair(number) for number in range(10)])
    data = read([source("a.jsonl", weight=2.5)])
    assert Counter(Counter(prompts(data.train)).values()) == {2: 5, 3: 5}
    assert (data.ledger.kept, data.ledger.repeats) == (10, 15)
    data = read([source("a.jsonl", weight=2.0)], evaluation_fraction=0.2)
    assert (len(data.train), len(data.evaluation), data.ledger.leaked) == (16, 2, 0)


def test_a_weight_leaves_rows_that_ask_for_evaluation_alone() -> None:
    write("a.jsonl", [pair(1, split="evaluation"), pair(2), pair(3, split="evaluation"), pair(4)])
    data = read([source("a.jsonl", weight=3.0)])
    assert (len(data.train), len(data.evaluation)) == (6, 2)


def test_a_limit_is_of_each_split() -> None:
    write("a.jsonl", [pair(number) for number in range(50)])
    write("b.jsonl", [pair(number) for number in range(50, 60)])
    data = read("a.jsonl", [source("b.jsonl")], limit=5, shuffle=False)
    assert prompts(data.train) == [f"p{number}" for number in range(5)]
    assert prompts(data.evaluation) == [f"p{number}" for number in range(50, 55)]
    assert data.ledger.dropped == {"over the limit": 50}
    drawn = read("a.jsonl", limit=5)
    assert len(drawn.train) == 5 and drawn.train != data.train and drawn == read("a.jsonl", limit=5)
    assert [sample.place.line for sample in drawn.train] == sorted(sample.place.line for sample in drawn.train)


def test_rows_that_are_trained_and_evaluated_on_are_counted() -> None:
    write("a.jsonl", [pair(1), pair(2), pair(3)])
    write("b.jsonl", [pair(2), pair(4), pair(2, id=7)])
    assert read("a.jsonl", [source("b.jsonl")]).ledger.leaked == 2


def test_conversations_that_end_on_a_question_are_counted() -> None:
    longer = {"messages": [*CHAT["messages"], {"role": "user", "content": "And"}]}
    write("a.jsonl", [CHAT, longer, longer])
    assert read("a.jsonl").ledger.unanswered == 2


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


@pytest.mark.parametrize(
    "path", ["/a\0b.jsonl", "/a\0*.jsonl", "/" + "x" * 5000 + ".jsonl", "/", "/dev/null", "/proc/1"]
)
def test_strange_paths_are_told(path: str) -> None:
    error = refused([recipe.Source(path, 1.0, None, (), "auto")])
    assert "\0" not in report(error)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.integers(0, 6), max_size=30), fraction=st.floats(0.001, 0.999), seed=st.integers(0, 9)
)  # fmt: skip
def test_what_is_held_out_keeps_its_promises(rows: list[int], fraction: float, seed: int) -> None:
    held = choice.held_out(rows, fraction, Random(seed))
    assert bool(held) == (len(rows) > 1) and len(held) < max(len(rows), 1)
    if len(set(rows)) > 1:
        assert not {rows[i] for i in held} & {row for i, row in enumerate(rows) if i not in held}


@settings(max_examples=200, deadline=None)
@given(rows=st.integers(0, 40), weight=st.floats(0.001, 4), seed=st.integers(0, 9))
def test_weights_keep_their_promises(rows: int, weight: float, seed: int) -> None:
    copies = choice.copies(rows, weight, Random(seed))
    assert len(copies) == rows and set(copies) <= {int(weight), int(weight) + 1}
    assert abs(sum(copies) - rows * weight) <= 0.5 or (rows and sum(copies) == 1)


ROWS = st.sampled_from(
    [
        pair(1), pair(1), pair(2), pair(3, split="evaluation"), pair(4, split="train"), pair(5, completion=""), CHAT,
        {"text": "x"}, "", "[1]", '{"prompt": ', '{"prompt": "a", "prompt": "b"}', "\x00", {"split": "dev"},
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ROWS, max_size=12), policy=st.sampled_from(["error", "skip"]), limit=st.none() | st.integers(1, 4),
    fraction=st.none() | st.floats(0.01, 0.9), weight=st.floats(0.1, 3), shuffle=st.booleans(),
)  # fmt: skip
def test_no_row_vanishes(
    rows: list[Any], policy: str, limit: int | None, fraction: float | None, weight: float, shuffle: bool
) -> None:
    write("a.jsonl", rows)
    try:
        data = read(
            [source("a.jsonl", weight=weight)],
            on_bad_row=policy, limit=limit, evaluation_fraction=fraction, shuffle=shuffle,
        )  # fmt: skip
    except DataError as error:
        assert 0 < len(error.problems) <= min(error.total, dataset.MOST_SHOWN)
    else:
        assert data.ledger.read == sum(row != "" for row in rows) and data.train
        assert len(data.rejected) == data.ledger.dropped.get("unreadable", 0) + data.ledger.dropped.get("invalid", 0)


def test_a_link_that_leads_back_repeats_no_row(here: Path) -> None:
    write("data/a.jsonl", [pair(1)])
    (here / "data" / "self").symlink_to(".")
    assert prompts(read("data/**/*.jsonl").train) == ["p1"]
