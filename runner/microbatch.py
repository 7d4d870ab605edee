"""How many rows to compute at a time: large enough to keep the device busy, small enough to leave little padding.

A micro-batch costs a fixed share, whatever it holds, and a share for each of its tokens, padding included. The fixed
one is counted in tokens here; `benchmarks/micro_batch.py` measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

OVERHEAD = {"cpu": 100, "cuda": 4096}  # tokens; that of cuda is an estimate, from the size at which a GPU fills
MOST_TOKENS = 16384  # of a micro-batch chosen here; more makes no device faster
QUANTILES = 64  # row lengths that stand for all of a dataset's


def quantiles(lengths: Sequence[int]) -> tuple[int, ...]:
    """Row lengths, ascending, that stand for all of them."""
    ordered = sorted(lengths)
    if len(ordered) <= QUANTILES:
        return tuple(ordered)
    return tuple(ordered[int((number + 0.5) * len(ordered) / QUANTILES)] for number in range(QUANTILES))


def choose(
    rows: int, processes: int, lengths: Sequence[int], device: str, padded: bool, fits: Callable[[int], bool]
) -> int | None:
    """The number of rows a process takes at a time, of its `rows` a step; None where not even one fits.

    `lengths` are those of `quantiles`; `padded` says whether rows are filled up to the longest of their micro-batch.
    """
    longest = max(lengths, default=1)
    sizes = [size for size in range(1, min(rows, max(MOST_TOKENS // longest, 1)) + 1) if rows % size == 0]
    fitting = [size for size in sizes if fits(size)]
    if not fitting:
        return None
    if not padded or not lengths:
        return fitting[-1]
    return min(reversed(fitting), key=lambda size: cost(rows * processes, size * processes, lengths, OVERHEAD[device]))


def cost(rows: int, together: int, lengths: Sequence[int], overhead: int) -> float:
    """What a step of so many rows costs in tokens, if it is sorted by length and taken `together` rows at a time."""
    turns = rows // together
    seen = min(turns, QUANTILES)  # turns that stand for all of them, each by its longest row
    total = 0.0
    for number in range(seen):
        turn = number * turns // seen
        longest = lengths[min(int(((turn + 1) * together - 0.5) * len(lengths) / rows), len(lengths) - 1)]
        total += overhead + together * longest
    return total * turns / seen
