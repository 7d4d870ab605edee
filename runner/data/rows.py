"""What every reader gives: rows and faults, each with its place; and how a file and a row are shown."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from runner.errors import DataError, Place, Problem, printable

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
TEXT_SUFFIXES = (".txt", ".md")  # of files that are one text each


class TablePlace(Place):
    """A row of a file that has rows and no lines: `line` is the number of the row, from 1."""

    def __str__(self) -> str:
        return f"{self.file} row {self.line}"


@dataclass(frozen=True)
class Row:
    """One row as it was read. `raw` is the text it was written as; None where the file is not text.

    A long text file comes as several rows of one place: of all but the last, `more` says that the text goes on.
    """

    values: dict[str, Any]
    place: Place
    split: str | None = None
    raw: str | None = None
    more: bool = False


@dataclass(frozen=True)
class Fault:
    """A row that could not be read and its raw text, or a whole file that could not, which is never skipped."""

    problem: Problem
    raw: str = ""
    whole: bool = False


def shown(path: str) -> str:
    """The path as it is shown: relative to the working directory where it lies under it, and always printable."""
    here = os.getcwd().rstrip(os.sep) + os.sep
    text = path[len(here) :] if path.startswith(here) else path
    return printable(os.fsencode(text).decode("utf-8", "backslashreplace"))


def suffix(path: str) -> str:
    """The end of a file's name that tells its type: `.jsonl`."""
    return os.path.splitext(path)[1].lower()


def has_fixed_columns(place: Place) -> bool:
    """Whether all rows of the file have the same columns, so that one without a column means that all are."""
    return isinstance(place, TablePlace) or suffix(place.file) in (".csv", ".tsv", *TEXT_SUFFIXES)


def text_of(row: Row) -> str:
    """The row as text: as it was written, or as JSON where the file is not text."""
    return json.dumps(row.values, ensure_ascii=False, default=str) if row.raw is None else row.raw


def unreadable(name: str, error: Exception) -> DataError:
    """The fault of a file that a library or the system will not read, in one line."""
    system = isinstance(error, OSError) and error.strerror
    text = str(system or error or type(error).__name__).strip().split("\n")[0]
    return DataError(Problem(f"`{name}` cannot be read: {text[:200]}", Place(name)))


def first_line(text: str) -> str:
    return text.split("\n", 1)[0]
