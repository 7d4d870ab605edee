"""Reward for JSON that fits a schema: a completion and a schema go in, 0 to 1 comes out by how much of it is met."""

import json
import math
import re
from fractions import Fraction
from typing import Any

FENCE = re.compile(r"```([^\s`]*)\s(.*?)```", re.DOTALL)
DEEPEST = 64  # levels of a schema's references
TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
# keyword -> what its value must be
KEYWORDS: dict[str, str] = {
    "type": "type", "enum": "list", "const": "any", "properties": "schemas", "required": "names",
    "additionalProperties": "schema", "items": "schema", "anyOf": "alternatives", "$ref": "reference",
    "$defs": "schemas", "definitions": "schemas", "pattern": "pattern", "uniqueItems": "boolean",
    "minLength": "count", "maxLength": "count", "minItems": "count", "maxItems": "count",
    "minProperties": "count", "maxProperties": "count", "minimum": "number", "maximum": "number",
    "exclusiveMinimum": "number", "exclusiveMaximum": "number", "multipleOf": "positive",
    "title": "any", "description": "any", "default": "any", "examples": "any", "deprecated": "any",
    "$schema": "any", "$id": "any", "$comment": "any",
}  # fmt: skip


def json_schema(
    prompt: str,
    completion: str,
    example: dict[str, Any],
    *,
    schema: dict[str, Any] | None = None,
    column: str = "",
    around: float = 0.5,
) -> float:
    """Pay the share of a JSON Schema's parts that the completion's JSON meets; 1 is a valid value.

    - The completion must be JSON, in a fence or not, of which there is one value; else it pays 0. A key written
      twice in one object, or `NaN`, is no JSON.
    - A value of the wrong type pays 0, with all that is inside of it.
    - An object pays the mean of its parts: each property that is there, by its own schema; each required one that
      is missing, 0; each one that is not allowed, 0. An optional property that is missing is no part.
    - A list pays for its items together as much as for each other keyword, so that many items do not buy others.
    - Else each keyword is a part, and the type one more. `anyOf` pays like the alternative that is met best.

    Keywords: `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `minProperties`,
    `maxProperties`, `items` (one schema), `minItems`, `maxItems`, `uniqueItems`, `minimum`, `maximum`,
    `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`, `minLength`, `maxLength`, `pattern` (as Python's `re` has
    them), `anyOf`, and `$ref` into `$defs` or `definitions`; annotations such as `title` are passed over. Any
    other keyword, `format` and `oneOf` among them, is refused rather than not checked.

    Options:
    - `schema`: the schema, the same for all rows.
    - `column`: the column of each row's schema, or of its JSON text, in place of `schema`.
    - `around`: what the score is multiplied by when other text stands around the JSON, 0 to 1.

    What can be gamed: the shortest value that the schema allows pays in full: an empty list, empty texts, no
    optional property. Say `minItems`, `minLength` and `required`, and set it beside a reward for the content.

    Raises ValueError for a bad option, or a schema that is missing or has unknown keywords.
    """
    if (schema is None) == (not column):
        raise ValueError("set one of `schema` and `column`")
    if isinstance(around, bool) or not isinstance(around, int | float) or not 0 <= around <= 1:
        raise ValueError("`around` must be a number from 0 to 1")
    if column and column not in example:
        raise ValueError(f"the row has no column `{column}`")
    asked: Any = example[column] if column else schema
    if isinstance(asked, str):
        read = read_json(asked.strip(), 0)
        asked = read[0] if read and read[1] == len(asked.strip()) else None
    if not isinstance(asked, dict) or not asked:
        raise ValueError("the schema must be a JSON object, and not empty")
    try:
        check_schema(asked, asked)
    except RecursionError as error:
        raise ValueError("the schema is nested too deeply") from error

    found = find_json(completion, "{[")
    if found is None:
        return 0.0
    value, alone = found
    try:
        share = met_share(value, asked, asked, 0)
    except RecursionError:
        return 0.0
    return share if alone else share * around


