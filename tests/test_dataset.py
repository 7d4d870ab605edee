"""From the sources of a recipe to samples: what is read, what is refused, and that no row vanishes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import CHAT, pair, prompts, read, refused, source, told, write

from runner import recipe
from runner.data import dataset
from runner.data.examples import Chat, Instruction
from runner.data.rows import Fault, Row
from runner.errors import DataError, Place, report

pytestmark = pytest.mark.usefixtures("here")


def test_samples_come_in_order_with_their_places_and_hashes() -> None:
    write("data/a.jsonl", [pair(1), pair(2)])
    data = read("data/a.jsonl")
    assert data.train == [
        dataset.Sample(Instruction("p1", "c1"), Place("data/a.jsonl", 1)),
        dataset.Sample(Instruction("p2", "c2"), Place("data/a.jsonl", 2)),
    ]
    assert data.evaluation == [] and data.rejected == []
    assert data.ledger.files == (dataset.FileLedger("data/a.jsonl", 2, 2, {}, "prompt_completion"),)
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
    write("data/notes.rst", ["notes"])
    assert [message for _, message, _ in told("data/*")] == ["`data/notes.rst` is of no known type"]


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
    assert told("a.csv") == [("a.csv:1", message, "the first line of a CSV or TSV file names its columns")]


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
    assert data.ledger.files == (
        dataset.FileLedger("a.jsonl", 5, 2, {"unreadable": 1, "invalid": 2}, "prompt_completion"),
    )
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


def test_conversations_that_end_on_a_question_are_counted() -> None:
    longer = {"messages": [*CHAT["messages"], {"role": "user", "content": "And"}]}
    write("a.jsonl", [CHAT, longer, longer])
    assert read("a.jsonl").ledger.unanswered == 2


@pytest.mark.parametrize(
    "path", ["/a\0b.jsonl", "/a\0*.jsonl", "/" + "x" * 5000 + ".jsonl", "/", "/dev/null", "/proc/1"]
)
def test_strange_paths_are_told(path: str) -> None:
    error = refused([recipe.Source(path, 1.0, None, (), "auto")])
    assert "\0" not in report(error)


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
