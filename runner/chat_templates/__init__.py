"""Chat templates that come with Tunesmith: a name in, its Jinja text and the tokens that it needs out."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

FOLDER = Path(__file__).parent
TOKENS = {"hermes": ("<|im_start|>", "<|im_end|>")}  # what a tokenizer must know


def names() -> tuple[str, ...]:
    """The names that a recipe may give to `model.chat_template`."""
    return tuple(TOKENS)


def text(name: str) -> str:
    """The template itself."""
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def missing(name: str, vocabulary: Container[str]) -> list[str]:
    """The tokens of a template that a vocabulary does not have."""
    return [token for token in TOKENS[name] if token not in vocabulary]
