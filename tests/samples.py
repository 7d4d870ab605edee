"""Samples read from small files in the working directory, and what is told where they cannot be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runner import recipe
from runner.data import dataset
from runner.data.dataset import Data
from runner.data.examples import Instruction
from runner.errors import DataError

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def pair(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"p{number}", "completion": f"c{number}", **more}


def write(name: str, rows: Sequence[Any]) -> None:
    """JSON lines; a text stands on its line as it is."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def source(path: str, **given: Any) -> recipe.Source:
    settled: dict[str, Any] = {"weight": 1.0, "split": None, "columns": (), "format": "auto", **given}
    return recipe.Source(path=str(Path(path).absolute()), **settled)


def read(
    train: Sequence[recipe.Source] | str,
    evaluation: Sequence[recipe.Source] = (),
    seed: int = 1,
    **given: Any,
) -> Data:
    settled: dict[str, Any] = {
        "evaluation_fraction": None, "apply_chat_template": "auto", "learn": "completions", "max_length": None,
        "overflow": "error", "on_bad_row": "error", "shuffle": True, "limit": None, **given,
    }  # fmt: skip
    sources = (source(train),) if isinstance(train, str) else tuple(train)
    data = dataset.read(recipe.Dataset(train=sources, evaluation=tuple(evaluation), **settled), seed)
    for file in data.ledger.files:
        assert file.read == file.kept + sum(file.dropped.values())
    assert len(data.train) + len(data.evaluation) == data.ledger.kept + data.ledger.repeats
    return data


def refused(*given: Any, **named: Any) -> DataError:
    with pytest.raises(DataError) as raised:
        read(*given, **named)
    return raised.value


def told(*given: Any, **named: Any) -> list[tuple[str, str, str | None]]:
    error = refused(*given, **named)
    assert error.total == len(error.problems)
    return [(str(problem.place), problem.message, problem.hint) for problem in error.problems]


def prompts(samples: Sequence[dataset.Sample]) -> list[str]:
    return [sample.example.prompt for sample in samples if isinstance(sample.example, Instruction)]
