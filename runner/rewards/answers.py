"""What a function is called with, and what it gave -> an answer for the pool: scores, or a sentence about the fault."""

from __future__ import annotations

import math
import traceback
import types
from collections.abc import Callable
from typing import Any

LONGEST = 400  # characters of an exception's message
SHOWN = 60  # characters of a value

_isfinite, _float, _format = math.isfinite, float, repr
_lines_of = traceback.walk_tb


class Wrong(Exception):
    """A function gave something that is no score."""


def arguments(
    call: dict[str, Any], options: dict[str, Any]
) -> tuple[list[Any], dict[str, Any], Callable[[], dict[str, Any]]]:
    """Values by position, values by name, and a function that gives what was logged through TRL's two callbacks."""
    if "each" in call:
        return call["each"], options, dict
    named = dict(call["batch"])
    columns: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    if "trainer_state" in named:
        named["trainer_state"] = types.SimpleNamespace(**named["trainer_state"])
    if "log_extra" in named:
        named["log_extra"] = lambda column, values: columns.__setitem__(str(column), [str(each) for each in values])
    if "log_metric" in named:
        named["log_metric"] = lambda name, value: metrics.__setitem__(str(name), number(value))
    return [], {**named, **options}, lambda: {"columns": columns, "metrics": metrics} if columns or metrics else {}


def one(result: Any) -> dict[str, Any]:
    """The answer of an `each` function."""
    return {"scores": [number(result)]}


def many(result: Any, count: int) -> dict[str, Any]:
    """The answer of a `batch` function: one score or None a completion, and the faults by position."""
    convert = getattr(result, "tolist", None)
    if convert is not None:  # an array or a tensor
        result = convert()
    if result is None:
        raise Wrong("returned `None`, where a list of scores is wanted")
    if not isinstance(result, list | tuple):
        raise Wrong(f"returned {shown(result)}, where a list of scores is wanted")
    if len(result) != count:
        raise Wrong(f"returned {len(result)} scores for {count} completions")
    scores: list[float | None] = []
    faults: dict[str, str] = {}
    for position, value in enumerate(result):
        try:
            scores.append(None if value is None else number(value))
        except Wrong as error:
            scores.append(None)
            faults[str(position)] = str(error)
    return {"scores": scores, "faults": faults}


def number(value: Any) -> float:
    """A score as a float. Raises Wrong for what is no finite number; text is none, whatever it says."""
    if value is None:
        raise Wrong("returned `None`, and a score is a number")
    if isinstance(value, str | bytes | bytearray) or not hasattr(value, "__float__"):
        if type(value).__name__ == "coroutine":
            value.close()
            raise Wrong("returned a coroutine; a function that awaits is defined with `async def`")
        raise Wrong(f"returned {shown(value)}, and a score is a number")
    try:
        found = _float(value)
    except OverflowError:
        raise Wrong("returned a number that is too large for a float") from None
    except (TypeError, ValueError):  # an array of several values
        raise Wrong(f"returned {shown(value)}, and a score is one number") from None
    if not _isfinite(found):
        raise Wrong(f"returned `{found}`, and a score is a finite number")
    return found


def explained(error: BaseException, file: str) -> str:
    """What happened, in a sentence that goes on from the function's name."""
    if isinstance(error, Wrong):
        return str(error)
    if isinstance(error, SystemExit):
        return f"called `sys.exit({shown(error.code)[1:-1]})`" if error.code is not None else "called `sys.exit()`"
    if isinstance(error, MemoryError):
        return "raised `MemoryError`: it asked for more memory than it may use"
    name = type(error).__name__
    try:
        said = str(error)
    except BaseException:
        said = ""
    said = " ".join(said.split())
    if len(said) > LONGEST:
        said = said[:LONGEST] + "…"
    return f"raised `{name}: {said}`" if said else f"raised `{name}`"


def line_of(error: BaseException, file: str) -> int:
    """The last line of the user's file that the error passed through; 0 if it passed through none."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno or 0
    line = 0
    for frame, number_of_line in _lines_of(error.__traceback__):
        if frame.f_code.co_filename == file:
            line = number_of_line or 0
    return line


def shown(value: Any) -> str:
    """A value for a sentence, in backticks and cut to a length; its type where it cannot be shown."""
    try:
        text = " ".join(_format(value).split())
    except BaseException:
        return f"a value of type `{type(value).__name__}`"
    return f"`{text[:SHOWN]}…`" if len(text) > SHOWN else f"`{text}`"
