"""The keys of a recipe -> a JSON Schema (draft 7), which editors use to complete and check recipes.

Run `python -m runner.reading.schema_export` after a change of keys: it writes `recipes/schema.json`. A recipe names it
in its first line: `# yaml-language-server: $schema=./schema.json`. Rules between keys are not in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runner.reading.keys import KEYS, TASKS
from runner.reading.kinds import LARGEST, Definition, Keys
from runner.reading.schema import block, types

FILE = Path(__file__).parents[2] / "recipes" / "schema.json"
NAMES = {"text": "string", "boolean": "boolean", "integer": "integer", "number": "number"}


def json_schema() -> dict[str, Any]:
    """The schema of a whole recipe, as plain data."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"A Tunesmith recipe ({', '.join(TASKS)})",
        **_mapping(KEYS),
    }


def text() -> str:
    """The schema as it stands in `recipes/schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _mapping(keys: Keys) -> dict[str, Any]:
    required = [name for name, key in keys.items() if key.get("required")]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(key) for name, key in keys.items()},
        **({"required": required} if required else {}),
    }


def _property(key: Definition) -> dict[str, Any]:
    shared: dict[str, Any] = {"description": key["meta"]["help"]}
    if key.get("default") is not None:
        shared["default"] = key["default"]
    forms = [_form(kind, key) for kind in types(key)]
    if key.get("nullable"):
        forms.append({"type": "null"})
    if len(forms) == 1:
        return {**shared, **forms[0]}
    return {**shared, "anyOf": forms}


def _form(kind: str, key: Definition) -> dict[str, Any]:
    """What a value of one of a key's types may be."""
    if kind == "mapping":
        return _mapping(block(key)) if block(key) else {"type": "object"}
    if kind == "list":
        form: dict[str, Any] = {"type": "array", "items": _property(key["schema"])}
        if key.get("filled"):
            form["minItems"] = 1
        if key.get("unique"):
            form["uniqueItems"] = True
        return form
    if "allowed" in key:
        return {"enum": list(key["allowed"])}
    if kind == "text":
        return _text(key)
    form = {"type": NAMES[kind]}
    bounds = {"min": "minimum", "max": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}
    if kind != "boolean":
        form.update({name: key[rule] for rule, name in bounds.items() if rule in key and key[rule] != LARGEST})
    return form


def _text(key: Definition) -> dict[str, Any]:
    if "prefix" in key:
        return {"anyOf": [{"enum": list(key["words"])}, {"type": "string", "pattern": f"^{key['prefix']}."}]}
    if "words" in key:
        return {"enum": list(key["words"])}
    if "pattern" in key:
        return {"type": "string", "pattern": f"^(?:{key['pattern']})$"}
    return {"type": "string", "pattern": r"\S"} if key.get("filled") else {"type": "string"}


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
