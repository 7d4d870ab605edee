"""Chat templates that come with Tunesmith: a name in, its Jinja text and the tokens that it needs out."""

from __future__ import annotations

import re
from collections.abc import Container
from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = ("hermes",)  # what a recipe may give to `model.chat_template`
TOKEN = re.compile(r"<\|\w+\|>")


def text(name: str) -> str:
    """The template itself."""
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def missing(name: str, vocabulary: Container[str]) -> list[str]:
    """The special tokens of a template that a vocabulary does not have, in the template's order."""
    return [token for token in dict.fromkeys(TOKEN.findall(text(name))) if token not in vocabulary]
