"""Rows in, what each of their columns holds out, those inside of objects too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.data import formats, strict_json
from runner.data.rows import Row

DEEPEST = 3  # objects within objects
FEW = 50  # different values at most, for them to be labels
LONG = 60  # characters: no label is longer
ATTRIBUTES = frozenset(dir(dict))  # names that a dot would not lead to the key of
PLAIN = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class Column:
    """What a column holds. `kind`: turns | text | number | flag | list | object | empty."""

    name: str  # with dots, where it lies inside of an object
    parts: tuple[str, ...]
    kind: str
    filled: float  # the share of rows in which it is neither missing nor null nor empty
    there: float  # the share of rows that have it at all
    distinct: int
    values: int  # that are there
    characters: float  # mean length as text

    @property
    def is_labels(self) -> bool:
        """Whether a few short values come again and again."""
        few = self.distinct <= min(FEW, self.values / 2)
        return self.kind in ("text", "number", "flag") and self.characters <= LONG and few

    @property
    def in_template(self) -> str:
        """The expression that names it in a template."""
        first, *others = self.parts
        text = first if PLAIN.fullmatch(first) else f"row[{json.dumps(first, ensure_ascii=False)}]"
        for part in others:
            dotted = PLAIN.fullmatch(part) and part not in ATTRIBUTES
            text += f".{part}" if dotted else f"[{json.dumps(part, ensure_ascii=False)}]"
        return text


def of_rows(rows: Sequence[Row]) -> list[Column]:
    """The columns in the order in which they come; `split` is none, since it says where a row belongs."""
    values: dict[tuple[str, ...], list[Any]] = {}
    for row in rows:
        for parts, value in _leaves(row.values, ()):
            values.setdefault(parts, []).append(value)
    return [_column(parts, found, len(rows)) for parts, found in values.items() if parts != ("split",)]


def is_turns(value: Any) -> bool:
    """Whether a value is a list of turns, or JSON text of one."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = strict_json.Decoder().whole(value)
        except strict_json.Invalid:
            return False
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) and _speaks(each) for each in value)


def _speaks(turn: Mapping[str, Any]) -> bool:
    return bool({"role", *formats.SHAREGPT} & turn.keys()) and bool(
        {"content", "value", *formats.TOOL_KEYS} & turn.keys()
    )


def _leaves(values: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in values.items():
        parts = (*above, name)
        if isinstance(value, dict) and value and len(parts) < DEEPEST:
            yield from _leaves(value, parts)
        else:
            yield parts, value


def _column(parts: tuple[str, ...], values: list[Any], rows: int) -> Column:
    held = [value for value in values if value is not None and value != "" and value != []]
    texts = [value if isinstance(value, str) else json.dumps(value, default=str) for value in held]
    kinds = [_kind(value) for value in held]
    kind = max(set(kinds), key=kinds.count) if kinds else "empty"
    mean = sum(map(len, texts)) / len(texts) if texts else 0.0
    return Column(".".join(parts), parts, kind, len(held) / rows, len(values) / rows, len(set(texts)), len(texts), mean)


def _kind(value: Any) -> str:
    if is_turns(value):
        return "turns"
    kinds: tuple[tuple[str, type | tuple[type, ...]], ...] = (
        ("text", str),
        ("flag", bool),
        ("number", (int, float)),
        ("list", list),
        ("object", dict),
    )
    for kind, types in kinds:
        if isinstance(value, types):
            return kind
    return "object"
