"""Held-out rows alone: what an evaluation reads of a run's data, or of data that was never trained on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import recipe
from runner.data import dataset, held_out
from runner.data.examples import Instruction
from runner.errors import DataError


def settings(train: Path | None, evaluation: Path | None = None, **changes: object) -> recipe.Dataset:
    def sources(path: Path | None) -> tuple[recipe.Source, ...]:
        return (recipe.Source(str(path), 1.0, None, (), "auto"),) if path else ()

    plain = recipe.Dataset(
        train=sources(train), evaluation=sources(evaluation), evaluation_fraction=None, apply_chat_template="auto",
        learn="completions", max_length=None, overflow="error", on_bad_row="error", shuffle=True, limit=None,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def write(path: Path, splits: list[str | None]) -> Path:
    rows = [{"prompt": str(number), "completion": "x", "split": split} for number, split in enumerate(splits)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prompts(samples: list[dataset.Sample]) -> list[str]:
    assert all(isinstance(sample.example, Instruction) for sample in samples)
    return [sample.example.prompt for sample in samples if isinstance(sample.example, Instruction)]


SPLITS = st.lists(st.sampled_from(["train", "evaluation", None]), min_size=2, max_size=30)


@given(splits=SPLITS, limit=st.none() | st.integers(1, 9), seed=st.integers(0, 99))
def test_they_are_those_that_training_leaves_and_every_row_is_counted(
    tmp_path_factory: pytest.TempPathFactory, splits: list[str | None], limit: int | None, seed: int
) -> None:
    path = write(tmp_path_factory.mktemp("rows") / "rows.jsonl", [*splits, "train", "evaluation"])
    by = settings(path, limit=limit)
    trained, alone = dataset.read(by, seed), held_out.read(by, seed)
    assert alone.train == [] and alone.evaluation == trained.evaluation
    (file,) = alone.ledger.files
    assert file.read == file.kept + sum(file.dropped.values()) and file.kept == len(alone.evaluation)
    assert file.dropped.get(dataset.TRAINED_ON, 0) == len(trained.train)
    assert alone.ledger.repeats == 0


@given(splits=SPLITS)
def test_without_rows_to_train_on_all_are_held_out(
    tmp_path_factory: pytest.TempPathFactory, splits: list[str | None]
) -> None:
    path = write(tmp_path_factory.mktemp("rows") / "rows.jsonl", splits)
    found = held_out.read(settings(None, path), 0)
    assert Counter(prompts(found.evaluation)) == Counter(map(str, range(len(splits))))
    assert (found.ledger.kept, found.ledger.dropped) == (len(splits), {})


def test_a_row_that_is_taken_twice_is_kept_once(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [None, None])
    twice = settings(None, path)
    twice = replace(twice, evaluation=(replace(twice.evaluation[0], weight=2.0),))
    found = held_out.read(twice, 0)
    assert (len(found.evaluation), found.ledger.kept, found.ledger.repeats) == (4, 2, 2)


def test_a_row_of_another_split_is_still_refused_where_something_is_trained(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ["train"])
    with pytest.raises(DataError, match="the row says `split: train`"):
        held_out.read(settings(write(tmp_path / "train.jsonl", [None]), path), 0)
