"""The demo's rows: made from a seed, the same everywhere, and no row in training gives one of the evaluation away."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

DEMO = Path(__file__).resolve().parent.parent / "recipes" / "demo"
FILES = ("train.jsonl", "evaluation.jsonl")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    specification = importlib.util.spec_from_file_location("make_data", DEMO / "make_data.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DEMO / name).read_text().splitlines()]


def test_the_files_are_what_the_generator_writes(generator: ModuleType, tmp_path: Path) -> None:
    generator.write(tmp_path / "made")
    for name in FILES:
        assert (tmp_path / "made" / name).read_bytes() == (DEMO / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_every_completion_is_one_line_of_json_about_its_prompt(name: str) -> None:
    for row in rows(name):
        order = row["prompt"].lower()
        answer = json.loads(row["completion"])
        assert list(answer) == ["name", "item", "quantity", "day"]
        assert "\n" not in row["completion"]
        assert answer["name"].istitle() and answer["name"].lower() in order
        assert answer["item"] in order and answer["day"][:3] in order
        assert 1 <= answer["quantity"] <= 12


def test_training_gives_nothing_of_the_evaluation_away(generator: ModuleType) -> None:
    seen = [json.loads(row["completion"]) for row in rows("train.jsonl")]
    held_out = [json.loads(row["completion"]) for row in rows("evaluation.jsonl")]
    assert not {row["name"] for row in seen} & {row["name"] for row in held_out}
    assert not {row["item"].split()[-1] for row in seen} & {row["item"].split()[-1] for row in held_out}
    assert {row["day"] for row in seen} == set(generator.DAYS)
    assert {row["quantity"] for row in seen} == set(range(1, 13))


def test_no_row_occurs_twice() -> None:
    prompts = [row["prompt"] for name in FILES for row in rows(name)]
    assert len(prompts) == len(set(prompts)) == 320
