"""A YAML scalar as written -> its value, by the core rules of YAML 1.2 (`no` is text, `2e-4` and `010` are numbers)."""

from __future__ import annotations

import re

NULLS = {"", "~", "null", "Null", "NULL"}
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
WHOLE = re.compile(r"[-+]?[0-9]+")
OCTAL = re.compile(r"0o[0-7]+")
HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)")
NOT_A_NUMBER = {".nan", ".NaN", ".NAN"}
MOST_DIGITS = 1000

Scalar = str | int | float | bool | None


class TooManyDigits(ValueError):
    """A whole number longer than anything could mean."""


def value_of(text: str) -> Scalar:
    """The value of a plain (unquoted) scalar. Raises `TooManyDigits`."""
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if text in NOT_A_NUMBER:
        return float("nan")
    if not text[0].isascii() or text[0] not in "+-.0123456789":
        return text
    for pattern, base in ((WHOLE, 10), (OCTAL, 8), (HEXADECIMAL, 16)):
        if pattern.fullmatch(text):
            if len(text) > MOST_DIGITS:
                raise TooManyDigits
            return int(text if base == 10 else text[2:], base)
    if DECIMAL.fullmatch(text):
        return float(text)
    if infinite := INFINITE.fullmatch(text):
        return float(infinite.group(1) + "inf")
    return text
