"""A value and a JSON Schema in, each place where the value does not fit out.

Known are types, `enum`, `const`, objects, lists, `anyOf`, `oneOf`, `allOf` and references inside of the schema; other
keywords ask nothing. A whole number is also a number, and so is 1.0 a whole one; true is no number at all. The schema
is one that `schema_types` has put in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.data import strict_json
from runner.data.calling import nodes
from runner.data.calling.conversation import short

Schema = dict[str, Any]
LONGEST_CHAIN = 32  # references that lead to references
WORDS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "a boolean",
    "object": "an object",
    "array": "a list",
    "null": "null",
}


def misfits(value: Any, schema: Schema | bool, path: str, root: Schema) -> Iterator[str]:
    """A sentence for each place where the value does not fit. `root` is where references start from.

    Raises RecursionError where references of the schema go in a circle.
    """
    resolved = _resolved(schema, root)
    if isinstance(resolved, bool):
        if not resolved:
            yield f"`{path}` may not be there"
        return
    if resolved is None:
        yield f"the schema of `{path}` is a reference that leads nowhere"
        return
    if value is None and resolved.get("nullable") is True:
        return
    names = resolved.get("type", [])
    names = names if isinstance(names, list) else [names]
    if names and not any(is_type(value, name) for name in names):
        yield f"`{path}` is {_what(value)}, not {_either([WORDS[name] for name in names])}"
        return
    if "enum" in resolved and not any(same(value, one) for one in resolved["enum"]):
        yield f"`{path}` is {_literal(value)}, not {_either([_literal(one) for one in resolved['enum']])}"
    if "const" in resolved and not same(value, resolved["const"]):
        yield f"`{path}` is {_literal(value)}, not {_literal(resolved['const'])}"
    yield from _alternatives(value, resolved, path, root)
    if isinstance(value, dict):
        yield from _members(value, resolved, path, root)
    if isinstance(value, list):
        yield from _items(value, resolved, path, root)


def is_type(value: Any, name: str) -> bool:
    """Whether a JSON value is of a type, by JSON Schema's name for it."""
    if isinstance(value, bool) or value is None:
        return name == ("null" if value is None else "boolean")
    if isinstance(value, int | float):
        return name == "number" or (name == "integer" and value == int(value))
    return name == ("object" if isinstance(value, dict) else "array" if isinstance(value, list) else "string")


def same(first: Any, second: Any) -> bool:
    """Whether two JSON values are equal: 1 is 1.0, and true is not 1."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def is_open(schema: Schema) -> bool:
    """Whether an object may have keys that its schema does not name: only where it says so."""
    return schema.get("additionalProperties", False) is not False or "patternProperties" in schema


def _alternatives(value: Any, schema: Schema, path: str, root: Schema) -> Iterator[str]:
    for keyword in ("anyOf", "oneOf"):
        if keyword not in schema:
            continue
        told = [list(misfits(value, one, path, root)) for one in schema[keyword]]
        fitting = sum(not each for each in told)
        if fitting == 0 and len(told) == 1:
            yield from told[0]
        elif fitting == 0:
            yield f"`{path}` is {_what(value)}, and fits none of its {len(told)} alternatives: {told[0][0]}"
        elif keyword == "oneOf" and fitting > 1:
            yield f"`{path}` fits {fitting} of its alternatives, and only one is allowed"
    for one in schema.get("allOf", ()):
        yield from misfits(value, one, path, root)


def _members(value: dict[str, Any], schema: Schema, path: str, root: Schema) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"`{path}.{name}` is missing"
    others = schema.get("additionalProperties", True)
    if "patternProperties" in schema:
        others = True
    for name, item in value.items():
        if name in known:
            yield from misfits(item, known[name], f"{path}.{name}", root)
        elif others is False:
            yield f"`{path}` has `{short(name)}`, which its schema does not know"
        else:
            yield from misfits(item, others, f"{path}.{name}", root)


def _items(value: list[Any], schema: Schema, path: str, root: Schema) -> Iterator[str]:
    items = schema.get("items", True)
    first = items if isinstance(items, list) else schema.get("prefixItems", [])
    rest = True if isinstance(items, list) else items
    for index, item in enumerate(value):
        yield from misfits(item, first[index] if index < len(first) else rest, f"{path}[{index}]", root)
    for keyword, wrong in (("minItems", len(value).__lt__), ("maxItems", len(value).__gt__)):
        limit = schema.get(keyword)
        if isinstance(limit, int) and wrong(limit):
            yield f"`{path}` has {len(value)} items, and `{keyword}` is {limit}"


def _resolved(schema: Schema | bool, root: Schema) -> Schema | bool | None:
    """The schema at the end of a chain of references; None where they lead nowhere."""
    for _ in range(LONGEST_CHAIN):
        if isinstance(schema, bool) or "$ref" not in schema:
            return schema
        at: Any = root
        parts = schema["$ref"].removeprefix("#").strip("/").split("/")
        for part in parts if schema["$ref"] != "#" else []:
            at = at.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(at, dict) else None
        if not isinstance(at, dict | bool):
            return None
        schema = at
    return None


def _what(value: Any) -> str:
    """What a value is; a number with its value, since 1.5 is one and still no whole number."""
    if isinstance(value, float):
        return f"`{value}`"
    return strict_json.kind(value)


def _literal(value: Any) -> str:
    return f"`{short(nodes.dumped(value))}`" if not isinstance(value, str) else f"`{short(value)}`"


def _either(words: list[str]) -> str:
    if len(words) > 10:
        return f"one of {len(words)} values such as {', '.join(words[:5])}"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
