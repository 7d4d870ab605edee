"""Values of a row in, the same values with their place in it and the text that they were written as out.

A value stands either in the row itself or in JSON text inside of it. One from text keeps its spelling, so that `1.0`
stays `1.0`, and its place is a path (`answers[1].name`) or, in prose, a character (`chat` at character 31).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from runner.data import strict_json
from runner.data.formats import Fault


@dataclass(frozen=True, slots=True)
class At:
    """A path inside a row, and the character of its text, from 0, where a path says too little."""

    path: str
    start: int | None = None

    def __str__(self) -> str:
        return f"`{self.path}`" if self.start is None else f"`{self.path}` at character {self.start + 1}"


@dataclass(frozen=True, slots=True)
class Node:
    """One value. `text` is the JSON that it was written as, None where it was read with its row."""

    value: Any
    at: At
    text: str | None = None

    def members(self) -> dict[str, Node]:
        """The members of an object that are not null, by key, in order."""
        assert isinstance(self.value, dict)
        if self.text is None:
            found = {key: Node(value, self._below(f".{key}", None)) for key, value in self.value.items()}
        else:
            found = self._written_members(self.text)
        return {key: node for key, node in found.items() if node.value is not None}

    def items(self) -> list[Node]:
        """The items of a list."""
        assert isinstance(self.value, list)
        if self.text is None:
            return [Node(value, self._below(f"[{index}]", None)) for index, value in enumerate(self.value)]
        found: list[Node] = []
        text, at, decoder = self.text, strict_json.skip_space(self.text, 1), strict_json.Decoder()
        while text[at] != "]":
            node, at = self._written(text, at, f"[{len(found)}]", decoder)
            found.append(node)
            at = _after_comma(text, at)
        return found

    def _written_members(self, text: str) -> dict[str, Node]:
        found: dict[str, Node] = {}
        decoder, at = strict_json.Decoder(), strict_json.skip_space(text, 1)
        while text[at] != "}":
            key, at, _ = decoder.value(text, at)
            colon = strict_json.skip_space(text, at)
            found[key], at = self._written(text, strict_json.skip_space(text, colon + 1), f".{key}", decoder)
            at = _after_comma(text, at)
        return found

    def _written(self, text: str, start: int, name: str, decoder: strict_json.Decoder) -> tuple[Node, int]:
        value, end, _ = decoder.value(text, start)
        return Node(value, self._below(name, start), text[start:end]), end

    def _below(self, name: str, start: int | None) -> At:
        if self.at.start is None:
            return At(self.at.path + name)
        return At(self.at.path, self.at.start + (start or 0))


def of_text(text: str, at: At) -> Node | Fault:
    """The one JSON value that a text holds, or what is wrong with it."""
    try:
        start = strict_json.skip_space(text, 0)
        value = strict_json.Decoder().whole(text)
    except strict_json.Invalid as error:
        return invalid(error, at)
    begins = At(at.path, None if at.start is None else at.start + start)
    return Node(value, begins, text[start:].rstrip(strict_json.WHITESPACE))


def of_column(value: Any, path: str) -> Node | Fault:
    """A column that holds a value, or JSON text of it."""
    return of_text(value, At(path)) if isinstance(value, str) else Node(value, At(path))


def within(text: str, start: int, path: str) -> tuple[Node, int]:
    """The JSON value that begins at a character of a longer text, and the character after it. Raises Invalid."""
    value, end, fault = strict_json.Decoder().value(text, start)
    if fault is not None:
        raise strict_json.Invalid(fault, start)
    return Node(value, At(path, start), text[start:end]), end


def invalid(error: strict_json.Invalid, at: At) -> Fault:
    """What is wrong with JSON text that stands at a place."""
    return f"{At(at.path, (at.start or 0) + error.position)}: {error.message}", error.hint


def dumped(value: Any) -> str:
    """A value as JSON text. Raises ValueError or TypeError for what JSON has not."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def without_nulls(value: Any) -> Any:
    """The value without the keys whose value is null: a table gives each object the keys of every other."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _after_comma(text: str, at: int) -> int:
    at = strict_json.skip_space(text, at)
    return strict_json.skip_space(text, at + 1) if text[at] == "," else at
