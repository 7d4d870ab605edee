"""One data file in, its rows out, each with the place that it came from; one reader a file type.

A row that cannot be read is a `Fault` among the rows, and reading goes on after it. What makes the rest of a
file unreadable, or not to be trusted, is a DataError. Text files are UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import csv
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from runner.data import strict_json, tables, texts
from runner.data.rows import BYTE_ORDER_MARK, TEXT_SUFFIXES, Fault, Row, first_line, shown, suffix, unreadable
from runner.errors import DataError, Place, Problem
from runner.nearest import nearest

OPENING = 65536  # bytes looked at to tell what a file holds

Lines = Iterator[tuple[int, str]]


def read(path: str) -> Iterator[Row | Fault]:
    """The rows of a file, in order. Raises DataError where it cannot be read, or has none."""
    name = shown(path)
    kind = suffix(path)
    found = False
    try:
        _check_file(path, name, kind)
        for item in READERS[kind](path, name):
            found = True
            yield item
    except OSError as error:
        raise unreadable(name, error) from None
    if not found:
        raise DataError(Problem(f"`{name}` has no rows", Place(name)))


def _check_file(path: str, name: str, kind: str) -> None:
    """Refuse what is no data file, or holds something other than its name says. Opens no pipe and no device."""
    place = Place(name)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise DataError(Problem(f"`{name}` does not exist", place, _neighbour(path))) from None
    except ValueError as error:
        raise unreadable(name, error) from None
    if not stat.S_ISREG(mode):
        raise DataError(Problem(f"`{name}` is not a regular file", place))
    if kind not in READERS:
        hint = f"data files are {', '.join(f'`{known}`' for known in READERS)}"
        if kind in (".gz", ".zip", ".zst", ".bz2", ".xz"):
            hint = "unpack it first"
        elif kind in (".xlsx", ".xls", ".ods"):
            hint = "save it as CSV, with commas"
        raise DataError(Problem(f"`{name}` is of no known type", place, hint))
    with open(path, "rb") as file:
        opening = file.read(OPENING)
    if not opening and kind not in TEXT_SUFFIXES:
        raise DataError(Problem(f"`{name}` is empty", place))
    held = _held(opening, kind)
    if held is not None:
        raise DataError(Problem(f"`{name}` holds {held[0]}", place, held[1]))


def _held(opening: bytes, kind: str) -> tuple[str, str] | None:
    """What a file holds in place of what its name says, and what to do about it."""
    text = opening[:200].removeprefix(BYTE_ORDER_MARK).lstrip().lower()
    if text.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, not the data", "fetch the data with `git lfs pull`"
    if kind not in TEXT_SUFFIXES and text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not data", "download the file itself; the page may be asking for a login"
    if opening.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text", "save it as UTF-8"
    for magic, what in ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ", "xz")):
        if opening.startswith(magic):
            return f"data compressed with {what}", "unpack it first"
    if opening.startswith(b"PK\x03\x04"):
        return "a ZIP archive or a spreadsheet", "unpack it, or save it as CSV"
    if kind != ".parquet" and opening.startswith(b"PAR1"):
        return "Parquet data", "give it a name that ends in `.parquet`"
    return None


def _neighbour(path: str) -> str | None:
    """A hint at a file of a similar name in the same directory."""
    directory, name = os.path.split(path)
    if not os.path.isdir(directory):
        return f"the directory `{shown(directory)}` does not exist either" if directory else None
    stems = {os.path.splitext(other)[0]: other for other in sorted(os.listdir(directory))}
    stem = os.path.splitext(name)[0]
    similar = stems.get(stem) or stems.get(nearest(stem, stems) or "")
    return f"a similar name exists: `{similar}`" if similar else None


def _lines(path: str, name: str) -> Lines:
    """The lines of a text file with their numbers and line ends, one at a time. Raises DataError for other bytes."""
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            if number == 1:
                raw = raw.removeprefix(BYTE_ORDER_MARK)
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                column = len(raw[: error.start].decode()) + 1
                place = Place(name, number, column, 1, raw.decode("utf-8", "replace"))
                message = f"line {number} is not UTF-8 at its byte {error.start + 1}, 0x{raw[error.start]:02X}"
                raise DataError(Problem(message, place, "save the file as UTF-8")) from None
            if "\0" in text:
                place = Place(name, number, text.index("\0") + 1, 1, text)
                raise DataError(Problem(f"line {number} has a NUL byte", place, "the file is not UTF-8 text"))
            yield number, text


def _json(path: str, name: str) -> Iterator[Row | Fault]:
    """JSON or JSON lines, whatever the name says: the first character tells a list of rows from rows on lines."""
    first = next((text for _, text in _lines(path, name) if text.strip()), "")
    start = strict_json.skip_space(first, 0)
    if first[start : start + 1] == "[":
        yield from _json_list("".join(text for _, text in _lines(path, name)), name)
    elif suffix(path) == ".json" and first and not _is_complete(first, start):
        _refuse_object("".join(text for _, text in _lines(path, name)), name)
    else:
        yield from _json_lines(_lines(path, name), name)


def _is_complete(line: str, start: int) -> bool:
    try:
        strict_json.Decoder().value(line, start)
    except strict_json.Invalid:
        return False
    return True


def _json_lines(lines: Lines, name: str) -> Iterator[Row | Fault]:
    """One object on each line; lines of nothing but space are passed over."""
    decoder = strict_json.Decoder()
    for number, line in lines:
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        start = strict_json.skip_space(text, 0)
        try:
            value, end, fault = decoder.value(text, start)
            rest = strict_json.skip_space(text, end)
            if rest < len(text):
                raise strict_json.Invalid(
                    "not valid JSON: there is more text after the value", rest, "write one object on each line"
                )
        except strict_json.Invalid as error:
            yield Fault(_invalid(error, Place(name, number, error.position + 1, 1, text)), text)
            continue
        yield _object(value, fault, text, Place(name, number))


def _json_list(text: str, name: str) -> Iterator[Row | Fault]:
    """A list of objects; a row's line is the one that its object starts on."""
    decoder = strict_json.Decoder()
    position = strict_json.skip_space(text, 0) + 1
    line, counted, first = 1, 0, True
    while True:
        position = strict_json.skip_space(text, position)
        if first and text[position : position + 1] == "]":
            break
        line, counted, first = line + text.count("\n", counted, position), position, False
        try:
            value, end, fault = decoder.value(text, position)
        except strict_json.Invalid as error:
            raise DataError(_invalid(error, _place_in(text, error.position, name))) from None
        yield _object(value, fault, text[position:end], Place(name, line))
        position = strict_json.skip_space(text, end)
        if text[position : position + 1] != ",":
            break
        position += 1
    if text[position : position + 1] != "]":
        wrong = strict_json.Invalid("not valid JSON: expecting `,` or `]` after a row of the list", position)
        raise DataError(_invalid(wrong, _place_in(text, position, name)))
    rest = strict_json.skip_space(text, position + 1)
    if rest < len(text):
        wrong = strict_json.Invalid("not valid JSON: there is more text after the list of rows", rest)
        raise DataError(_invalid(wrong, _place_in(text, rest, name)))


