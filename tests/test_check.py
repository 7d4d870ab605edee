"""A recipe is read whole, every fault in it is told at once, and each sentence is the one in its golden file.

`WRITE_GOLDEN=1 pytest tests/test_check.py` writes the golden files anew; read what changed before it is kept.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner import check, errors

BROKEN = Path(__file__).parent / "broken"
RECIPES = sorted(BROKEN.glob("*.yaml"))


def test_there_are_broken_recipes_and_each_golden_file_has_its_own() -> None:
    assert len(RECIPES) >= 40
    assert {file.stem for file in BROKEN.glob("*.txt")} == {file.stem for file in RECIPES}


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_golden(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    with pytest.raises(errors.RecipeError) as caught:
        check.read(file.name)
    report = errors.report(caught.value) + "\n"
    golden = file.with_suffix(".txt")
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(report, encoding="utf-8")
    assert report == golden.read_text(encoding="utf-8")
