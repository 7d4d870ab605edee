"""Parquet and Arrow files, whole and broken: what their rows are, and what is said about them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from data_files import items, values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.data import readers
from runner.data.rows import Row, text_of
from runner.errors import DataError

pytestmark = pytest.mark.usefixtures("here")

TABLE = {
    "prompt": ["a", None],
    "messages": [[{"role": "user", "content": "é"}], [{"role": "user", "name": "Ann"}]],
}


def test_parquet_rows_are_python_values_with_the_number_of_the_row() -> None:
    pyarrow.parquet.write_table(pyarrow.table(TABLE), "rows.parquet")
    first, second = items("rows.parquet")
    assert isinstance(first, Row) and isinstance(second, Row)
    assert first.values["messages"][0]["content"] == "é" and second.values["prompt"] is None
    assert (str(second.place), second.place.line) == ("rows.parquet row 2", 2)
    assert json.loads(text_of(second)) == second.values


@pytest.mark.parametrize("opener", [pyarrow.ipc.new_stream, pyarrow.ipc.new_file])
def test_arrow_files_are_read_in_both_of_their_formats(opener: Any) -> None:
    table = pyarrow.table(TABLE)
    with pyarrow.OSFile("rows.arrow", "wb") as file, opener(file, table.schema) as writer:
        writer.write_table(table)
    assert values("rows.arrow") == table.to_pylist()


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_a_truncated_table_is_a_fault(name: str) -> None:
    table = pyarrow.table({"prompt": ["a" * 1000] * 100, "completion": ["b"] * 100})
    pyarrow.parquet.write_table(table, "rows.parquet")
    with pyarrow.OSFile("rows.arrow", "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    path = Path(name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError) as raised:
        items(name)
    (problem,) = raised.value.problems
    assert problem.message.startswith(f"`{name}` cannot be read: ") and "\n" not in problem.message


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_a_table_with_a_column_twice_or_without_rows_is_a_fault(name: str) -> None:
    for table, message in (
        (pyarrow.table([["a"], ["b"]], names=["prompt", "prompt"]), f"column `prompt` stands twice in `{name}`"),
        (pyarrow.table({"prompt": pyarrow.array([], pyarrow.string())}), f"`{name}` has no rows"),
    ):
        pyarrow.parquet.write_table(table, "rows.parquet")
        with pyarrow.OSFile("rows.arrow", "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        with pytest.raises(DataError, match=message):
            items(name)


def test_a_table_without_pyarrow_says_what_to_install() -> None:
    pyarrow.parquet.write_table(pyarrow.table(TABLE), "rows.parquet")
    program = """
import sys
sys.modules["pyarrow"] = None
from runner import errors
from runner.data import readers
try:
    list(readers.read(sys.argv[1]))
except errors.DataError as error:
    print(errors.report(error))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(readers.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path("rows.parquet").absolute())],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == (
        "error: `rows.parquet` needs the package `pyarrow`\n --> rows.parquet\nhint: `pip install pyarrow`\n"
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(["rows.parquet", "rows.arrow"]))
def test_no_change_to_a_table_raises_anything_but_a_data_error(data: st.DataObject, name: str) -> None:
    table = pyarrow.table({"text": ["é", "b"] * 20, "messages": [TABLE["messages"][0]] * 40})
    sink = pyarrow.BufferOutputStream()
    if name == "rows.parquet":
        pyarrow.parquet.write_table(table, sink)
    else:
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    content = bytearray(sink.getvalue().to_pybytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        items(name, bytes(content))
    except DataError as error:
        assert error.problems[0].message
