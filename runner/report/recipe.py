"""A settled recipe and the text that it was made of in, every setting out, and whether a person chose it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from runner.errors import RecipeError
from runner.reading import check, source
from runner.report.reading import mapping

Path = tuple[str | int, ...]
NOT_SETTINGS = ("file", "version")


def settings(settled: Mapping[str, Any], written: str) -> list[tuple[str, str, bool]]:
    """Each setting's name and value, and whether it is a default: neither written nor other than without a word."""
    task = settled.get("task")
    try:
        said = set(source.recipe(written, "recipe.yaml").places)
    except RecipeError:
        said = set()
    try:
        bare = dict(leaves(asdict(check.bare(str(task), "owner/model"))))
    except (RecipeError, LookupError, ValueError):
        bare = {}
    return [
        (".".join(map(str, path)), shown(value), path not in said and _is_default(path, value, bare))
        for path, value in leaves(settled)
        if path and path[0] not in NOT_SETTINGS
    ]


def _is_default(path: Path, value: Any, bare: Mapping[Path, Any]) -> bool:
    """Whether the value is that of a recipe that says nothing of it."""
    return bare[path] == value if path in bare else value in (None, [], {})


def choices(plan: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What the plan settled beside the recipe, with the reason."""
    found = [
        (name.replace("_", " "), shown(entry["value"]), str(entry.get("reason", "")))
        for name, entry in plan.items()
        if isinstance(entry, dict) and "value" in entry
    ]
    batch = mapping(plan.get("batch"))
    if batch:
        text = f"{batch.get('micro')} at a time × {batch.get('accumulation')} × {batch.get('processes')} processes"
        found.append(("rows a step", shown(batch.get("effective")), f"{text}: {batch.get('reason')}"))
    return found


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that holds no other, with its keys; an empty list or object is a value."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))
    else:
        yield path, list(value) if isinstance(value, tuple) else value


def shown(value: Any) -> str:
    """A value as a person reads it in a table."""
    if value is None or value == [] or value == {}:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()  # as a recipe has it
    return ", ".join(map(shown, value)) if isinstance(value, list) else str(value)
