"""Text such as `[Market Trends API(country="us", top=3), /roll(sides=[6, 6])]` in, its calls out.

Names hold blanks and slashes, so that this is not Python: a name ends where a name of the row's tools is followed by a
bracket, or else at the first bracket. Values are JSON, or Python's strings in single quotes, `True`, `False` and
`None`, in lists and objects, too. Numbers keep their spelling.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from runner.data import strict_json
from runner.data.strict_json import Invalid

STRING = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'", re.DOTALL)
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
KEY = re.compile(r"\s*([^\s=(),\[\]{}\"'](?:[^=(),\[\]{}\"']*[^\s=(),\[\]{}\"'])?)\s*=\s*")
DEEPEST = 50  # lists and objects inside of each other


@dataclass(frozen=True, slots=True)
class Written:
    """A call as it stands in its text: its arguments as a JSON object, and where name and arguments begin."""

    name: str
    arguments: str
    name_start: int
    arguments_start: int


def read(text: str, names: Sequence[str]) -> list[Written]:
    """The calls of a text that holds nothing else. Raises Invalid for any other text."""
    at = _expect(text, strict_json.skip_space(text, 0), "[")
    longest_first = sorted(names, key=len, reverse=True)
    found: list[Written] = []
    while True:
        call, at = _call(text, strict_json.skip_space(text, at), longest_first)
        found.append(call)
        at = strict_json.skip_space(text, at)
        if text[at : at + 1] != ",":
            break
        at += 1
    at = strict_json.skip_space(text, _expect(text, at, "]"))
    if at < len(text):
        raise Invalid("there is more text after the calls", at)
    return found


def _call(text: str, start: int, names: Sequence[str]) -> tuple[Written, int]:
    name, at = _name(text, start, names)
    arguments_start = at
    at = _expect(text, at, "(")
    pairs: list[str] = []
    keys: set[str] = set()
    if text[_skip(text, at) : _skip(text, at) + 1] == ")":
        return Written(name, "{}", start, arguments_start), _skip(text, at) + 1
    while True:
        key = KEY.match(text, at)
        if key is None:
            raise Invalid("no argument of the form `name=value` stands here", _skip(text, at))
        if key[1] in keys:
            raise Invalid(f"the argument `{key[1]}` stands twice in one call", key.start(1))
        keys.add(key[1])
        value, at = _value(text, key.end(), 0)
        pairs.append(f"{_quoted(key[1])}: {value}")
        at = _skip(text, at)
        if text[at : at + 1] != ",":
            break
        at += 1
    return Written(name, "{" + ", ".join(pairs) + "}", start, arguments_start), _expect(text, at, ")")


def _name(text: str, start: int, names: Sequence[str]) -> tuple[str, int]:
    """The name that begins here, and the bracket after it."""
    for name in names:
        end = _skip(text, start + len(name))
        if text.startswith(name, start) and text[end : end + 1] == "(":
            return name, end
    end = text.find("(", start)
    name = text[start:end].strip() if end >= 0 else ""
    if not name or "\n" in name:
        raise Invalid("no call of the form `name(…)` stands here", start)
    return name, end


def _value(text: str, start: int, depth: int) -> tuple[str, int]:
    """The JSON text of the value that begins here, and the character after it."""
    if depth > DEEPEST:
        raise Invalid("values are nested too deeply", start)
    first = text[start : start + 1]
    if first in ("'", '"') and first:
        match = STRING.match(text, start)
        if match is None:
            raise Invalid("a string is not closed", start)
        return _string(match[0], start), match.end()
    if first == "[":
        return _list(text, start, depth)
    if first == "{":
        return _object(text, start, depth)
    for pattern in (NUMBER, WORD):
        match = pattern.match(text, start)
        if match is None or text[match.end() : match.end() + 1].isalnum():
            continue
        if pattern is WORD and match[0] not in WORDS:
            break
        return WORDS.get(match[0], match[0]), match.end()
    raise Invalid("no value stands here", start, "text stands in quotes")


def _list(text: str, start: int, depth: int) -> tuple[str, int]:
    items: list[str] = []
    at = _skip(text, start + 1)
    while text[at : at + 1] != "]":
        if items:
            at = _skip(text, _expect(text, at, ","))
        item, at = _value(text, at, depth + 1)
        items.append(item)
        at = _skip(text, at)
    return "[" + ", ".join(items) + "]", at + 1


def _object(text: str, start: int, depth: int) -> tuple[str, int]:
    items: dict[str, str] = {}
    at = _skip(text, start + 1)
    while text[at : at + 1] != "}":
        if items:
            at = _skip(text, _expect(text, at, ","))
        if text[at : at + 1] not in ("'", '"') or at >= len(text):
            raise Invalid("a key is not in quotes", at)
        key, end = _value(text, at, depth + 1)
        if key in items:
            raise Invalid(f"key `{json.loads(key)}` stands twice in one object", at)
        value, at = _value(text, _skip(text, _expect(text, _skip(text, end), ":")), depth + 1)
        items[key] = value
        at = _skip(text, at)
    return "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}", at + 1


def _string(written: str, start: int) -> str:
    """The JSON text of a string in either quotes. An escape means what it means in JSON, or else in Python."""
    try:
        return _quoted(json.loads(written))
    except ValueError:
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            value = ast.literal_eval(written)
    except (SyntaxError, ValueError, MemoryError, Warning):
        raise Invalid("a string has an escape that neither JSON nor Python knows", start) from None
    return _quoted(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _skip(text: str, at: int) -> int:
    return strict_json.skip_space(text, at)


def _expect(text: str, at: int, character: str) -> int:
    if text[at : at + 1] == character:
        return at + 1
    if at >= len(text):
        raise Invalid(f"the text ends where `{character}` is due", at)
    raise Invalid(f"`{text[at]}` stands where `{character}` is due", at)
