"""Reward for JSON that can be read: a completion goes in; 1, a part of it or 0 comes out."""

import json
import re
from typing import Any

FENCE = re.compile(r"```([^\s`]*)\s(.*?)```", re.DOTALL)
OPENINGS = {"object": "{", "array": "[", "any": "{["}


def valid_json(
    prompt: str,
    completion: str,
    example: dict[str, Any],
    *,
    kind: str = "object",
    around: float = 0.5,
    allow_empty: bool = False,
) -> float:
    """Pay for a completion that is JSON.

    - 1: the whole completion is one JSON value, or one fenced block (```` ``` ```` or ```` ```json ````) that holds it.
    - `around`: one such value can be found, with other text before or behind it.
    - 0: nothing can be read, or there are several values, or it is not of the right kind. `NaN`, numbers too large
      to hold, and a key written twice in one object are no JSON.

    Options:
    - `kind`: `object`, `array`, or `any` of the two; a text, number or null alone never pays.
    - `around`: the pay for JSON with text around it, 0 to 1; 0 asks for JSON alone.
    - `allow_empty`: `{}` and `[]` pay as well.

    What can be gamed: what the JSON says is not read, so `{"a": 1}` pays in full. Set it beside `json_schema` or
    `json_fields`.

    Raises ValueError for a bad option.
    """
    if kind not in OPENINGS:
        raise ValueError("`kind` must be `object`, `array` or `any`")
    if isinstance(around, bool) or not isinstance(around, int | float) or not 0 <= around <= 1:
        raise ValueError("`around` must be a number from 0 to 1")
    found = find_json(completion, OPENINGS[kind])
    if found is None:
        return 0.0
    value, alone = found
    if not value and not allow_empty:
        return 0.0
    return 1.0 if alone else float(around)


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
