"""A JSON schema and an answer in, whether it fits out."""

from __future__ import annotations

from typing import Any

from runner.scores.shipped import reward


def check(schema: Any) -> None:
    """Raises ValueError where a value is no schema, or has a keyword that would not be checked."""
    if not isinstance(schema, dict) or not schema:
        raise ValueError("a schema is an object that is not empty")
    try:
        reward("json_schema").check_schema(schema, schema)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def fits(got: str, schema: dict[str, Any]) -> float:
    """Whether the answer is one JSON value and nothing else, and meets every part of the schema."""
    text, json_schema = got.strip(), reward("json_schema")
    read = json_schema.read_json(text, 0) if text else None
    if read is None or read[1] != len(text):
        return 0.0
    try:
        return float(json_schema.met_share(read[0], schema, schema, 0) == 1.0)
    except (ValueError, RecursionError):  # a value nested deeper than can be followed
        return 0.0
