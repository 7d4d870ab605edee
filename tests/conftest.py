"""What tests share: the small real model's tokenizer, and the same tokenizer dressed as other families'."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MODEL = Path(__file__).parent.parent / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tokenizer of SmolLM2-135M-Instruct, or of the directory or .gguf file in `TUNESMITH_TEST_MODEL`."""
    path = Path(os.environ.get("TUNESMITH_TEST_MODEL", MODEL))
    if not path.exists():
        pytest.fail(f"the tests need a model: put one at `{path}`, or name one in `TUNESMITH_TEST_MODEL`")
    from transformers import AutoTokenizer

    if path.suffix == ".gguf":
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return AutoTokenizer.from_pretrained(path)


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
