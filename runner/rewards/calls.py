"""A step's batch -> the calls of one function, and a process's answer -> the scores in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from runner.rewards.contract import Batch, Settings
from runner.rewards.messages import Broken
from runner.rewards.signature import PASSED, Function
from runner.rewards.worker import Call


def calls(function: Function, settings: Settings, batch: Batch, numbers: itertools.count[int]) -> list[Call]:
    """One call a completion for `each`, one call for all of them for `batch`."""
    if function.convention == "batch":
        if not batch.completions:
            return []
        message = {"batch": _named(function, settings, batch), "count": len(batch.completions)}
        return [_call(next(numbers), tuple(range(len(batch.completions))), message)]
    made = []
    for row, (prompt, completion, example) in enumerate(zip(batch.prompts, batch.completions, batch.rows, strict=True)):
        values = {name: str(value) for name, value in example.items()} if settings.strings else dict(example)
        made.append(_call(next(numbers), (row,), {"each": [prompt, completion, values]}))
    return made


def scores(answer: Mapping[str, Any], call: Call) -> tuple[list[float | None], dict[int, str]]:
    """The values of an answer and the faults in it, by position in the call. Raises Broken for what is no answer."""
    values, faults = answer.get("scores"), answer.get("faults", {})
    if not isinstance(values, list) or len(values) != len(call.rows) or not isinstance(faults, dict):
        raise Broken("an answer without a score for each completion")
    for value in values:
        if value is not None and not (isinstance(value, float | int) and math.isfinite(value)):
            raise Broken("an answer with a score that is no number")
    if "each" in call.message and values[0] is None:
        raise Broken("an answer without a score")
    known = {str(position): position for position in range(len(values))}
    return (
        [None if value is None else float(value) for value in values],
        {known[position]: str(fault) for position, fault in faults.items() if position in known},
    )


def _call(number: int, rows: tuple[int, ...], message: dict[str, Any]) -> Call:
    return Call(number, rows, {"call": number, **message})


def _named(function: Function, settings: Settings, batch: Batch) -> dict[str, Any]:
    """What TRL passes by name, as far as the function takes it."""
    columns = {name for row in batch.rows for name in row}
    named: dict[str, Any] = {
        name: [row.get(name) for row in batch.rows] for name in sorted(columns.difference(settings.options))
    }
    if settings.strings:
        named = {name: [str(value) for value in values] for name, values in named.items()}
    passed = {
        "prompts": list(batch.trl_prompts if batch.trl_prompts is not None else batch.prompts),
        "completions": list(batch.trl_completions if batch.trl_completions is not None else batch.completions),
        "completion_ids": [list(map(int, ids)) for ids in batch.completion_ids] if batch.completion_ids else None,
        "trainer_state": {"global_step": batch.step, "epoch": batch.epoch},
        "log_extra": None,  # these two are made where the function runs
        "log_metric": None,
    }
    named |= {name: passed[name] for name in PASSED}
    return {name: value for name, value in named.items() if function.takes_any or name in function.parameters}
