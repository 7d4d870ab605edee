"""Text in, the same text without secrets out: for everything that is printed, logged, written or pushed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from runner.secrets import SHAPES

MASK = "[redacted]"
SHORTEST_SECRET = 8  # characters; shorter values are words such as `false`, and masking them would hide the text

ENDINGS = ("TOKEN", "API_KEY", "ACCESS_KEY", "SECRET_KEY", "SECRET", "PASSWORD")
USER_AND_PASSWORD = re.compile(r"(?<=://)[^\s/:@]+:[^\s/@]+(?=@)")  # in an address


def redact(text: str, environment: Mapping[str, str]) -> str:
    """The text with every secret replaced by `[redacted]`.

    A secret is the value of an environment variable whose name says so (`HF_TOKEN`, `…_API_KEY`, `…_PASSWORD`),
    as it is, in JSON or in an address; the user and password in an address; and any text that has the shape of a
    known kind of token. Secrets that overlap are masked as one, so that no part of either is left.
    """
    shaped = (match.span() for pattern in (SHAPES, USER_AND_PASSWORD) for match in pattern.finditer(text))
    parts, end = [], 0
    for first, last in sorted([*shaped, *_places(text, environment)]):
        if first >= end:
            parts += [text[end:first], MASK]
        end = max(end, last)
    return "".join([*parts, text[end:]])


def names_a_secret(variable: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    name = variable.upper()
    return any(name == ending or name.endswith(f"_{ending}") for ending in ENDINGS)


def _places(text: str, environment: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """Where the values of secret variables stand in the text, overlapping ones too."""
    for value in {value.strip() for name, value in environment.items() if names_a_secret(name)}:
        if len(value) < SHORTEST_SECRET:
            continue
        for written in {value, json.dumps(value)[1:-1], quote(value, safe="")}:
            start = text.find(written)
            while start >= 0:
                yield start, start + len(written)
                start = text.find(written, start + 1)
