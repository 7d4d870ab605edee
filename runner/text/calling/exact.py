"""JSON text compared and read without loss: `1` is not `1.0`, keys have an order, and digits are not rounded."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import lru_cache
from typing import Any

from runner.data import strict_json


def same(left: str, right: str) -> bool:
    """Whether two JSON texts hold the same: equal values of equal types, and keys in one order.

    A number with a point or an exponent is another type than a whole one; it may be spelt in several ways.
    """
    return left == right or _canonical(left) == _canonical(right)


@lru_cache(maxsize=2048)  # the same tools stand in many rows, and each row is rendered several times
def value(text: str) -> Any:
    """The value of a JSON text, if Python's `json.dumps` gives the same back. Raises `strict_json.Invalid`.

    It is shared between calls, and not to be changed.
    """
    found = strict_json.Decoder().whole(text)
    if not same(text, json.dumps(found, ensure_ascii=False)):
        hint = "write the number with fewer digits, or as text, in double quotes"
        raise strict_json.Invalid("a number has more digits than are kept", 0, hint)
    return found


def _canonical(text: str) -> Any:
    # Whole numbers stay in the digits that they are written in, since Python reads no more than 4300 of them.
    return json.loads(
        text,
        parse_float=lambda number: ("number", Decimal(number)),
        parse_int=lambda number: ("whole number", number.removeprefix("-") if number == "-0" else number),
        object_pairs_hook=lambda pairs: ("object", tuple(pairs)),
    )
