"""A system text with tools in it in, the same without the tools and the sentences that introduce them out.

The chat template writes such sentences of its own. Only what a pattern knows leaves; everything else stays as it is,
and what stood apart stays apart, by a line break or a blank.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def sentence(text: str) -> re.Pattern[str]:
    """A pattern for a sentence whose words may be parted by any white space. Its parts are regular expressions."""
    return re.compile(r"\s+".join(text.split(" ")))


def without(text: str, tools: tuple[int, int], patterns: Iterable[re.Pattern[str]]) -> str:
    """The text without the tools, which stand from the first character to before the second, and without the patterns.

    A pattern is not looked for inside of the tools.
    """
    start, end = tools
    spans = [tools]
    for pattern in patterns:
        spans += [match.span() for match in pattern.finditer(text, 0, start)]
        spans += [match.span() for match in pattern.finditer(text, end)]
    kept = ""
    at, gap = 0, ""
    for start, end in [*sorted(spans), (len(text), len(text))]:
        between = text[at:start] if start > at else ""
        if between.strip():
            gap += between[: len(between) - len(between.lstrip())]
            kept += ("\n" if "\n" in gap else " ") if kept else ""
            kept += between.strip()
            gap = between[len(between.rstrip()) :]
        else:
            gap += between
        gap += text[max(start, at) : end]
        at = max(at, end)
    return kept
