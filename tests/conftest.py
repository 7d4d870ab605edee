"""What tests share: an empty working directory, and the small real model's tokenizer, its own or in others' dress."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from small_model import MODEL

pytest_plugins = ["cores", "hub_server", "pushes", "runs"]

settings.register_profile("tests", deadline=None)  # how long a case takes says how busy the machine is
settings.load_profile("tests")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the working directory while the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tokenizer of SmolLM2-135M-Instruct, or of the directory or .gguf file in `TUNESMITH_TEST_MODEL`."""
    if not MODEL.exists():
        pytest.fail(f"the tests need a model: put one at `{MODEL}`, or name one in `TUNESMITH_TEST_MODEL`")
    from transformers import AutoTokenizer

    if MODEL.suffix == ".gguf":
        return AutoTokenizer.from_pretrained(MODEL.parent, gguf_file=MODEL.name)
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="session")
def dressed(tokenizer: Any) -> Callable[..., Any]:
    """A function that gives the tokenizer another chat template, more special tokens, and other ends."""

    def dress(template: str | None, special: tuple[Any, ...] = (), added: tuple[Any, ...] = (), **named: str) -> Any:
        other = copy.deepcopy(tokenizer)
        other.add_special_tokens(named)
        other.add_tokens(list(special), special_tokens=True)
        other.add_tokens(list(added))
        other.chat_template = template
        return other

    return dress
