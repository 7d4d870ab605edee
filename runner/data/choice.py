"""Which rows are taken: by the weight of a source, for evaluation, and by a limit. The same `Random`, the same rows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from random import Random


def copies(rows: int, weight: float, random: Random) -> list[int]:
    """How often each of a source's rows is taken: with 0.5 half of them once, with 2.5 half twice and half thrice.

    Any weight above 0 takes at least one row.
    """
    whole = int(weight)
    more = round(rows * (weight - whole))
    if rows and weight > 0 and whole == 0:
        more = max(more, 1)
    chosen = set(random.sample(range(rows), min(more, rows)))
    return [whole + (row in chosen) for row in range(rows)]


def held_out(rows: Sequence[Hashable], fraction: float, random: Random) -> set[int]:
    """The positions of the rows to evaluate on: the fraction of them, and at least one if there are two.

    Equal rows stay on one side, which can make the share a little smaller or, where nearly all rows are equal,
    larger. Only where all rows are equal are they parted.
    """
    if len(rows) < 2:
        return set()
    wanted = min(max(1, round(len(rows) * fraction)), len(rows) - 1)
    equal: dict[Hashable, list[int]] = {}
    for position, row in enumerate(rows):
        equal.setdefault(row, []).append(position)
    groups = list(equal.values())
    if len(groups) == 1:
        return set(random.sample(groups[0], wanted))
    random.shuffle(groups)
    held: set[int] = set()
    for group in groups:
        if len(held) + len(group) <= wanted:
            held.update(group)
    if not held:
        smallest = min(groups, key=len)
        held.update(smallest)
    return held


def limited(rows: list[int], limit: int | None, random: Random | None) -> list[int]:
    """At most `limit` of the rows, in their order: any of them, or the first where there is no `random`."""
    if limit is None or len(rows) <= limit:
        return rows
    if random is None:
        return rows[:limit]
    return [rows[position] for position in sorted(random.sample(range(len(rows)), limit))]
