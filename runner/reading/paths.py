"""A path as a recipe says it -> an absolute path, or a Hub id as it is; or a RecipeError for what is not there.

Relative paths are relative to the recipe's directory. Nothing is read but the names of files,
DeepSpeed's settings and JSON schemas.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from typing import Any

from runner import chat_templates, secrets
from runner.data import rows, strict_json
from runner.errors import Place, Problem, RecipeError, listed
from runner.nearest import nearest
from runner.reading.keys import HUB_ID, REPOSITORY
from runner.reading.source import file_text, similar_file
from runner.scores import fits_schema

DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".md")
OTHER_SUFFIXES = (".xlsx", ".gz", ".zip", ".zst", ".bz2", ".xz")  # of files, and no Hub id
GLOB = re.compile(r"[*?\[]")
HUB_FORM = "a Hub id looks like `owner/name`"
RELATIVE = "paths are relative to the recipe's directory"


def model(value: str, directory: str, place: Place) -> str:
    """A Hub id, or the absolute path of a directory or `.gguf` file."""
    path = absolute(value, directory)
    weights = value.lower().endswith(".gguf")
    if os.path.isdir(path) and not weights:
        return path
    if weights or _looks_like_path(value) or os.path.isfile(path):
        _must_exist(value, path, place)
        if not weights:
            raise _wrong(f"`{value}` is a file, and a model is a directory, a `.gguf` file or a Hub id", place)
        _must_be_file(value, path, place)
        return path
    return _hub_id(value, HUB_ID, place)


def adapter(value: str, directory: str, place: Place) -> str:
    """A Hub id, or the absolute path of a directory that holds an adapter."""
    path = absolute(value, directory)
    if os.path.isdir(path):
        if not os.path.isfile(os.path.join(path, "adapter_config.json")):
            raise _wrong(
                f"`{value}` is a directory without an `adapter_config.json`", place, _adapter_inside(value, path)
            )
        return path
    if _looks_like_path(value) or os.path.exists(path):
        _must_exist(value, path, place)
        raise _wrong(f"`{value}` is a file, and an adapter is a directory or a Hub id", place)
    return _hub_id(value, REPOSITORY, place)


def data(value: str, split: str | None, directory: str, place: Place) -> str:
    """A Hub id, or the absolute path of a file or directory, or a pattern that at least one file matches.

    In a pattern, the directories above it stand escaped, so that their own names match nothing but themselves.
    """
    path = absolute(value, directory)
    if os.path.isdir(path):
        return path
    if os.path.exists(path):
        _must_be_file(value, path, place)
        _no_split(value, split, place)
        if not path.lower().endswith(DATA_SUFFIXES):
            raise _wrong(f"`{value}` is of no known type", place, f"data files are {listed(DATA_SUFFIXES)}")
        return path
    if GLOB.search(value):
        _no_split(value, split, place)
        own = os.path.expanduser(value)
        pattern = own if os.path.isabs(own) else os.path.join(glob.escape(directory), own)
        if next(glob.iglob(pattern, recursive=True), None) is None:
            raise _wrong(f"no file matches `{value}`", place, RELATIVE)
        return pattern
    _no_broken_link(value, path, place)
    share = re.fullmatch(r"(0?\.\d+)|(\d{1,2})\s*%", value, re.ASCII)
    if share:
        number = share[1] or f"{int(share[2]) / 100}"
        raise _wrong(f"`{value}` does not exist", place, f"a share of the rows is a number: write `{number}`")
    if os.path.isfile(os.path.dirname(path)):
        raise _wrong(f"`{value}` does not exist", place, f"`{os.path.dirname(value)}` is a file, not a directory")
    similar = similar_file(path, value)
    # `data/train.jsonll` has the form of a Hub id, and stands beside `data/train.jsonl`
    mistyped = "." in os.path.basename(value) and similar is not None and "similar" in similar
    named_as_file = value.lower().endswith(DATA_SUFFIXES + OTHER_SUFFIXES) or _looks_like_path(value)
    if named_as_file or mistyped:
        raise _wrong(f"`{value}` does not exist", place, similar or RELATIVE)
    if not re.fullmatch(REPOSITORY, value):
        raise _wrong(f"`{value}` does not exist", place, HUB_FORM if value.count("/") > 1 else similar or HUB_FORM)
    return value


def template(value: str, directory: str, place: Place) -> str:
    """`auto` or the name of a template that comes with us, as they are, or the absolute path of a Jinja file.

    A file that bears such a name is named by its path: `./hermes`.
    """
    names = ("auto", *chat_templates.NAMES)
    if value in names:
        return value
    path = absolute(value, directory)
    if not os.path.exists(path):
        meant = nearest(value, names)
        hint = f"write `{meant}`" if meant else f"write {listed(names)}, or the path of a Jinja file"
        raise _wrong(f"`{value}` does not exist", place, similar_file(path, value) or hint)
    _must_be_file(value, path, place)
    return path


def deepspeed(value: str, directory: str, place: Place) -> str:
    """The absolute path of a file of DeepSpeed's settings: one JSON object."""
    path = absolute(value, directory)
    settings = _json(value, path, "file of settings", place)
    if not isinstance(settings, dict):
        raise _wrong(f"`{value}` holds {strict_json.kind(settings)}, and DeepSpeed's settings are an object", place)
    return path


