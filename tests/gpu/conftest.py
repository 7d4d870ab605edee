"""Tests that need an NVIDIA GPU; where there is none they are skipped. `make test-gpu` runs them alone."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from runs import write_llama

from runner import nvidia


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if nvidia.visible(os.environ):
        return
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.fixture(scope="session")
def model(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of four layers, whose heads are as wide as those of most small models."""
    return write_llama(
        tmp_path_factory.mktemp("model"),
        tokenizer,
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=8192,
    )


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of very different lengths with two short answers."""
    source, path = random.Random(3), tmp_path_factory.mktemp("rows") / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(96):
            number, words = source.randrange(1000), source.randrange(3, 200)
            prompt = f"Is {number} even? " + " ".join(source.choice(("yes", "no", "maybe")) for _ in range(words))
            file.write(json.dumps({"prompt": prompt, "completion": "yes" if number % 2 == 0 else "no"}) + "\n")
    return path
