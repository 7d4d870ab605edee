"""Parquet and Arrow files, saved `datasets` directories and Hub datasets in; rows out, by batches.

pyarrow is loaded only when there is such a file, and `datasets` only for a Hub id.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from runner.data.rows import Fault, Row, TablePlace, shown, unreadable
from runner.errors import DataError, Place, Problem, listed

BATCH = 128  # rows, which may be long documents


def parquet(path: str, name: str) -> Iterator[Row | Fault]:
    """The rows of a Parquet file. Raises DataError where it is broken."""
    with _arrow_faults(name):
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            _check_columns(file.schema_arrow.names, name)
            yield from _rows(file.iter_batches(batch_size=BATCH), name)


def arrow(path: str, name: str) -> Iterator[Row | Fault]:
    """The rows of an Arrow file, in its stream format, which `datasets` saves, or its file format."""
    with _arrow_faults(name):
        import pyarrow

        with pyarrow.OSFile(path) as file:
            if file.read(6) == b"ARROW1":
                whole = pyarrow.ipc.open_file(file)
                _check_columns(whole.schema.names, name)
                yield from _rows((whole.get_batch(i) for i in range(whole.num_record_batches)), name)
            else:
                file.seek(0)
                stream = pyarrow.ipc.open_stream(file)
                _check_columns(stream.schema.names, name)
                yield from _rows(stream, name)


def saved_files(directory: str, split: str | None, default_split: str | None) -> list[str]:
    """The Arrow files of a directory that `datasets` saved, in their order.

    Where it holds several splits, the one asked for is taken, or else `default_split`. Raises DataError for a
    directory that was not saved so, and for a split that it lacks.
    """
    name = shown(directory)
    place = Place(name)
    with _system_faults(name):
        if os.path.exists(os.path.join(directory, "dataset_dict.json")):
            splits = _listed_names(_description(directory, "dataset_dict.json"), "splits", name)
            wanted = split or (splits[0] if len(splits) == 1 else default_split)
            if wanted not in splits:
                wrong = f"there is no split `{wanted}` in `{name}`" if wanted else f"`{name}` has several splits"
                raise DataError(Problem(wrong, place, f"set `split` to one of {listed(splits)}"))
            return saved_files(os.path.join(directory, os.path.basename(wanted)), None, None)
        if split is not None:
            raise DataError(Problem(f"`{name}` has no splits to take `{split}` from", place, "leave out `split`"))
        if os.path.exists(os.path.join(directory, "state.json")):
            state = _description(directory, "state.json")
            if state.get("_indices_data_files"):
                raise DataError(Problem(f"`{name}` was saved by an old `datasets`", place, "load it and save it again"))
            files = _listed_names(state.get("_data_files"), "filename", name)
            return [os.path.join(directory, os.path.basename(file)) for file in files]
        files = sorted(os.listdir(directory))
    hint = "name a file in it, or a pattern such as `*.jsonl`" if files else None
    what = "is a directory, and not one that `datasets` saved" if files else "is an empty directory"
    raise DataError(Problem(f"`{name}` {what}", place, hint))


def hub(identifier: str, split: str, name: str) -> Iterator[Row | Fault]:
    """The rows of one split of a Hub dataset, downloaded or from the cache.

    Needs the network, or a filled cache and `HF_HUB_OFFLINE=1`. Raises DataError where it cannot be loaded.
    """
    try:
        import datasets
        import httpx2
    except ModuleNotFoundError as error:
        raise _not_installed(error, name) from None
    failures = (OSError, ValueError, RuntimeError, httpx2.HTTPError, datasets.exceptions.DatasetsError)
    try:
        loaded = datasets.load_dataset(identifier, split=split)
    except failures as error:
        offline = any(os.environ.get(key, "0").upper() in ("1", "TRUE", "YES", "ON") for key in OFFLINE)
        hint = "check the name, and that `HF_TOKEN` may read it"
        if offline:
            hint = "the Hub is switched off here by `HF_HUB_OFFLINE`, and only cached datasets can be read"
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise DataError(
            Problem(f"Hub dataset `{identifier}`, split `{split}`, cannot be loaded: {reason}", Place(name), hint)
        ) from None
    with _arrow_faults(name):
        yield from _rows(loaded.with_format("arrow").iter(batch_size=BATCH), name)


OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


def _rows(batches: Iterable[Any], name: str) -> Iterator[Row]:
    number = 0
    for batch in batches:
        batch.validate(full=True)  # pyarrow trusts offsets and lengths otherwise, and a broken file ends the process
        for values in batch.to_pylist():
            number += 1
            yield Row(values, TablePlace(name, number))


def _check_columns(names: list[str], name: str) -> None:
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice:
        raise DataError(Problem(f"column `{twice[0]}` stands twice in `{name}`", Place(name)))


@contextmanager
def _arrow_faults(name: str) -> Iterator[None]:
    """Turn what pyarrow raises for a broken file into a DataError."""
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise _not_installed(error, name) from None
    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, OverflowError, RecursionError) as error:
        raise unreadable(name, error) from None


@contextmanager
def _system_faults(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(name, error) from None


def _not_installed(error: ModuleNotFoundError, name: str) -> DataError:
    return DataError(Problem(f"`{name}` needs the package `{error.name}`", Place(name), f"`pip install {error.name}`"))


def _description(directory: str, file: str) -> dict[str, Any]:
    with open(os.path.join(directory, file), encoding="utf-8") as text:
        values = json.load(text)
    if not isinstance(values, dict):
        raise ValueError(f"`{file}` is not an object")
    return values


def _listed_names(value: Any, key: str, name: str) -> list[str]:
    """The names in a saved dataset's description: `["train"]` or `[{"filename": "data.arrow"}]`."""
    items = value.get(key) if isinstance(value, dict) else value
    items = [item.get(key) if isinstance(item, dict) else item for item in items] if isinstance(items, list) else []
    if not items or not all(isinstance(item, str) and item for item in items):
        raise DataError(Problem(f"`{name}` is not a directory that `datasets` saved whole", Place(name)))
    return items