def json_schema(value: str, directory: str, place: Place) -> str:
    """The absolute path of a JSON Schema whose keywords are all known."""
    path = absolute(value, directory)
    try:
        fits_schema.check(_json(value, path, "JSON schema", place))
    except ValueError as error:
        hint = "a keyword that is not known would not be checked: `rewards/json_schema.py` lists those that are"
        raise _wrong(f"`{value}` is no JSON schema that can be used: {error}", place, hint) from None
    return path


def python(value: str, directory: str, place: Place) -> str:
    """The absolute path of a Python file."""
    path = absolute(value, directory)
    _must_exist(value, path, place)
    _must_be_file(value, path, place)
    return path


def output(value: str, directory: str, place: Place) -> str:
    """The absolute path of a directory that is there or can be made."""
    path = absolute(value, directory)
    above = path
    while not os.path.lexists(above) and os.path.dirname(above) != above:
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        there = "is" if above == path else "lies below"
        raise _wrong(f"`{value}` {there} a file, and runs are written to a directory", place)
    return path


def absolute(value: str, directory: str) -> str:
    """The path without `~`, `.` and `..`."""
    return os.path.normpath(os.path.join(directory, os.path.expanduser(value)))


def is_local(settled: str) -> bool:
    """Whether a settled model, adapter or data set is on disk, and no Hub id."""
    return os.path.isabs(settled)


def _json(value: str, path: str, what: str, place: Place) -> Any:
    """The value in a JSON file, which a message calls `what`."""
    _must_exist(value, path, place)
    _must_be_file(value, path, place)
    text = file_text(path)
    try:
        return strict_json.Decoder().whole(text)
    except strict_json.Invalid as error:
        before = text[: error.position].split("\n")
        line = secrets.hide(text.split("\n")[len(before) - 1])
        there = Place(rows.shown(path), len(before), len(before[-1]) + 1, 1, line)
        raise _wrong(f"`{value}` is no {what}: {error.message}", there, error.hint) from None


def _looks_like_path(value: str) -> bool:
    return value.startswith((".", "/", "~"))


def _hub_id(value: str, form: str, place: Place) -> str:
    if re.fullmatch(form, value):
        return value
    raise _wrong(f"`{value}` is neither a directory nor a Hub id", place, HUB_FORM)


def _must_exist(value: str, path: str, place: Place) -> None:
    _no_broken_link(value, path, place)
    if not os.path.exists(path):
        relative = None if os.path.isabs(os.path.expanduser(value)) else RELATIVE
        raise _wrong(f"`{value}` does not exist", place, similar_file(path, value) or relative)


def _no_broken_link(value: str, path: str, place: Place) -> None:
    if os.path.islink(path) and not os.path.exists(path):
        raise _wrong(
            f"`{value}` is a link to something that does not exist", place, f"it leads to `{os.readlink(path)}`"
        )


def _must_be_file(value: str, path: str, place: Place) -> None:
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a pipe or device"
        raise _wrong(f"`{value}` is {kind}, and a file is needed", place)


def _no_split(value: str, split: str | None, place: Place) -> None:
    if split is not None:
        message = f"`{value}` is a file, and has no split `{split}`"
        raise _wrong(message, place, "take `split` away: it is for Hub data sets and saved directories")


def _adapter_inside(value: str, path: str) -> str | None:
    inside = os.path.join(path, "adapter", "adapter_config.json")
    return f"there is one in `{os.path.join(value, 'adapter')}`" if os.path.isfile(inside) else None


def _wrong(message: str, place: Place, hint: str | None = None) -> RecipeError:
    return RecipeError(Problem(message, place, hint))
