"""A settled recipe written out again: checked once more, it gives the same data, metrics and rewards."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.reading import check, written
from runner.reading.source import Source

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))
MODEL = "model.name=owner/model"
CHANGES = {
    "bare": [],
    "sources of several kinds": [
        "dataset.train=[{path: a.jsonl, weight: 2, columns: {prompt: q}}, {path: b.jsonl, format: messages}]",
        "dataset.evaluation=[{path: b.jsonl, format: messages}, {path: owner/data, split: test}]",
        "dataset.columns={completion: a}",
    ],
    "a share": ["dataset.evaluation=0.25", "dataset.apply_chat_template=false", "dataset.max_length=64"],
    "a saved split": ["dataset.train=owner/data", "dataset.split=small", "dataset.limit=3"],
    "rewards beside metrics": [
        "evaluation.rewards=[{use: length_between, name: short, options: {maximum: 60}, secrets: [KEY]},"
        "{file: mine.py, requirements: [numpy], reload: false}, {file: mine.py, name: b, requirements: r.txt}]",
        "evaluation.metrics=[loss, token_f1]",
        "evaluation.baseline=false",
    ],
    "calls": ["task=function_calling", "dataset.train=[{path: a.jsonl, format: xlam}, b.jsonl]"],
}


def same(recipe_file: str, overrides: list[str]) -> None:
    settled = check.read(recipe_file, overrides)
    again = check.settle(Source("again", written.values(settled), {}, ()), "elsewhere/again.yaml")
    for block in ("task", "dataset", "evaluation", "rewards"):
        assert getattr(again, block) == getattr(settled, block)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_this_repository(path: Path) -> None:
    same(str(path), [MODEL])


@pytest.mark.parametrize("change", CHANGES)
def test_settings_of_every_kind(here: Path, change: str) -> None:
    for name in ("a.jsonl", "b.jsonl", "r.txt"):
        Path(name).write_text("")
    Path("mine.py").write_text("def mine(prompt, completion, example):\n    return 1.0\n")
    Path("recipe.yaml").write_text("task: sft\nmodel: {name: owner/model}\ndataset: {train: a.jsonl}\n")
    same("recipe.yaml", CHANGES[change])
