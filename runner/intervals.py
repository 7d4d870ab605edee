"""What rows say of two models in, both models' means and how sure they are out: a paired bootstrap over rows.

A metric is a ratio of sums: each row has an amount and a weight, such as a loss and its tokens, or a score and 1. Rows
are drawn again with replacement, the same for both models, and the middle 95 % of what comes out is the interval:
the percentile method of Efron and Tibshirani 1993, chapter 13. It tells what other rows of the same kind would give,
and not what another seed of training would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from runner.scores.metrics import LOWER_IS_BETTER

FEWEST_ROWS = 5  # below, an interval would tell of chance alone
DRAWS = 2000
DRAWN_AT_ONCE = 2**20  # numbers of rows that are held in memory
TAIL = 0.025
TRANSFORMS: dict[str, Callable[[Any], Any]] = {"perplexity": numpy.exp}

Parts = Sequence[tuple[float, float]]  # amount and weight of each row


@dataclass(frozen=True)
class Measured:
    """One metric's parts, row by row; `base` is None where the base model was not measured, else as long."""

    adapter: Parts
    base: Parts | None


def means(values: Sequence[float | None]) -> Parts:
    """The parts of a mean over those rows that have a value."""
    return [(0.0, 0.0) if value is None else (float(value), 1.0) for value in values]


def compare(measured: Mapping[str, Measured], seed: int) -> dict[str, dict[str, Any]]:
    """For each metric that has a value for either model, what `evaluation.json` says of it.

    `base` and `adapter` are the values, `base_interval` and `adapter_interval` their 95 % intervals, `difference` is
    adapter less base, `difference_interval` its interval, `rows` how many rows count, for the adapter, and `verdict`
    is `better`, `worse`, or `within noise` where that interval holds 0. What cannot be told is None.
    """
    found: dict[str, dict[str, Any]] = {}
    for many in sorted({len(each.adapter) for each in measured.values()}):
        names = [name for name, each in measured.items() if len(each.adapter) == many]
        both = [parts for name in names for parts in (measured[name].base, measured[name].adapter)]
        columns = numpy.concatenate([_columns(parts, many) for parts in both])
        drawn = _drawn(columns, seed) if many >= FEWEST_ROWS else None
        for number, name in enumerate(names):
            of_metric = slice(4 * number, 4 * number + 4)
            entry = _entry(name, columns[of_metric], None if drawn is None else drawn[:, of_metric])
            if entry["base"] is not None or entry["adapter"] is not None:
                found[name] = entry
    return {name: found[name] for name in measured if name in found}


def _columns(parts: Parts | None, rows: int) -> Any:
    """Amounts and weights, (2, rows); without parts no row counts."""
    return numpy.zeros((2, rows)) if parts is None else numpy.array(parts, dtype=float).reshape(rows, 2).T


def _drawn(columns: Any, seed: int) -> Any:
    """The sums of each column over each draw of rows, (draws, columns); `columns` is (columns, rows)."""
    rows = columns.shape[1]
    generator = numpy.random.default_rng(seed)
    at_once = max(DRAWN_AT_ONCE // rows, 1)
    sums = []
    for start in range(0, DRAWS, at_once):
        draws = min(at_once, DRAWS - start)
        chosen = generator.integers(0, rows, (draws, rows)) + numpy.arange(draws)[:, None] * rows
        times = numpy.bincount(chosen.ravel(), minlength=draws * rows).reshape(draws, rows)
        sums.append(times.astype(float) @ columns.T)
    return numpy.concatenate(sums)


def _entry(name: str, columns: Any, drawn: Any) -> dict[str, Any]:
    transform = TRANSFORMS.get(name, lambda value: value)

    def told(sums: Any) -> Any:
        """Base, adapter and their difference, (…, 3), from the sums of both models' amounts and weights, (…, 4)."""
        with numpy.errstate(divide="ignore", invalid="ignore", over="ignore"):
            both = transform(sums[..., 0::2] / sums[..., 1::2])
            return numpy.concatenate([both, both[..., 1:] - both[..., :1]], axis=-1)

    base, adapter, difference = (_or_none(value) for value in told(columns.sum(1)))
    base_rows, rows = (int((weights > 0).sum()) for weights in columns[1::2])
    counted = (base_rows, rows, min(base_rows, rows))
    spread = None if drawn is None else told(drawn)
    of_base, of_adapter, differs = (
        None if spread is None or many < FEWEST_ROWS else _interval(spread[:, number])
        for number, many in enumerate(counted)
    )
    return {
        "base": base,
        "adapter": adapter,
        "base_interval": of_base,
        "adapter_interval": of_adapter,
        "difference": difference,
        "difference_interval": differs,
        "rows": rows,
        "verdict": None if differs is None else _verdict(name, differs),
    }


def _or_none(value: float) -> float | None:
    """The value; None where no row counts. A perplexity beyond all numbers stays infinite."""
    return None if math.isnan(value) else float(value)


def _interval(values: Any) -> list[float] | None:
    """The middle 95 % of the draws that have a value."""
    values = values[~numpy.isnan(values)]
    if not len(values):
        return None
    ends = numpy.quantile(values, (TAIL, 1 - TAIL), method="nearest")  # between two infinite ones nothing is a number
    return [float(end) for end in ends]


def _verdict(name: str, interval: Sequence[float]) -> str:
    if interval[0] <= 0 <= interval[1]:
        return "within noise"
    return "better" if (interval[0] > 0) != (name in LOWER_IS_BETTER) else "worse"