def check_schema(schema: Any, root: dict[str, Any]) -> None:
    """Raise ValueError for a keyword that is unknown or has a value that it cannot have."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise ValueError(f"a schema must be an object, true or false, and not `{schema!r:.60}`")
    for keyword, value in schema.items():
        if keyword not in KEYWORDS:
            raise ValueError(f"the keyword `{keyword}` of the schema is not known here")
        if not fits_keyword(value, KEYWORDS[keyword]):
            raise ValueError(f"the keyword `{keyword}` of the schema cannot be `{value!r:.60}`")
    inner = [*schema.get("anyOf", ())]
    inner += [schema[keyword] for keyword in ("items", "additionalProperties") if keyword in schema]
    for keyword in ("properties", "$defs", "definitions"):
        inner += schema.get(keyword, {}).values()
    for one in inner:
        check_schema(one, root)
    if "$ref" in schema:
        if schema.keys() & {*KEYWORDS} - {"$ref", "$defs", "definitions", "title", "description", "default"}:
            raise ValueError("`$ref` must stand alone in its schema")
        resolve(schema, root)


def fits_keyword(value: Any, kind: str) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    match kind:
        case "type":
            names = value if isinstance(value, list) else [value]
            return bool(names) and all(isinstance(name, str) and name in TYPES for name in names)
        case "list":
            return isinstance(value, list) and bool(value)
        case "alternatives":
            return isinstance(value, list) and bool(value)
        case "names":
            return isinstance(value, list) and all(isinstance(name, str) for name in value)
        case "schemas":
            return isinstance(value, dict)
        case "schema":
            return isinstance(value, dict | bool)
        case "reference":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "count":
            return number and isinstance(value, int) and value >= 0
        case "number":
            return number
        case "positive":
            return number and value > 0
        case "pattern":
            try:
                re.compile(value)
            except (re.error, TypeError, OverflowError, RecursionError):
                return False
    return True


def resolve(schema: Any, root: dict[str, Any]) -> Any:
    """The schema that a chain of `$ref` ends at."""
    for _ in range(DEEPEST):
        if not isinstance(schema, dict) or "$ref" not in schema:
            return schema
        reference = schema["$ref"]
        place, _, name = reference.removeprefix("#/").partition("/")
        name = name.replace("~1", "/").replace("~0", "~")
        if reference == "#":
            schema = root
        elif place in ("$defs", "definitions") and reference.startswith("#/") and name in root.get(place, {}):
            schema = root[place][name]
        else:
            raise ValueError(f"the reference `{reference}` of the schema leads nowhere")
    raise ValueError("the references of the schema go in a circle")


def met_share(value: Any, schema: Any, root: dict[str, Any], alternatives: int) -> float:
    """The share of a schema's parts that a value meets, 0 to 1. `alternatives`: how many `anyOf` led here."""
    schema = resolve(schema, root)
    if isinstance(schema, bool):
        return float(schema)
    if alternatives > DEEPEST:
        raise ValueError("the references of the schema go in a circle")
    names = schema.get("type", list(TYPES))
    names = names if isinstance(names, list) else [names]
    if not any(is_type(value, name) for name in names):
        return 0.0
    parts = [met_keyword(value, keyword, asked) for keyword, asked in schema.items()]
    shares = [float(part) for part in parts if part is not None]
    if "anyOf" in schema:
        shares.append(max(met_share(value, one, root, alternatives + 1) for one in schema["anyOf"]))
    if isinstance(value, dict):
        known = schema.get("properties", {})
        shares += [met_share(value[name], known[name], root, 0) for name in known if name in value]
        for name in schema.get("required", ()):
            if name not in value or name not in known:
                shares.append(float(name in value))
        others = [value[name] for name in value if name not in known]
        allowed = schema.get("additionalProperties", True)
        if allowed is False:
            shares += [0.0] * len(others)
        elif others and allowed is not True:
            shares.append(sum(met_share(one, allowed, root, 0) for one in others) / len(others))
    elif isinstance(value, list):
        if value and "items" in schema:
            shares.append(sum(met_share(one, schema["items"], root, 0) for one in value) / len(value))
    elif "type" in schema:
        shares.append(1.0)
    return sum(shares) / len(shares) if shares else 1.0


