"""Conversations for the mask tests, and model families: each one's chat template and tokens on our small tokenizer.

The templates are those that TRL ships, but for Mistral's, which it does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runner.data.examples import Chat, Message

MISTRAL = (
    "{{ bos_token }}"
    "{% if messages[0].role == 'system' %}{% set system, loop_messages = messages[0].content + '\n\n', messages[1:] %}"
    "{% else %}{% set system, loop_messages = '', messages %}{% endif %}"
    "{% for message in loop_messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user and assistant') }}{% endif %}"
    "{% if message.role == 'user' %}"
    "{{ '[INST] ' }}{% if message == (loop_messages | selectattr('role', 'equalto', 'user') | list)[-1] %}"
    "{{ system }}{% endif %}{{ message.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + message.content + eos_token }}{% endif %}"
    "{% endfor %}"
)

HEADERS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
LLAMA = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>"}
TURNS = ("<start_of_turn>", "<end_of_turn>")
THINKING = ("<think>", "</think>")
PHI = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

FAMILIES = (
    "smollm2",
    "llama3",
    "llama3_1",
    "llama3_2",
    "qwen2_5",
    "qwen3",
    "gemma",
    "gemma3",
    "mistral",
    "phi3",
    "phi3_5",
)


def chat(*turns: str) -> Chat:
    """Turns written as `user: text`."""
    pairs = [turn.split(": ", 1) for turn in turns]
    return Chat(tuple(Message(role, content) for role, content in pairs))


SHORT = chat("user: What is 2 + 2?", "assistant: 4")
LONG = chat(
    "system: Be brief.",
    "user: 你好 👩‍👩‍👧 {{ 7 * 7 }} e\u0301",
    "assistant: \n  你好！ 👋🏽 {% raw %}\n",
    "user: 4",
    "assistant: 4",
)
REASONED = chat(
    "user: First?",
    "assistant: <think>\nOne.\n</think>\n\nFirst.",
    "user: Second?",
    "assistant: <think>\nTwo.\n</think>\n\nSecond.",
)


def _shipped_folder() -> Path:
    found = find_spec("trl")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "chat_templates"


SHIPPED = _shipped_folder()


def shipped(name: str) -> str:
    """One of the chat templates that come with TRL."""
    return (SHIPPED / f"{name}.jinja").read_text(encoding="utf-8")


def tokenizer_of(family: str, tokenizer: Any, dressed: Callable[..., Any]) -> Any:
    """The test tokenizer with a family's template and tokens."""
    from tokenizers import AddedToken

    if family == "smollm2":
        return tokenizer
    if family == "mistral":
        return dressed(MISTRAL, bos_token="<s>", eos_token="</s>")
    if family.startswith("llama"):
        return dressed(shipped(family), HEADERS, **LLAMA)
    if family.startswith("gemma"):
        return dressed(shipped(family), TURNS, **GEMMA)
    if family.startswith("phi"):  # its tokens swallow the white space behind them
        tokens = tuple(AddedToken(text, rstrip=True, normalized=False, special=True) for text in PHI)
        return dressed(shipped(family), tokens, eos_token="<|endoftext|>")
    return dressed(shipped(family), added=THINKING)
