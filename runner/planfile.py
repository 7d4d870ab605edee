"""A plan as `plan.json`, and back: how the supervisor hands it to the workers, and a person reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from runner.plan import Plan


def to_json(plan: Plan) -> str:
    """The plan as it is written to `plan.json` and handed to the workers."""
    text = json.dumps(asdict(plan), indent=2, ensure_ascii=False) + "\n"
    # half a character, which a file name can hold, cannot be written, and the escape for one is JSON too
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def from_json(text: str) -> Plan:
    """A plan that `to_json` wrote. Of one from before a key was added, the key has its default."""
    plan = _build(Plan, json.loads(text))
    assert isinstance(plan, Plan)
    return plan


def _build(kind: Any, value: Any) -> Any:
    """A value of JSON as the type that a dataclass's field declares."""
    if value is None:
        return None
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        there = [field.name for field in fields(kind) if field.name in value]
        return kind(**{name: _build(hints[name], value[name]) for name in there})
    members = [member for member in get_args(kind) if member is not type(None)]
    if isinstance(value, list):
        item = members[0] if members else None
        if item is not None and get_args(kind)[-1] is not Ellipsis:
            return tuple(_build(each, part) for each, part in zip(members, value, strict=True))
        return tuple(_build(item, part) for part in value)
    nested = [member for member in members if is_dataclass(member)]
    return _build(nested[0], value) if nested and isinstance(value, dict) else value
