"""Documents in small files of the working directory, surveyed and streamed as a recipe's settings say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from samples import source

from runner import recipe
from runner.data import documents
from runner.data.documents import Survey
from runner.errors import DataError


def settings(train: Sequence[str | recipe.Source] | str, **given: Any) -> recipe.Dataset:
    sources = [train] if isinstance(train, str) else train
    settled: dict[str, Any] = {
        "evaluation": (), "evaluation_fraction": None, "apply_chat_template": "auto", "learn": "completions",
        "max_length": None, "overflow": "split", "on_bad_row": "error", "shuffle": True, "limit": None, **given,
    }  # fmt: skip
    named = (source(each, format="text") if isinstance(each, str) else each for each in sources)
    return recipe.Dataset(train=tuple(named), **settled)


def survey(wanted: recipe.Dataset, seed: int = 1) -> Survey:
    """The survey, whose ledger adds up."""
    found = documents.survey(wanted, seed)
    for file in found.ledger.files:
        assert file.read == file.kept + sum(file.dropped.values())
    assert sum(found.documents.values()) == found.ledger.kept + found.ledger.repeats
    return found


def texts(wanted: recipe.Dataset, seed: int = 1) -> dict[str, list[str]]:
    """The documents of both splits in the order of the stream, put together again."""
    found: dict[str, list[str]] = {"train": [], "evaluation": []}
    held = ""
    for piece in documents.stream(wanted, survey(wanted, seed)):
        held += piece.text
        if piece.ends:
            found[piece.split].append(held)
            held = ""
    return found


def told(wanted: recipe.Dataset) -> list[tuple[str, str, str | None]]:
    with pytest.raises(DataError) as raised:
        documents.survey(wanted, 1)
    return [(str(each.place), each.message, each.hint) for each in raised.value.problems]