def _refuse_object(text: str, name: str) -> NoReturn:
    """Say what a .json file is that holds neither a list of rows nor rows on lines."""
    start = strict_json.skip_space(text, 0)
    try:
        value, end, _ = strict_json.Decoder().value(text, start)
    except strict_json.Invalid as error:
        raise DataError(_invalid(error, _place_in(text, error.position, name))) from None
    what = strict_json.kind(value) if strict_json.skip_space(text, end) == len(text) else "objects over several lines"
    hint = "write a list of objects, `[{…}, {…}]`, or one object on each line"
    raise DataError(Problem(f"`{name}` holds {what}, not a list of rows", _place_in(text, start, name), hint))


def _object(value: Any, fault: str | None, raw: str, place: Place) -> Row | Fault:
    """The row that a JSON value is."""
    if fault is None and isinstance(value, dict):
        return Row(value, place, raw=raw)
    message = fault or f"the row is {strict_json.kind(value)}, not an object"
    return Fault(Problem(message, Place(place.file, place.line, text=first_line(raw))), raw)


def _invalid(error: strict_json.Invalid, place: Place) -> Problem:
    return Problem(error.message, place, error.hint)


def _place_in(text: str, position: int, name: str) -> Place:
    """The line and column of a character of a file's text."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text.count("\n", 0, position) + 1
    return Place(name, line, position - start + 1, 1, text[start : None if end < 0 else end])


def _tsv(path: str, name: str) -> Iterator[Row | Fault]:
    """The same with tabs."""
    return _csv(path, name, "\t")


def _csv(path: str, name: str, separator: str = ",") -> Iterator[Row | Fault]:
    """Values between separators under a line of column names. Columns without a name are passed over."""
    csv.field_size_limit(sys.maxsize)  # the module's own limit, 128 KiB, is shorter than a long document
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for _, text in _lines(path, name):
            taken.append(text)
            yield text

    reader = csv.reader(lines(), strict=True, delimiter=separator)
    header: list[str] = []
    while True:
        start = reader.line_num + 1
        taken.clear()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            place = Place(name, start, text=taken[0])
            if "unexpected end" in str(error):
                raise DataError(Problem("a quote in this row is never closed", place)) from None
            doubled = 'write a quote inside quotes twice: `""`'
            problem = Problem("text stands between a closing quote and the next separator", place, doubled)
            if "new-line character" in str(error):
                problem = Problem("a carriage return stands outside quotes", place, "end lines with LF or CRLF")
            if not header:
                raise DataError(problem) from None
            yield Fault(problem, "".join(taken))
            continue
        if cells is None:
            break
        raw = "".join(taken).rstrip("\r\n")
        place = Place(name, start)
        if not raw.strip():
            continue
        if not header:
            header = _header(cells, Place(name, start, text=raw), separator)
        elif len(cells) != len(header):
            message = f"the row has {_count(len(cells), 'value')}, and the header {_count(len(header), 'column')}"
            what = "a comma" if separator == "," else "a tab"
            hint = f"put values that hold {what} in double quotes" if len(cells) > len(header) else None
            yield Fault(Problem(message, Place(name, start, text=taken[0]), hint), raw)
        else:
            values = {column: cell for column, cell in zip(header, cells, strict=True) if column}
            yield Row(values, place, raw=raw)


def _header(cells: list[str], place: Place, separator: str) -> list[str]:
    """The column names of a CSV or TSV file."""
    if len(cells) == 1:
        for other, called, hint in (
            (";", "semicolons", "save the file with commas"),
            ("\t", "tabs", "save the file with commas, or give it a name that ends in `.tsv`"),
            (",", "commas", "give the file a name that ends in `.csv`"),
        ):
            if other != separator and other in cells[0]:
                raise DataError(Problem(f"columns are separated by {called}", place, hint))
    twice = sorted({cell for cell in cells if cell and cells.count(cell) > 1})
    if twice:
        raise DataError(Problem(f"column `{twice[0]}` stands twice in the header", place))
    return cells


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


READERS: dict[str, Callable[[str, str], Iterator[Row | Fault]]] = {
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": tables.parquet,
    ".arrow": tables.arrow,
    ".txt": texts.text,
    ".md": texts.text,
}
