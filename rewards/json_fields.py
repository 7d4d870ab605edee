"""Reward for an object with the right values: a completion and the row's object go in, 0 to 1 comes out."""

import json
import re
from typing import Any

FENCE = re.compile(r"```([^\s`]*)\s(.*?)```", re.DOTALL)


def json_fields(
    prompt: str,
    completion: str,
    example: dict[str, Any],
    *,
    column: str = "answer",
    around: float = 0.5,
    ignore_case: bool = False,
) -> float:
    """Pay the share of fields in which the completion's JSON equals the row's.

    - The completion must be JSON, in a fence or not, of which there is one value; else it pays 0. A key written
      twice in one object, or `NaN`, is no JSON.
    - Each field pays 1 for an equal value, and a missing, surplus or different one 0; the score is their mean over
      all fields that either side has, so more fields than asked for cost. `3` and `3.0` are equal; `3`, `"3"` and
      `true` are not. White space in texts counts as one space.
    - A field that is an object pays by its own fields in the same way, and a list by its items, place by place.

    Options:
    - `column`: the column of the right object (or list), or of its JSON text.
    - `around`: what the score is multiplied by when other text stands around the JSON, 0 to 1.
    - `ignore_case`: upper and lower case are the same in values. Keys are always compared exactly.

    What can be gamed: a field whose value is nearly always the same pays without reading the prompt. Leave such
    fields out of the rows, or balance them.

    Raises ValueError for a bad option, or a row without an object.
    """
    if isinstance(around, bool) or not isinstance(around, int | float) or not 0 <= around <= 1:
        raise ValueError("`around` must be a number from 0 to 1")
    if column not in example:
        raise ValueError(f"the row has no column `{column}`")
    right = example[column]
    if isinstance(right, str):
        read = read_json(right.strip(), 0)
        right = read[0] if read and read[1] == len(right.strip()) else None
    if not isinstance(right, dict | list):
        raise ValueError(f"the column `{column}` must hold a JSON object or list")

    found = find_json(completion, "{" if isinstance(right, dict) else "[")
    if found is None:
        return 0.0
    given, alone = found
    try:
        share = equal_share(right, given, ignore_case)
    except RecursionError:
        return 0.0
    return share if alone else share * around


def equal_share(right: Any, given: Any, ignore_case: bool) -> float:
    """1 where two JSON values are equal, less where parts of them are, 0 where nothing is."""
    if isinstance(right, dict) and isinstance(given, dict):
        shares = [
            equal_share(right[key], given[key], ignore_case) if key in right and key in given else 0.0
            for key in right.keys() | given.keys()
        ]
    elif isinstance(right, list) and isinstance(given, list):
        shares = [equal_share(one, other, ignore_case) for one, other in zip(right, given, strict=False)]
        shares += [0.0] * abs(len(right) - len(given))
    elif isinstance(right, str) and isinstance(given, str):
        right, given = " ".join(right.split()), " ".join(given.split())
        shares = [float(right.casefold() == given.casefold() if ignore_case else right == given)]
    else:
        alike = isinstance(right, bool) == isinstance(given, bool)
        shares = [float(alike and right == given)]
    return sum(shares) / len(shares) if shares else 1.0


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
