"""Text -> whether a token or key stands in it, and the same text with every one of them hidden."""

from __future__ import annotations

import re

# Tokens that say what they are: Hugging Face, OpenAI and Anthropic, AWS, GitHub, Weights & Biases.
SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|wandb_v1_[A-Za-z0-9_-]{30,})"
)
# A Weights & Biases key of the old kind looks like a git commit, so it counts only where no commit can stand.
COMMIT_OR_KEY = re.compile(r"(?<![\w/.-])[0-9a-f]{40}(?![\w/.-])")
COMMIT_KEY = "revision"
SECRET_KEY = re.compile(r"token|api_?key|secret|password|credential")


def holds_secret(value: str, key: str = "") -> bool:
    """Whether a text value holds something shaped like a secret; `key` is the last key on the way to it."""
    if SHAPES.search(value):
        return True
    return key != COMMIT_KEY and COMMIT_OR_KEY.fullmatch(value.strip()) is not None


def names_secret(key: str) -> bool:
    """Whether a key's name says that its value is a secret; `tokenizer` and `max_new_tokens` do not."""
    return SECRET_KEY.search(key.lower().replace("-", "_").replace("tokens", "").replace("tokeniz", "")) is not None


def hide(text: str) -> str:
    """The text with a star for each character of a secret, so that columns stay where they were."""
    text = SHAPES.sub(lambda match: "*" * len(match.group()), text)
    if COMMIT_KEY in text:
        return text
    return COMMIT_OR_KEY.sub(lambda match: "*" * len(match.group()), text)
