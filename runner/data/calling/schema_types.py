"""A schema with the type names of some data set in, the same in JSON Schema's own names out.

Data sets write types as Python does (`dict`, `float`, `tuple`, `any`), and in capitals. What is no schema at all is a
fault with its path. Keywords that are not known here are kept as they are.
"""

from __future__ import annotations

from typing import Any

from runner.data import strict_json
from runner.data.calling.conversation import short
from runner.data.formats import Fault
from runner.nearest import nearest

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
ANYTHING = ("any",)
OTHER_TYPES = {
    "dict": "object", "hashmap": "object",
    "float": "number", "double": "number",
    "int": "integer", "long": "integer",
    "str": "string",
    "bool": "boolean",
    "list": "array", "tuple": "array", "set": "array", "arraylist": "array",
    "none": "null", "nonetype": "null",
}  # fmt: skip
NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
LISTED_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
KEPT_NULLS = ("default", "const")


def normalised(schema: Any, path: str) -> tuple[Any, list[Fault]]:
    """The schema in JSON Schema's type names, and what is wrong with it. A keyword that is null is left out."""
    if isinstance(schema, bool):
        return schema, []
    if not isinstance(schema, dict):
        return {}, [(f"`{path}` is {strict_json.kind(schema)}, not a schema", None)]
    found: dict[str, Any] = {}
    faults: list[Fault] = []

    def below(value: Any, where: str) -> Any:
        inner, wrong = normalised(value, where)
        faults.extend(wrong)
        return inner

    for key, value in schema.items():
        where = f"{path}.{key}"
        if value is None and key not in KEPT_NULLS:
            continue
        wrong = _wrong(key, value, where)
        if wrong is not None:
            faults.append(wrong)
        elif key == "type":
            names = _types(value, where, faults)
            if names is not None:
                found[key] = names
        elif key in NAMED_SCHEMAS:
            found[key] = {name: below(inner, f"{where}.{name}") for name, inner in value.items()}
        elif key in LISTED_SCHEMAS or (key == "items" and isinstance(value, list)):
            found[key] = [below(inner, f"{where}[{index}]") for index, inner in enumerate(value)]
        elif key in ("items", "additionalProperties"):
            found[key] = below(value, where)
        else:
            found[key] = value
    return found, faults


def _wrong(key: str, value: Any, path: str) -> Fault | None:
    """What is wrong with the form of a keyword, if anything."""
    what = strict_json.kind(value)
    if key in NAMED_SCHEMAS and not isinstance(value, dict):
        return f"`{path}` is {what}, not an object", None
    if key in LISTED_SCHEMAS and not (isinstance(value, list) and value):
        return f"`{path}` is {what if value != [] else 'empty'}, not a list of schemas", None
    if key == "enum" and not (isinstance(value, list) and value):
        return f"`{path}` is {what if value != [] else 'empty'}, not a list of values", None
    if key == "required" and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        hint = "it stands beside `properties`, and lists the arguments that have to be there"
        return f"`{path}` is {what}, not a list of names", hint
    if key == "$ref" and not isinstance(value, str):
        return f"`{path}` is {what}, not text", None
    return None


def _types(value: Any, path: str, faults: list[Fault]) -> str | list[str] | None:
    """JSON Schema's names for a type; None where anything will do, or where the name is a fault."""
    names = value if isinstance(value, list) else [value]
    found: list[str] = []
    for name in names:
        plain = name.strip().lower() if isinstance(name, str) else ""
        if plain in ANYTHING:
            return None
        known = plain if plain in TYPES else OTHER_TYPES.get(plain)
        if known is None:
            meant = nearest(plain, TYPES) if plain else None
            faults.append((f"`{path}` is `{short(name)}`, which is no type", f"write `{meant}`" if meant else None))
        elif known not in found:
            found.append(known)
    if not found:
        return None
    return found if isinstance(value, list) else found[0]
