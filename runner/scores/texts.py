"""Two texts in, the answer and the wanted one, a score out: equality, as text and as JSON.

White space around an answer does not count.
"""

from __future__ import annotations

import json
from typing import Any


def exact_match(got: str, wanted: str) -> float:
    """Whether the two texts are the same."""
    return float(got.strip() == wanted.strip())


def json_valid(got: str, wanted: str) -> float:
    """Whether the answer is one JSON value and nothing else."""
    return float(_parsed(got) is not None)


def json_match(got: str, wanted: str) -> float:
    """Whether the answer is the same JSON value as the wanted one, whatever its spacing and the order of its keys."""
    value, expected = _parsed(got), _parsed(wanted)
    return float(value is not None and value == expected)


def _parsed(text: str) -> tuple[str] | None:
    """The JSON value in a canonical spelling; None for text that is not JSON. `1` and `true` stay apart."""
    try:
        return (json.dumps(json.loads(text, parse_constant=_refuse), sort_keys=True),)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
