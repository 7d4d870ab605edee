"""What one row gives to learn: a prompt with its completion, a conversation, a bare prompt, or plain text.

Tools and the arguments of calls are JSON text from end to end. As values they would pass through columns with one type
for all rows, which give each tool the keys of every other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instruction:
    """A prompt and the completion to learn, neither of them empty."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool. `arguments` is a JSON object, as its row writes it."""

    name: str
    arguments: str
    id: str = ""  # what the tool's answer names it by, where the row says so


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` is empty at most in a system turn, a tool's answer, and beside calls."""

    role: str  # system | user | assistant | tool
    content: str
    calls: tuple[Call, ...] = ()  # of an assistant turn
    call_id: str = ""  # of a tool's answer: the call that it answers, where the row says so
    name: str = ""  # of a tool's answer: the tool


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation with at least one user turn and one assistant turn, and the tools it may call.

    Each tool is a JSON object `{"type": "function", "function": {"name": …, "description": …, "parameters": …}}`.
    """

    messages: tuple[Message, ...]
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt to sample completions for, as text or as turns; the other columns of its row, for reward functions."""

    prompt: str | tuple[Message, ...]
    columns: str  # a JSON object


@dataclass(frozen=True, slots=True)
class Document:
    """Plain text, all of which is learned; or a part of it, where its row says that more of it follows."""

    text: str


Example = Instruction | Chat | Question | Document


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Turns without calls as everybody writes them: a role and a content each."""
    return [{"role": message.role, "content": message.content} for message in messages]