def is_type(value: Any, name: str) -> bool:
    if isinstance(value, bool) or value is None:
        return name == ("null" if value is None else "boolean")
    if isinstance(value, int | float):
        return name == "number" or (name == "integer" and value == int(value))
    return name == ("object" if isinstance(value, dict) else "array" if isinstance(value, list) else "string")


def met_keyword(value: Any, keyword: str, asked: Any) -> bool | None:
    """Whether a value meets a keyword about itself alone; None where the keyword says nothing of such a value."""
    size = len(value) if isinstance(value, str | list | dict) else 0
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match keyword:
        case "enum":
            return any(canonical(value) == canonical(one) for one in asked)
        case "const":
            return bool(canonical(value) == canonical(asked))
        case "minLength" | "maxLength" if isinstance(value, str):
            return bool(size >= asked if keyword == "minLength" else size <= asked)
        case "minItems" | "maxItems" if isinstance(value, list):
            return bool(size >= asked if keyword == "minItems" else size <= asked)
        case "minProperties" | "maxProperties" if isinstance(value, dict):
            return bool(size >= asked if keyword == "minProperties" else size <= asked)
        case "pattern" if isinstance(value, str):
            return re.search(asked, value) is not None
        case "uniqueItems" if isinstance(value, list) and asked:
            return len({canonical(one) for one in value}) == size
        case "minimum" if number:
            return bool(value >= asked)
        case "maximum" if number:
            return bool(value <= asked)
        case "exclusiveMinimum" if number:
            return bool(value > asked)
        case "exclusiveMaximum" if number:
            return bool(value < asked)
        case "multipleOf" if number:
            return Fraction(repr(value)) % Fraction(repr(asked)) == 0
    return None


def canonical(value: Any) -> Any:
    """A form in which equal JSON values are equal and others are not: true is not 1, and 1 is 1.0."""
    if isinstance(value, dict):
        return "object", frozenset((key, canonical(one)) for key, one in value.items())
    if isinstance(value, list):
        return "array", tuple(map(canonical, value))
    return isinstance(value, bool), value


def find_json(completion: str, openings: str) -> tuple[Any, bool] | None:
    """The one JSON value in a text, and whether it stands alone but for a fence.

    None where there is no value, or more than one. `openings` are the characters that it may begin with.
    """
    text = completion.strip()
    whole = read_json(text, 0)
    if whole is not None and whole[1] == len(text):
        return (whole[0], True) if text[0] in openings else None
    blocks = [block.strip() for label, block in FENCE.findall(text) if label.lower() in ("", "json")]
    blocks = [block for block in blocks if block.startswith(("{", "["))]
    if blocks:
        inner = read_json(blocks[0], 0)
        if len(blocks) > 1 or inner is None or inner[1] != len(blocks[0]) or blocks[0][0] not in openings:
            return None
        return inner[0], FENCE.fullmatch(text) is not None and text.count("```") == 2
    opening = re.compile(f"[{re.escape(openings)}]")
    start = opening.search(text)
    first = read_json(text, start.start()) if start else None
    if first is None:
        return None
    again = opening.search(text, first[1])
    if again and read_json(text, again.start()) is not None:
        return None
    return first[0], False


def read_json(text: str, start: int) -> tuple[Any, int] | None:
    """The JSON value that begins at a place, and where it ends; None where it is not strictly JSON."""

    def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def finite(number: str) -> float:
        if float(number) in (float("inf"), float("-inf")):
            raise ValueError("too large")
        return float(number)

    def refuse(name: str) -> None:
        raise ValueError(f"`{name}` is no JSON")

    decoder = json.JSONDecoder(object_pairs_hook=no_key_twice, parse_float=finite, parse_constant=refuse)
    try:
        return decoder.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
