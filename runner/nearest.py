"""A misspelt name and the names there are -> the one that was probably meant, or None."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST_COMPARED = 80


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name closest to `word`: the same but for case, `-` and `_`, or else within a third of its letters.

    Returns None where nothing is close, and never `word` itself.
    """
    candidates = [name for name in names if name != word]
    for name in candidates:
        if bare(name) == bare(word):
            return name
    best, best_distance = None, max(1, min(len(word), LONGEST_COMPARED) // 3) + 1
    for name in candidates:
        found = distance(word.lower(), name.lower(), best_distance - 1)
        # a distance as long as the name itself means that nothing of it is left
        if found < best_distance and found < len(name):
            best, best_distance = name, found
    return best


def distance(first: str, second: str, limit: int) -> int:
    """Letters to add, take away, change or swap with a neighbour; any number over `limit` is `limit + 1`."""
    if abs(len(first) - len(second)) > limit or max(len(first), len(second)) > LONGEST_COMPARED:
        return limit + 1
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        before_that, before, row = before, row, [i]
        for j, other in enumerate(second, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, before_that[j - 2] + 1)
            row.append(cost)
    return min(row[-1], limit + 1)


def bare(name: str) -> str:
    """The name without case, `-`, `_` and spaces."""
    return name.replace("-", "").replace("_", "").replace(" ", "").lower()
