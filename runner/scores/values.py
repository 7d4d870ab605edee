"""The value of an argument and the wanted one in, whether it is right out; types are as strict as JSON's own.

`true` is not 1. A whole number is right where a fraction is wanted, and `2.0` for `2` where the schema says `number`.
Texts are compared without spaces and `,./-_*^`, in lower case, with `'` as `"`. Lists are compared in order, objects
by their keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

LEFT_OUT = re.compile(r"[ ,./\-_*^]")
NUMBERS = {"number", "float", "double"}  # what schemas call a number that may have a fraction

# The given value, the wanted one, and the schema of its place -> whether it is right.
Accepts = Callable[[Any, Any, Any], bool]


def plain(got: Any, wanted: Any, schema: Any = None) -> bool:
    """Whether a value is the wanted one. An object has exactly the wanted keys."""
    return _same(got, wanted, schema, alternatives=False)


def accepted(got: dict[str, Any], wanted: dict[str, list[Any]], schema: Any = None) -> bool:
    """Whether arguments are accepted, where each wanted one is a list of values; `""` among them: it may be missing.

    One that the schema requires may not be. Objects inside of the values have lists of accepted values too.
    """
    return _object(got, wanted, schema, alternatives=True)


def _same(got: Any, wanted: Any, schema: Any, alternatives: bool) -> bool:
    if isinstance(wanted, str):
        return isinstance(got, str) and _normalised(got) == _normalised(wanted)
    if isinstance(wanted, dict):
        return isinstance(got, dict) and _object(got, wanted, schema, alternatives)
    if isinstance(wanted, list):
        items = schema.get("items") if isinstance(schema, dict) else None
        return (
            isinstance(got, list)
            and len(got) == len(wanted)
            and all(_same(one, other, items, alternatives) for one, other in zip(got, wanted, strict=True))
        )
    if isinstance(wanted, bool) or wanted is None or isinstance(got, bool):
        return type(got) is type(wanted) and got == wanted
    if not isinstance(got, int | float):
        return False
    widened = isinstance(wanted, float) or isinstance(got, int) or _takes_fractions(schema)
    return bool(widened and got == wanted)


def _object(got: dict[str, Any], wanted: dict[str, Any], schema: Any, alternatives: bool) -> bool:
    declared = schema if isinstance(schema, dict) else {}
    properties, required = declared.get("properties"), declared.get("required")
    below: dict[str, Any] = properties if isinstance(properties, dict) else {}
    if not alternatives:
        return got.keys() == wanted.keys() and all(
            _same(got[key], wanted[key], below.get(key), alternatives) for key in wanted
        )
    if not got.keys() <= wanted.keys():
        return False
    for key, values in wanted.items():
        values = values if isinstance(values, list) else [values]
        if key not in got:
            if "" not in values or (isinstance(required, list) and key in required):
                return False
        elif not any(_same(got[key], value, below.get(key), alternatives) for value in values):
            return False
    return True


def _takes_fractions(schema: Any) -> bool:
    named = schema.get("type") if isinstance(schema, dict) else None
    return any(name in NUMBERS for name in (named if isinstance(named, list) else [named]) if isinstance(name, str))


def _normalised(text: str) -> str:
    return LEFT_OUT.sub("", text).lower().replace("'", '"')
