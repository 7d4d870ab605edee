"""One row with calls: what it gives, or what is told of it."""

from __future__ import annotations

import json
from typing import Any

from runner.data.calling import formats
from runner.data.examples import Chat
from runner.data.rows import Row, TablePlace
from runner.errors import Place

WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer"},
        },
        "required": ["city"],
    },
}
USER = {"role": "user", "content": "How warm is it in Rome?"}


def tool(function: dict[str, Any] = WEATHER) -> str:
    """A tool in its canonical form."""
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)


def row(values: dict[str, Any], table: bool = False) -> Row:
    if table:
        return Row(values, TablePlace("data.parquet", 7))
    return Row(values, Place("data.jsonl", 7), raw=json.dumps(values))


def chat(values: dict[str, Any], source_format: str = "calls", table: bool = False) -> Chat:
    found = formats.read(row(values, table), source_format)
    assert isinstance(found, Chat), found
    return found


def told(values: dict[str, Any], source_format: str = "calls", table: bool = False) -> list[tuple[str, str | None]]:
    found = formats.read(row(values, table), source_format)
    assert isinstance(found, list), found
    for problem in found:
        assert str(problem.place) == ("data.parquet row 7" if table else "data.jsonl:7")
    return [(problem.message, problem.hint) for problem in found]


def chosen(values: dict[str, Any]) -> str:
    found = formats.choose(row(values))
    assert isinstance(found, str), found
    return found
