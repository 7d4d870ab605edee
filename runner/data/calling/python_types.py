"""The flat parameters of xLAM in, each with a Python type as text; JSON Schema out.

| type | schema |
|---|---|
| `str`, `int`, `float`, `bool`, `list`, `dict`, `None` | the type |
| `List[int]`, `Tuple[int, ...]`, `Sequence[int]` | a list of that type |
| `set`, `Set[int]` | a list in which nothing stands twice |
| `Tuple[int, str]` | a list of just these |
| `Dict[str, int]` | an object with values of that type |
| `Union[int, str]`, `int` or `str` with a bar | any of them |
| `Optional[int]` | that type or null |
| `Literal['a', 'b']` | one of these values |
| `Any` | anything |

JSON Schema's own names mean the same. An argument is required unless its type ends on `, optional` or is
`Optional[…]`, or it has a default.
"""

from __future__ import annotations

import ast
import warnings
from functools import lru_cache
from typing import Any

from runner.data import strict_json
from runner.data.calling import schema_types
from runner.data.calling.conversation import short
from runner.data.formats import Fault

LONGEST = 500  # characters of a type
LISTS = ("list", "sequence", "iterable", "array")
SETS = ("set", "frozenset")
OBJECTS = ("dict", "mapping", "object")


def parameters(given: dict[str, Any], path: str) -> tuple[Any, list[Fault]]:
    """JSON Schema of a tool's parameters, and what is wrong with them. A schema is taken as it is."""
    if isinstance(given.get("type"), str):
        return schema_types.normalised(given, path)
    properties: dict[str, Any] = {}
    required: list[str] = []
    faults: list[Fault] = []
    for name, said in given.items():
        where = f"{path}.{name}"
        if said is None:
            continue
        if not isinstance(said, dict):
            faults.append((f"`{where}` is {strict_json.kind(said)}, not an object", None))
            continue
        written = said.get("type")
        rest = {key: value for key, value in said.items() if key != "type" and value is not None}
        optional = "default" in said
        schema: dict[str, Any] | None = {}
        if isinstance(written, str):
            text, _, last = written.rpartition(",")
            if last.strip().lower() == "optional" and text:
                written, optional = text, True
            optional = optional or written.strip().startswith("Optional[")
            schema = of_type(written)
        elif written is not None:
            schema = None
        if schema is None:
            faults.append((f"`{where}.type` is `{short(said['type'])}`, which is no type that JSON has", None))
            continue
        checked, wrong = schema_types.normalised({**schema, **rest}, where)
        faults += wrong
        properties[name] = checked
        if not optional:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required}, faults


@lru_cache(maxsize=1024)
def of_type(text: str) -> dict[str, Any] | None:
    """The schema of a Python type, or None where JSON has no such value. It is not to be changed."""
    if len(text) > LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = ast.parse(text.strip(), mode="eval")
        return _schema(tree.body)
    except (SyntaxError, ValueError, MemoryError, RecursionError, Warning):
        return None


def _schema(node: ast.expr) -> dict[str, Any] | None:
    if isinstance(node, ast.Constant):
        return {"type": "null"} if node.value is None else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _any_of([node.left, node.right])
    if isinstance(node, ast.Subscript):
        name = _name(node.value)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return None if name is None else _with_parts(name, parts)
    name = _name(node)
    if name is None:
        return None
    if name in schema_types.ANYTHING:
        return {}
    if name in SETS:
        return {"type": "array", "uniqueItems": True}
    if name in LISTS:
        return {"type": "array"}
    kind = name if name in schema_types.TYPES else schema_types.OTHER_TYPES.get(name)
    return None if kind is None else {"type": kind}


def _with_parts(name: str, parts: list[ast.expr]) -> dict[str, Any] | None:
    if name == "literal":
        values = [part.value if isinstance(part, ast.Constant) else ... for part in parts]
        return {"enum": values} if all(isinstance(value, str | int | None) for value in values) else None
    if name == "union":
        return _any_of(parts)
    if name == "optional" and len(parts) == 1:
        inner = _schema(parts[0])
        return inner if not inner else _joined([inner, {"type": "null"}])
    if name == "tuple" and not (len(parts) == 2 and _is_ellipsis(parts[1])):
        schemas = [_schema(part) for part in parts]
        if any(schema is None for schema in schemas):
            return None
        return {"type": "array", "prefixItems": schemas, "minItems": len(schemas), "maxItems": len(schemas)}
    if name in OBJECTS and len(parts) == 2:
        key, value = _schema(parts[0]), _schema(parts[1])
        if key != {"type": "string"} or value is None:
            return None
        return {"type": "object", "additionalProperties": value} if value else {"type": "object"}
    if name not in (*LISTS, *SETS, "tuple") or (len(parts) != 1 and name != "tuple"):
        return None
    inner = _schema(parts[0])
    if inner is None:
        return None
    found: dict[str, Any] = {"type": "array", "items": inner} if inner else {"type": "array"}
    return {**found, "uniqueItems": True} if name in SETS else found


def _any_of(parts: list[ast.expr]) -> dict[str, Any] | None:
    schemas = [_schema(part) for part in parts]
    whole = [schema for schema in schemas if schema is not None]
    return _joined(whole) if len(whole) == len(schemas) else None


def _joined(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """One schema that takes what any of them takes: a list of types where they are no more than that."""
    if any(schema == {} for schema in schemas):
        return {}
    if len(schemas) == 1:
        return schemas[0]
    if all(schema.keys() == {"type"} for schema in schemas):
        types: list[str] = []
        for schema in schemas:
            kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            types += [kind for kind in kinds if kind not in types]
        return {"type": types}
    return {"anyOf": schemas}


def _name(node: ast.expr) -> str | None:
    """A type's name in small letters, without the module that it is from."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("typing", "t"):
        return node.attr.lower()
    return node.id.lower() if isinstance(node, ast.Name) else None


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...
