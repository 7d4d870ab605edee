"""Each kind of text file, whole and broken: what its rows are, and what is said about it."""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest
from data_files import items, values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.data import readers
from runner.data.rows import Fault, Row, shown
from runner.errors import DataError, Place, as_text

pytestmark = pytest.mark.usefixtures("here")

GOOD = b'{"prompt": "p", "completion": "c"}\n'
UNPACK = "unpack it first"
LIST_OF_ROWS = "write a list of objects, `[{…}, {…}]`, or one object on each line"


def lines(name: str, content: bytes) -> list[str]:
    return [str(item.place if isinstance(item, Row) else item.problem.place) for item in items(name, content)]


BROKEN_FILES = {
    "empty.jsonl": (b"", "empty.jsonl", "`empty.jsonl` is empty", None),
    "blank.jsonl": (b" \n\n", "blank.jsonl", "`blank.jsonl` has no rows", None),
    "mark.csv": (b"\xef\xbb\xbf", "mark.csv", "`mark.csv` has no rows", None),
    "none.json": (b"[]", "none.json", "`none.json` has no rows", None),
    "header.csv": (b"prompt,completion\n", "header.csv", "`header.csv` has no rows", None),
    "pointer.jsonl": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "pointer.jsonl", "`pointer.jsonl` holds a Git LFS pointer, not the data", "fetch the data with `git lfs pull`",
    ),
    "pointer.parquet": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "pointer.parquet", "`pointer.parquet` holds a Git LFS pointer, not the data",
        "fetch the data with `git lfs pull`",
    ),
    "page.json": (
        b"\n<!DOCTYPE html>\n<html>", "page.json", "`page.json` holds a web page, not data",
        "download the file itself; the page may be asking for a login",
    ),
    "gzip.jsonl": (gzip.compress(GOOD), "gzip.jsonl", "`gzip.jsonl` holds data compressed with gzip", UNPACK),
    "bzip2.csv": (bz2.compress(GOOD), "bzip2.csv", "`bzip2.csv` holds data compressed with bzip2", UNPACK),
    "xz.json": (lzma.compress(GOOD), "xz.json", "`xz.json` holds data compressed with xz", UNPACK),
    "sheet.csv": (
        b"PK\x03\x04\x14\x00", "sheet.csv", "`sheet.csv` holds a ZIP archive or a spreadsheet",
        "unpack it, or save it as CSV",
    ),
    "wide.csv": (
        "prompt,completion\na,b\n".encode("utf-16"), "wide.csv", "`wide.csv` holds UTF-16 text", "save it as UTF-8",
    ),
    "table.jsonl": (
        b"PAR1\x15\x04", "table.jsonl", "`table.jsonl` holds Parquet data", "give it a name that ends in `.parquet`",
    ),
    "rows.jsonl.gz": (gzip.compress(GOOD), "rows.jsonl.gz", "`rows.jsonl.gz` is of no known type", UNPACK),
    "rows.xlsx": (b"PK", "rows.xlsx", "`rows.xlsx` is of no known type", "save it as CSV, with commas"),
    "rows.rst": (
        GOOD, "rows.rst", "`rows.rst` is of no known type",
        "data files are `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet`, `.arrow`, `.txt`, `.md`",
    ),
    "latin.jsonl": (
        GOOD + '{"prompt": "ô é", "completion": "c"}\n'.encode("latin-1"),
        "latin.jsonl:2:13", "line 2 is not UTF-8 at its byte 13, 0xF4", "save the file as UTF-8",
    ),
    "cut.csv": (
        b"prompt,completion\n\xc3\xa9\xc3\xa9\xff,b\n",
        "cut.csv:2:3", "line 2 is not UTF-8 at its byte 5, 0xFF", "save the file as UTF-8",
    ),
    "nul.csv": (
        b"prompt,completion\na,b\0\n", "nul.csv:2:4", "line 2 has a NUL byte", "the file is not UTF-8 text",
    ),
    "nul.jsonl": (GOOD + b"\0\0\0\n", "nul.jsonl:2:1", "line 2 has a NUL byte", "the file is not UTF-8 text"),
    "open.json": (
        b'[\n  {"prompt": "a"},\n  {"prompt": "a"\n',
        "open.json:4:1", "not valid JSON: the text ends before its value is complete", None,
    ),
    "unclosed.json": (
        b'[{"prompt": "a"}\n', "unclosed.json:2:1",
        "not valid JSON: expecting `,` or `]` after a row of the list", None,
    ),
    "gap.json": (
        b'[\n  {"prompt": "a"}\n  {"prompt": "b"}\n]\n', "gap.json:3:3",
        "not valid JSON: expecting `,` or `]` after a row of the list", None,
    ),
    "last.json": (
        b'[{"prompt": "a"},\n]\n', "last.json:2:1", "not valid JSON: a comma has nothing after it", None,
    ),
    "rest.json": (
        b'[{"prompt": "a"}]\n{"prompt": "b"}\n', "rest.json:2:1",
        "not valid JSON: there is more text after the list of rows", None,
    ),
    "columns.json": (
        b'{\n  "prompt": ["a"],\n  "completion": ["b"]\n}\n', "columns.json:1:1",
        "`columns.json` holds an object, not a list of rows", LIST_OF_ROWS,
    ),
    "pretty.json": (
        b'{\n  "prompt": "a"\n}\n{\n  "prompt": "b"\n}\n', "pretty.json:1:1",
        "`pretty.json` holds objects over several lines, not a list of rows", LIST_OF_ROWS,
    ),
    "yaml.json": (b"prompt: a\n", "yaml.json:1:1", "not valid JSON: expecting value", None),
    "twice.csv": (
        b"prompt,prompt,completion\na,b,c\n", "twice.csv:1", "column `prompt` stands twice in the header", None,
    ),
    "semicolons.csv": (
        b"prompt;completion\na;b\n", "semicolons.csv:1", "columns are separated by semicolons",
        "save the file with commas",
    ),
    "tabs.csv": (
        b"prompt\tcompletion\na\tb\n", "tabs.csv:1", "columns are separated by tabs",
        "save the file with commas, or give it a name that ends in `.tsv`",
    ),
    "commas.tsv": (
        b"prompt,completion\na,b\n", "commas.tsv:1", "columns are separated by commas",
        "give the file a name that ends in `.csv`",
    ),
    "quote.csv": (
        b'prompt,completion\na,b\n"never closed,c\nd,e\n', "quote.csv:3",
        "a quote in this row is never closed", None,
    ),
    "mac.csv": (
        b"prompt,completion\ra,b\rc,d\r", "mac.csv:1", "a carriage return stands outside quotes",
        "end lines with LF or CRLF",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_file_that_cannot_be_read_says_why(name: str) -> None:
    content, place, message, hint = BROKEN_FILES[name]
    with pytest.raises(DataError) as raised:
        items(name, content)
    (problem,) = raised.value.problems
    assert (str(problem.place), problem.message, problem.hint) == (place, message, hint)


BROKEN_ROWS = {
    "cut": ('{"prompt": "p", "compl', 17, "not valid JSON: a string is not closed", None),
    "unfinished": ('{"prompt": "p"', 15, "not valid JSON: the text ends before its value is complete", None),
    "single quotes": (
        "{'prompt': 'p'}", 2, "not valid JSON: a string is in single quotes",
        "JSON strings take double quotes; `json.dumps` writes them",
    ),
    "bare key": ('{prompt: "p"}', 2, "not valid JSON: a key is not in double quotes", None),
    "Python": (
        '{"prompt": None}', 12, "not valid JSON: a value is written as Python", "JSON has `null`, `true` and `false`",
    ),
    "comma": ('{"prompt": "p",}', 16, "not valid JSON: a comma has nothing after it", None),
    "no comma": ('{"prompt": "p" "x": 1}', 16, "not valid JSON: expecting `,` delimiter", None),
    "control": (
        '{"prompt": "a\tb"}', 14, "not valid JSON: a raw control character stands in a string",
        "write a line break as `\\n`",
    ),
    "escape": (
        '{"prompt": "C:\\dir"}', 15, "not valid JSON: an escape is not known to JSON", "write a backslash as `\\\\`",
    ),
    "two objects": (
        '{"prompt": "p"} {"prompt": "q"}', 17, "not valid JSON: there is more text after the value",
        "write one object on each line",
    ),
    "list": ("[1, 2]", 0, "the row is a list, not an object", None),
    "number": ("12", 0, "the row is a number, not an object", None),
    "null": ("null", 0, "the row is null, not an object", None),
    "text": ('"p"', 0, "the row is text, not an object", None),
    "key twice": ('{"a": 1, "b": 2, "a": 3}', 0, "key `a` stands twice in one object", None),
    "inner key twice": ('{"m": [{"role": "u", "role": "a"}]}', 0, "key `role` stands twice in one object", None),
    "NaN": ('{"score": NaN}', 0, "`NaN` is no JSON number", None),
    "infinity": ('{"score": -Infinity}', 0, "`-Infinity` is no JSON number", None),
    "overflow": ('{"score": 1e999}', 0, "number `1e999` is too large", None),
    "digits": ('{"n": ' + "9" * 5000 + "}", 1, "a number has too many digits", "write it as text, in double quotes"),
    "deep": ('{"a": ' + "[" * 100_000, 1, "values are nested too deeply", None),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_a_broken_line_is_a_fault_and_reading_goes_on(name: str) -> None:
    text, column, message, hint = BROKEN_ROWS[name]
    first, fault, last = items("rows.jsonl", GOOD + text.encode() + b"\r\n" + GOOD)
    assert isinstance(first, Row) and isinstance(last, Row) and last.place.line == 3
    assert isinstance(fault, Fault) and not fault.whole and fault.raw == text
    place = fault.problem.place
    assert place == Place("rows.jsonl", 2, column, 1, text)
    assert (fault.problem.message, fault.problem.hint) == (message, hint)


BROKEN_CELLS = {
    "long": (
        "hello, world,c", "the row has 3 values, and the header 2 columns",
        "put values that hold a comma in double quotes",
    ),
    "short": ("a", "the row has 1 value, and the header 2 columns", None),
    "stray": (
        '"a"b,c', "text stands between a closing quote and the next separator",
        'write a quote inside quotes twice: `""`',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_CELLS)
def test_a_broken_row_of_a_csv_file_is_a_fault_and_reading_goes_on(name: str) -> None:
    text, message, hint = BROKEN_CELLS[name]
    first, fault, last = items("rows.csv", f"prompt,completion\na,b\n{text}\nc,d\n".encode())
    assert isinstance(first, Row) and isinstance(last, Row) and last.place.line == 4
    assert isinstance(fault, Fault) and (fault.problem.message, fault.problem.hint) == (message, hint)
    assert str(fault.problem.place) == "rows.csv:3" and fault.raw.rstrip() == text


def test_the_place_of_a_fault_is_shown_under_its_line() -> None:
    _, fault = items("rows.jsonl", GOOD + b'{"prompt": "p",}\n')
    assert isinstance(fault, Fault)
    assert as_text(fault.problem) == (
        "error: not valid JSON: a comma has nothing after it\n"
        " --> rows.jsonl:2:16\n"
        "  |\n"
        '2 | {"prompt": "p",}\n'
        "  |                ^"
    )


def test_json_lines_may_have_marks_blank_lines_and_any_line_end() -> None:
    content = b'\xef\xbb\xbf{"a": 1}\r\n\n  \t\n {"a": 2} \n{"a": 3}'
    assert lines("rows.jsonl", content) == ["rows.jsonl:1", "rows.jsonl:4", "rows.jsonl:5"]
    assert values("rows.jsonl") == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_a_line_separator_inside_a_string_ends_no_line() -> None:
    assert values("rows.jsonl", '{"a": "x\u2028y\x85z"}\n'.encode()) == [{"a": "x\u2028y\x85z"}]


def test_large_integers_are_kept() -> None:
    assert values("rows.jsonl", b'{"a": 123456789012345678901234567890}') == [{"a": 123456789012345678901234567890}]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson", ".JSON"])
def test_a_list_and_lines_are_told_apart_by_what_they_are(suffix: str) -> None:
    assert values("rows" + suffix, b'[\n {"a": 1},\n\n {"a":\n 2}, {"a": 3}]\n') == [{"a": 1}, {"a": 2}, {"a": 3}]
    content = b'\n[\n {"a": 1},\n\n {"a":\n 2}, {"a": 3}]\n'
    assert lines("rows" + suffix, content) == [f"rows{suffix}:{line}" for line in (3, 5, 6)]
    assert values("rows" + suffix, b'{"a": 1}\n{"a": 2}\n') == [{"a": 1}, {"a": 2}]


def test_a_row_of_a_list_that_is_no_object_is_a_fault_of_its_own() -> None:
    first, number, twice, last = items("rows.json", b'[\n{"a": 1},\n7,\n{"a": 1, "a": 2},\n{"a": 3}\n]')
    assert isinstance(first, Row) and isinstance(last, Row)
    assert isinstance(number, Fault) and str(number.problem.place) == "rows.json:3" and number.raw == "7"
    assert isinstance(twice, Fault) and twice.problem.message == "key `a` stands twice in one object"


def test_json_lines_are_read_one_at_a_time() -> None:
    Path("rows.jsonl").write_bytes(GOOD * 5000 + b"\xff\n")
    rows = readers.read(str(Path("rows.jsonl").absolute()))
    assert len(list(itertools.islice(rows, 5000))) == 5000
    with pytest.raises(DataError):
        next(rows)


def test_csv_rows_over_several_lines_have_the_line_that_they_start_on() -> None:
    content = b'\xef\xbb\xbfprompt,completion\r\n"a\r\nb","say ""hi"", you"\r\n\r\nc,\r\n'
    assert values("rows.csv", content) == [
        {"prompt": "a\r\nb", "completion": 'say "hi", you'},
        {"prompt": "c", "completion": ""},
    ]
    assert lines("rows.csv", content) == ["rows.csv:2", "rows.csv:5"]


def test_csv_columns_without_a_name_are_passed_over() -> None:
    assert values("rows.csv", b",prompt,completion,\n0,a,b,\n") == [{"prompt": "a", "completion": "b"}]


def test_csv_values_may_be_long() -> None:
    assert values("rows.csv", b"prompt,completion\n" + b"x" * 500_000 + b",y\n")[0]["prompt"] == "x" * 500_000


def test_reading_text_loads_nothing_heavy() -> None:
    Path("rows.jsonl").write_bytes(GOOD)
    program = """
import sys
from runner.data import dataset, readers
assert len(list(readers.read(sys.argv[1]))) == 1
print([name for name in ("pyarrow", "pandas", "datasets", "numpy", "torch") if name in sys.modules])
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(readers.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path("rows.jsonl").absolute())],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("trian.jsonl", "`trian.jsonl` does not exist", "a similar name exists: `train.jsonl`"),
        ("train.csv", "`train.csv` does not exist", "a similar name exists: `train.jsonl`"),
        ("else.jsonl", "`else.jsonl` does not exist", None),
        ("no/rows.jsonl", "`no/rows.jsonl` does not exist", "the directory `no` does not exist either"),
        ("pipe.jsonl", "`pipe.jsonl` is not a regular file", None),
        ("directory.jsonl", "`directory.jsonl` is not a regular file", None),
        ("loop.jsonl", "`loop.jsonl` cannot be read: Too many levels of symbolic links", None),
    ],
)
def test_what_is_no_file_says_so(name: str, message: str, hint: str | None) -> None:
    Path("train.jsonl").write_bytes(GOOD)
    os.mkfifo("pipe.jsonl")
    Path("directory.jsonl").mkdir()
    Path("loop.jsonl").symlink_to("loop.jsonl")
    with pytest.raises(DataError) as raised:
        items(name)
    assert (raised.value.problems[0].message, raised.value.problems[0].hint) == (message, hint)


def test_a_name_is_shown_relative_to_the_working_directory_and_printable(here: Path) -> None:
    assert shown(str(here / "data" / "rows.jsonl")) == "data/rows.jsonl"
    assert shown(str(here) + "x/rows.jsonl") == str(here) + "x/rows.jsonl"
    assert shown("/data/\x1b[31m\udcff.jsonl") == "/data/\\x1b[31m\\xff.jsonl"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(readers.READERS)),
    start=st.sampled_from([b"", b"PAR1", b"[", b'{"a": ', b'a,"b', b"\xff\xff\xff\xff\x10\0\0\0", b"ARROW1\0\0"]),
    middle=st.binary(max_size=200),
    end=st.sampled_from([b"", b"PAR1", b"]", b"}\n", b'"\n']),
)
def test_no_bytes_raise_anything_but_a_data_error(kind: str, start: bytes, middle: bytes, end: bytes) -> None:
    try:
        found = items("rows" + kind, start + middle + end)
    except DataError as error:
        assert all(as_text(problem) for problem in error.problems)
    else:
        assert found
