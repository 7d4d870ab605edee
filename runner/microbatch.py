"""How many rows to compute at a time: large enough to keep the device busy, small enough to leave little padding.

A micro-batch costs a fixed share, whatever it holds, and a share for each of its tokens, padding included. The fixed
one is counted in tokens here; `benchmarks/micro_batch.py` measures it.

On a GPU the fixed share is the time to launch the kernels of each layer, so it is worth the more tokens, the smaller
the layers are: 54,000 for a model of 135 million parameters and 5,300 for one of 1.1 billion, on an H200.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

ON_A_CPU = 100  # tokens
A_LAYER = 3.4e11  # on a GPU: what a layer costs, in tokens times the model's parameters
UNKNOWN = 4096  # tokens, on a GPU where the model's size is not known yet
MOST_TOKENS = 16384  # of a micro-batch chosen here, or so many that the fixed share is an eighth of them
QUANTILES = 64  # row lengths that stand for all of a dataset's


def quantiles(lengths: Sequence[int]) -> tuple[int, ...]:
    """Row lengths, ascending, that stand for all of them."""
    ordered = sorted(lengths)
    if len(ordered) <= QUANTILES:
        return tuple(ordered)
    return tuple(ordered[int((number + 0.5) * len(ordered) / QUANTILES)] for number in range(QUANTILES))


def overhead(device: str, layers: int, parameters: int) -> int:
    """The fixed share of a micro-batch in tokens, for a model of so many layers and parameters (0: not known)."""
    if device == "cpu":
        return ON_A_CPU
    return int(A_LAYER * layers / parameters) if parameters else UNKNOWN


def choose(
    rows: int, processes: int, lengths: Sequence[int], overhead: int, padded: bool, fits: Callable[[int], bool]
) -> int | None:
    """The number of rows a process takes at a time, of its `rows` a step; None where not even one fits.

    `lengths` are those of `quantiles`; `padded` says whether rows are filled up to the longest of their micro-batch.
    """
    most = max(MOST_TOKENS, 8 * overhead) // max(lengths, default=1)
    sizes = [size for size in range(1, min(rows, max(most, 1)) + 1) if rows % size == 0]
    fitting = [size for size in sizes if fits(size)]
    if not fitting:
        return None
    if not padded or not lengths:
        return fitting[-1]
    return min(reversed(fitting), key=lambda size: cost(rows * processes, size * processes, lengths, overhead))


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
