"""A recipe's values and places, and texts such as `training.epochs=2` -> values and places with the texts laid over.

A value is read as YAML, by the rules of the recipe, and `null` takes the key out, which puts its default back.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runner import secrets
from runner.errors import Place, Problem, RecipeError
from runner.reading import schema
from runner.reading.source import Path, Places, Source, Written, override_value

FILE = "--set"  # what stands in the place of a file name


def apply(source: Source, overrides: Sequence[str]) -> Source:
    """The source with each override laid over it, the last of two winning. Raises RecipeError with all their faults."""
    values, places = copy.deepcopy(source.values), dict(source.places)
    problems: list[Problem] = []
    for text in overrides:
        try:
            _lay(values, places, text)
        except RecipeError as error:
            problems.extend(error.problems)
    if problems:
        raise RecipeError(problems)
    laid = (*source.overrides, *map(secrets.hide, overrides))
    return replace(source, values=values, places=places, overrides=laid)


def _lay(values: dict[str, Any], places: Places, text: str) -> None:
    dotted, equals, rest = text.partition("=")
    whole = _place(text, 0, len(text))
    if not equals:
        raise RecipeError(Problem("the override has no `=`", whole, "write `--set key=value`"))
    path: list[str | int] = []
    spans: list[Place] = []
    column = 0
    for part in dotted.split("."):
        if not part.strip():
            message = (
                "the override names no key before its `=`" if not dotted.strip() else "a key is missing at the `.`"
            )
            raise RecipeError(Problem(message, whole, "write `--set training.epochs=2`"))
        path.append(part)
        spans.append(_place(text, column, len(part)))
        column += len(part) + 1
    value, below = override_value(text, len(dotted) + 1, FILE)
    if value is None and not rest.strip():
        hint = f"write `{dotted}=null` to go back to the default"
        raise RecipeError(Problem(f"`{dotted}` is given no value", whole, hint))
    if value is None and rest.strip().lower() not in ("null", "~"):
        hint = "put the value in quotes inside the argument"
        raise RecipeError(Problem(f"the value of `{dotted}` reads as a comment", below[()].value, hint))

    removal = value is None and schema.definition(tuple(path)) is not None
    owner: Any = values
    for index in range(len(path) - 1):
        owner = _step(owner, path, index, places, spans, create=not removal)
        if owner is None:
            return  # there is nothing to take out
    last = _position(owner, path, len(path) - 1, spans)
    here = tuple(path)
    _forget(places, here)
    if removal and isinstance(owner, dict):
        owner.pop(last, None)
        return
    owner[last] = value
    for inner, written in below.items():
        places[(*here, *inner)] = written
    places[here] = Written(spans[-1], below[()].value)


def _step(owner: Any, path: list[str | int], index: int, places: Places, spans: list[Place], create: bool) -> Any:
    """What stands at one part of the path; where there is nothing, a new mapping or None."""
    part = _position(owner, path, index, spans)
    here = tuple(path[: index + 1])
    if isinstance(owner, list):
        return owner[int(part)]
    if owner.get(part) is None:
        if not create:
            return None
        owner[part] = {}
        _forget(places, here)
        places[here] = Written(spans[index], spans[index])
    return owner[part]


def _position(owner: Any, path: list[str | int], index: int, spans: list[Place]) -> str | int:
    """The part of the path as a key or list index, which is also written back into the path."""
    part = str(path[index])
    above = ".".join(str(name) for name in path[:index])
    if isinstance(owner, dict):
        return part
    if not isinstance(owner, list):
        kind = "text" if isinstance(owner, str) else "a single value"
        raise RecipeError(Problem(f"`{above}` is {kind} and has no key `{part}`", spans[index]))
    if not (part.isascii() and part.isdigit() and len(part) < 9):
        hint = f"name an item by its number, as `{above}.0`"
        raise RecipeError(Problem(f"`{above}` is a list, and `{part}` is no number", spans[index], hint))
    path[index] = int(part)
    if int(part) >= len(owner):
        count = f"{len(owner)} item" + ("" if len(owner) == 1 else "s")
        raise RecipeError(Problem(f"`{above}` has {count}, counted from 0, and no `{part}`", spans[index]))
    return int(part)


def _forget(places: Places, path: Path) -> None:
    for known in [known for known in places if known[: len(path)] == path]:
        del places[known]


def _place(text: str, column: int, width: int) -> Place:
    shown = secrets.hide(text.replace(os.linesep, " "))
    return Place(FILE, 1, column + 1, max(width, 1), shown)
