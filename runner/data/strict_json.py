"""JSON text in, its value out, or what is wrong with it and where.

Stricter than the standard library, which lets the last of two equal keys win and takes `NaN` for a number.
Lines of data files and JSON text inside a column both come through here.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

WHITESPACE = " \t\r\n"
_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_PYTHON_LITERALS = ("None", "True", "False")


class Invalid(ValueError):
    """Text that is not JSON: `message` says why, `position` is the character it stands at, from 0."""

    def __init__(self, message: str, position: int, hint: str | None = None) -> None:
        self.message, self.position, self.hint = message, position, hint
        super().__init__(message)


class Decoder:
    """Reads one value after another. Not to be shared between threads: it keeps the faults of the last value."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._mapping, parse_constant=self._constant, parse_float=self._float
        )

    def value(self, text: str, start: int = 0) -> tuple[Any, int, str | None]:
        """The value that starts at a character, the character after it, and the fault in it if it has one.

        Raises Invalid where the text is so broken that nobody can tell where the value ends.
        """
        self._faults.clear()
        try:
            value, end = self._decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            raise _explained(error, text) from None
        except RecursionError:
            raise Invalid("values are nested too deeply", start) from None
        except ValueError:
            raise Invalid("a number has too many digits", start, "write it as text, in double quotes") from None
        return value, end, self._faults[0] if self._faults else None

    def whole(self, text: str) -> Any:
        """The value of a text that holds one value and nothing else. Raises Invalid for any fault in it."""
        start = skip_space(text, 0)
        value, end, fault = self.value(text, start)
        if fault is not None:
            raise Invalid(fault, start)
        rest = skip_space(text, end)
        if rest < len(text):
            raise Invalid("not valid JSON: there is more text after the value", rest)
        return value

    def _mapping(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in values if names.count(name) > 1)
            self._faults.append(f"key `{twice}` stands twice in one object")
        return values

    def _constant(self, text: str) -> float:
        self._faults.append(f"`{text}` is no JSON number")
        return math.nan

    def _float(self, text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            self._faults.append(f"number `{text[:40]}` is too large")
        return number


def skip_space(text: str, start: int) -> int:
    """The first character at or after `start` that JSON does not skip; the length of the text if there is none."""
    found = _NOT_SPACE.search(text, start)
    return found.start() if found else len(text)


def kind(value: Any) -> str:
    """What a value is, in the words of JSON, with its article: `a number`, `null`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    return f"of type `{type(value).__name__}`"


def _explained(error: json.JSONDecodeError, text: str) -> Invalid:
    message, hint = _reason(error, text)
    return Invalid(f"not valid JSON: {message}", error.pos, hint)


def _reason(error: json.JSONDecodeError, text: str) -> tuple[str, str | None]:
    """The decoder's message in our words, and a hint where the mistake is a usual one."""
    position, message = error.pos, error.msg
    rest = text[position : position + 8]
    if position >= len(text.rstrip()):
        return "the text ends before its value is complete", None
    if message.startswith("Unterminated string"):
        return "a string is not closed", None
    if message.startswith("Invalid control character"):
        return "a raw control character stands in a string", "write a line break as `\\n`"
    if message.startswith("Invalid \\"):
        return "an escape is not known to JSON", "write a backslash as `\\\\`"
    if rest.startswith("'"):
        return "a string is in single quotes", "JSON strings take double quotes; `json.dumps` writes them"
    if rest.startswith(_PYTHON_LITERALS):
        return "a value is written as Python", "JSON has `null`, `true` and `false`"
    trailing = rest[:1] in ("]", "}") and text[:position].rstrip().endswith(",")
    if trailing or message.startswith("Illegal trailing comma"):
        return "a comma has nothing after it", None
    if message.startswith("Expecting property name"):
        return "a key is not in double quotes", None
    return message[:1].lower() + message[1:].replace("'", "`"), None
