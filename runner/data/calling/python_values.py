"""Text of a Python literal in, the value that it has in JSON out: dicts in single quotes, `True`, `None`, tuples.

Nothing is run: the text is read by `ast`, and anything but a literal is refused.
"""

from __future__ import annotations

import ast
import warnings
from typing import Any

from runner.data import strict_json

LONGEST = 200_000  # characters
DEEPEST = 100  # brackets inside of each other, well below what Python's parser bears


def read(text: str) -> Any:
    """The value of a literal. Raises `strict_json.Invalid` for what is none, and for what JSON does not have."""
    if len(text) > LONGEST:
        raise strict_json.Invalid("a Python value is too long to be read", 0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an escape that Python does not know is only a warning
            tree = ast.parse(text.strip(), mode="eval").body
            value = ast.literal_eval(tree)
    except SyntaxError as error:
        position = _position(text, error)
        raise strict_json.Invalid("neither valid JSON nor a Python value", position) from None
    except (ValueError, TypeError, MemoryError, RecursionError, Warning):
        raise strict_json.Invalid("neither valid JSON nor a plain Python value", 0) from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise strict_json.Invalid(f"key `{twice}` stands twice in one object", 0)
    return _plain(value, 0)


def _plain(value: Any, depth: int) -> Any:
    if depth > DEEPEST:
        raise strict_json.Invalid("values are nested too deeply", 0)
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise strict_json.Invalid("a key is no text, which JSON does not have", 0)
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and abs(value) < float("inf")):
        return value
    raise strict_json.Invalid(f"a value is of Python's type `{type(value).__name__}`, which JSON does not have", 0)


def _position(text: str, error: SyntaxError) -> int:
    """The character of a fault: Python counts lines, and bytes in a line, from 1."""
    stripped = text.lstrip()
    lines = stripped.splitlines(keepends=True)
    line = min(max((error.lineno or 1) - 1, 0), max(len(lines) - 1, 0))
    before = sum(map(len, lines[:line])) + max((error.offset or 1) - 1, 0)
    return min(len(text) - len(stripped) + before, max(len(text) - 1, 0))
