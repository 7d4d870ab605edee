"""Files of rows with calls: what a dataset gives of them, and what its ledger says."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from calling_rows import USER, WEATHER, tool
from samples import read, source, told, write

from runner import prepare, show
from runner.data import dataset
from runner.data.examples import Call, Chat, Message
from runner.text.encoding import Encoded

pytestmark = pytest.mark.usefixtures("here")

CALL = {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
OBJECT = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Rome"}}}


def openai(*calls: dict[str, Any], tools: Any = (WEATHER,), **more: Any) -> dict[str, Any]:
    answer = {"role": "assistant", "tool_calls": list(calls)} if calls else {"role": "assistant", "content": "Warm."}
    return {"messages": [USER, answer], "tools": list(tools), **more}


def xlam(city: str = "Rome") -> dict[str, Any]:
    tools = [{"name": "f", "parameters": {"city": {"type": "str"}}}]
    return {
        "query": "q",
        "tools": json.dumps(tools),
        "answers": json.dumps([{"name": "f", "arguments": {"city": city}}]),
    }


def calls(path: str, **more: Any) -> Any:
    return source(path, **{"format": "calls", **more})


def expected(*made: Call) -> Chat:
    answer = Message("assistant", "", made) if made else Message("assistant", "Warm.")
    return Chat((Message("user", USER["content"]), answer), (tool(),))


ROME = Call("get_weather", '{"city": "Rome"}')


def test_formats_are_told_row_by_row_and_counted() -> None:
    write("a.jsonl", [openai(CALL), openai(OBJECT), openai(CALL, OBJECT), openai()])
    write("b.jsonl", [xlam()])
    data = read([calls("a.jsonl"), calls("b.jsonl")])
    assert [sample.example for sample in data.train[:4]] == [
        expected(ROME), expected(ROME), expected(ROME, ROME), expected(),
    ]  # fmt: skip
    assert data.ledger.files == (
        dataset.FileLedger("a.jsonl", 4, 4, {}, "openai, predibase"),
        dataset.FileLedger("b.jsonl", 1, 1, {}, "xlam"),
    )
    assert data.ledger.calls == {"none": 1, "one": 3, "several": 1}


def test_a_format_of_a_source_is_kept_to() -> None:
    write("a.jsonl", [openai(CALL), openai(OBJECT)])
    assert read([calls("a.jsonl", format="openai")]).ledger.files[0].format == "openai"
    write("b.jsonl", [xlam()])
    message = "missing column `messages`; the row has `query`, `tools`, `answers`"
    assert told([calls("b.jsonl", format="openai")]) == [
        ("b.jsonl:1", message, "name it in `columns`: `{messages: …}`")
    ]


def test_conversations_of_other_tasks_have_no_calls_to_count() -> None:
    write("a.jsonl", [{"messages": [USER, {"role": "assistant", "content": "Warm."}]}])
    ledger = read("a.jsonl").ledger
    assert ledger.files[0].format == "messages"
    assert ledger.calls == {}
    write("a.jsonl", [openai(CALL)])
    hint = "rows with tools belong to `task: function_calling`"
    assert told("a.jsonl")[0][1:] == ("the row has `tools`, which this task does not show to the model", hint)


def test_rows_that_are_wrong_are_refused_or_kept_apart() -> None:
    wrong = {"type": "function", "function": {"name": "get_wether", "arguments": "{}"}}
    write("a.jsonl", [openai(CALL), openai(wrong), "{"])
    message = "`messages[1].tool_calls[0].function.name`: there is no tool `get_wether`"
    found = told([calls("a.jsonl")])
    assert found[0] == ("a.jsonl:2", message, "a similar tool exists: `get_weather`")
    data = read([calls("a.jsonl")], on_bad_row="skip")
    assert [rejected.problem.message for rejected in data.rejected][0] == message
    assert data.ledger.dropped == {"invalid": 1, "unreadable": 1}
    assert data.ledger.calls == {"none": 0, "one": 1, "several": 0}


def test_columns_of_other_names() -> None:
    values = openai(CALL)
    write("a.jsonl", [{"chat": values["messages"], "functions of it": values["tools"]}])
    renamed = (("messages", "chat"), ("tools", "functions of it"))
    assert read([calls("a.jsonl", columns=renamed)]).train[0].example == expected(ROME)


def test_cells_of_a_csv_file_hold_json_text() -> None:
    with Path("a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["messages", "tools"])
        for values in (openai(CALL), openai(OBJECT), openai()):
            writer.writerow([json.dumps(values["messages"]), json.dumps(values["tools"])])
    data = read([calls("a.csv")])
    assert [sample.example for sample in data.train] == [expected(ROME), expected(ROME), expected()]


@pytest.mark.parametrize("as_text", [True, False])
def test_a_parquet_file_holds_lists_or_json_text(as_text: bool) -> None:
    rows = [openai(OBJECT), openai(), openai({**OBJECT, "function": {"name": "roll", "arguments": {"sides": 6}}})]
    rows[2]["tools"] = [
        {"name": "roll", "parameters": {"type": "object", "properties": {"sides": {"type": "integer"}}}}
    ]
    if as_text:
        rows = [{name: json.dumps(value) for name, value in row.items()} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "a.parquet")
    data = read([calls("a.parquet")])
    first, second, third = (sample.example for sample in data.train)
    assert isinstance(first, Chat) and isinstance(second, Chat) and isinstance(third, Chat)
    assert first.messages[1].calls == (ROME,)
    assert third.messages[1].calls == (Call("roll", '{"sides": 6}'),)
    assert json.loads(first.tools[0])["function"] == WEATHER
    parameters = {"type": "object", "properties": {"sides": {"type": "integer"}}}
    assert third.tools == (tool({"name": "roll", "parameters": parameters}),)


def test_a_table_of_other_columns_is_refused_once() -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"text": "a"}, {"text": "b"}]), "a.parquet")
    ((where, message, _),) = told([calls("a.parquet")])
    assert (where, message) == ("a.parquet", "the file is in no format with calls; it has `text`")


def test_a_null_in_the_first_row_of_a_table_is_a_fault_of_that_row() -> None:
    rows = [{"query": None, "answers": "[]", "tools": "[]"}, xlam()]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "a.parquet")
    found = told([calls("a.parquet")])
    assert [(where, message) for where, message, _ in found] == [
        ("a.parquet row 1", "`query` is null, not text"),
        ("a.parquet row 1", "`answers` is empty, so there is nothing to learn"),
    ]


def test_rows_are_held_out_and_weighed_like_all_others() -> None:
    write("a.jsonl", [openai(CALL, split="evaluation"), openai(), openai(OBJECT, CALL)])
    data = read([calls("a.jsonl", weight=2.0)])
    assert (len(data.train), len(data.evaluation)) == (4, 1)
    assert data.ledger.calls == {"none": 1, "one": 1, "several": 1}


def test_what_is_shown_and_written_of_a_ledger() -> None:
    write("a.jsonl", [openai(CALL), openai(), openai(OBJECT, CALL)])
    data = read([calls("a.jsonl")])
    written = prepare._ledger(data, Encoded(), Encoded())
    assert written["calls"] == {"none": 1, "one": 1, "several": 1}
    (file,) = written["files"]
    assert file == {"file": "a.jsonl", "read": 3, "kept": 3, "dropped": {}, "format": "openai, predibase"}
    assert show.rows_read({"a.jsonl": "openai, predibase"}, written["calls"]) == [
        "a.jsonl: format openai, predibase",
        "calls: of 3 rows 1 with none, 1 with one, 1 with several",
    ]
    assert show.rows_read({"a.jsonl": "messages"}, {}) == []


def test_rows_that_all_call_nothing_are_warned_of() -> None:
    assert show.rows_read({}, {"none": 2, "one": 0, "several": 0}) == [
        "calls: of 2 rows 2 with none, 0 with one, 0 with several",
        "warning: no row calls a tool, so a model learns from them to call none",
    ]
