"""What a recipe names as data in; rows out, with columns renamed and the split that each row asks for."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner import recipe
from runner.data import formats, readers, row_templates, tables, texts
from runner.data.rows import TEXT_SUFFIXES, Fault, Row, has_fixed_columns, shown, suffix, text_of, unreadable
from runner.errors import DataError, Place, Problem, listed
from runner.nearest import nearest

SPLITS = ("train", "evaluation")
ABSENT = object()  # in the place of a column that a row lacks
OTHER_SPLITS = ("validation", "valid", "val", "test", "dev", "eval")


def rows(sources: Sequence[recipe.Source], default_split: str | None = "train") -> Iterator[Row | Fault]:
    """The rows of the sources in their order, with columns renamed, and a fault for each row or file that has one.

    `default_split` is what is taken of a Hub or saved dataset with several splits whose source names none; None
    makes that a fault. Raises nothing for what is wrong with the data.
    """
    for source in sources:
        try:
            found = files(source, default_split)
        except DataError as error:
            yield from (Fault(problem, whole=True) for problem in error.problems)
            continue
        for file in found:
            yield from _rows_of(file, source, default_split)


def default_split(role: str) -> str | None:
    """What is taken of a dataset with several splits: `train` to train on; what to evaluate on has to be said."""
    return "train" if role == "train" else None


def hashes(source: recipe.Source, default_split: str | None) -> dict[str, str]:
    """The SHA-256 of each file of a source that is there, by the name it has in places. Hub datasets have no files."""
    digests: dict[str, str] = {}
    if is_hub_id(source):
        return digests
    try:
        for path in files(source, default_split):
            with open(path, "rb") as file:
                digests[shown(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(shown(path), error) from None
    return digests


def files(source: recipe.Source, default_split: str | None) -> list[str]:
    """The files of a source in order, or its Hub id alone. Raises DataError where there are none."""
    path = source.path
    if is_hub_id(source):
        return [path]
    place = Place(shown(path))
    if os.path.isdir(path):
        return texts.folder(path) or tables.saved_files(path, source.split, default_split)
    if source.split is not None:
        message = f"`split: {source.split}` picks a part of a Hub or saved dataset, and `{place.file}` is neither"
        raise DataError(Problem(message, place, "mark rows with a column `split` instead"))
    if os.path.exists(path) or not glob.has_magic(path):
        return [path]
    found = _each_once(sorted(file for file in glob.glob(path, recursive=True) if not os.path.isdir(file)))
    if not found:
        raise DataError(Problem(f"no file matches `{place.file}`", place))
    return found


def _each_once(paths: list[str]) -> list[str]:
    """The files without those that are there already by another way, as a link to a directory above makes them."""
    seen: dict[str, str] = {}
    for path in sorted(paths, key=lambda path: path.count(os.sep)):
        seen.setdefault(os.path.realpath(path), path)
    kept = set(seen.values())
    return [path for path in paths if path in kept]


def is_hub_id(source: recipe.Source) -> bool:
    """Whether a source names a Hub dataset: paths are absolute by the time they are in a recipe."""
    return not os.path.isabs(source.path)


def _rows_of(file: str, source: recipe.Source, default_split: str | None) -> Iterator[Row | Fault]:
    """The rows of one file or Hub dataset."""
    try:
        for item in _hub(source, default_split) if is_hub_id(source) else readers.read(file):
            if isinstance(item, Row):
                item = named(item, source)
            yield item
            if isinstance(item, Fault) and item.whole:
                return
    except DataError as error:
        yield from (Fault(problem, whole=True) for problem in error.problems)


def _hub(source: recipe.Source, default_split: str | None) -> Iterator[Row | Fault]:
    split = source.split or default_split
    if split is None:
        message = f"it is not said which split of Hub dataset `{source.path}` to evaluate on"
        raise DataError(Problem(message, Place(source.path), "set `split`, to `test` for example"))
    return tables.hub(source.path, split, f"{source.path}[{split}]")


def named(row: Row, source: recipe.Source) -> Row | Fault:
    """The row with its columns under our names, with those that templates make, and its split from the column `split`.

    A dot in a column's name leads into an object, where no column is called so.
    """
    values, columns = row.values, source.columns
    if columns:
        held = {theirs: _inside(values, theirs) for _, theirs in columns}
        missing = sorted(theirs for theirs, value in held.items() if value is ABSENT)
        if missing:
            similar = nearest(missing[0], values)
            hint = f"a similar column exists: `{similar}`" if similar else None
            noun = "column" if len(missing) == 1 else "columns"
            whole = has_fixed_columns(row.place)
            what = "file" if whole else "row"
            message = f"`columns` names {noun} {listed(missing)}, and the {what} has {formats.columns_of(row)}"
            return _fault(row, message, hint, whole)
        values = {name: value for name, value in values.items() if name not in held}
        values.update((ours, held[theirs]) for ours, theirs in columns)
    if source.templates and suffix(row.place.file) in TEXT_SUFFIXES:
        message = f"`{row.place.file}` is one text without columns, and `templates` makes texts of columns"
        return _fault(row, message, "take `templates` away, or give the files of rows a source of their own", True)
    for ours, template in source.templates:
        text = row_templates.fill(template, row.values)
        if not isinstance(text, str):
            message = f"the template of `{ours}` cannot be filled: {text[0]}; the row has {formats.columns_of(row)}"
            return _fault(row, message, text[1], has_fixed_columns(row.place) and "undefined" in text[0])
        values = {**values, ours: text}
    split = values.get("split")
    if split is not None and split not in SPLITS:
        hint = "write `evaluation`, or leave the row out" if split in OTHER_SPLITS else None
        return _fault(row, f"`split` is `{str(split)[:40]}`, not `train` or `evaluation`", hint)
    if not columns and not source.templates and split is None:
        return row
    return Row(values, row.place, split, row.raw, row.more)


def _inside(values: Mapping[str, Any], name: str) -> Any:
    """The value of a column, or of the path that a name with dots is; `ABSENT` where there is none."""
    if name in values or "." not in name:
        return values.get(name, ABSENT)
    first, rest = name.split(".", 1)
    below = values.get(first)
    return _inside(below, rest) if isinstance(below, dict) else ABSENT


def _fault(row: Row, message: str, hint: str | None, whole: bool = False) -> Fault:
    return Fault(formats.placed(row, [(message, hint)])[0], text_of(row), whole)
