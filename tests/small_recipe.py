"""The smallest recipe there is, written to a folder, and the faults that are found in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import errors
from runner.reading import check

SMALLEST = "task: sft\nmodel: {name: owner/model}\ndataset: {train: rows.jsonl}\n"


def write(folder: Path, text: str = SMALLEST, name: str = "my recipe.yaml") -> str:
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def faults(path: str, *overrides: str) -> list[errors.Problem]:
    with pytest.raises(errors.RecipeError) as caught:
        check.read(path, overrides)
    return list(caught.value.problems)


def only(path: str, *overrides: str) -> errors.Problem:
    (problem,) = faults(path, *overrides)
    return problem
