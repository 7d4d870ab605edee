"""Wanted and read calls of a row in, whether they agree out: by their syntax trees, without running anything.

This is the manner of the AST categories of the Berkeley Function Calling Leaderboard (Patil et al. 2025), with two
differences: parallel calls are matched as well as they can be and not in turn, and a variable in a value's place is no
value. What that leaderboard reports is made of more than these, so no figure here is one of its scores.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runner.data.examples import Call
from runner.scores.matching import most_pairs
from runner.scores.values import Accepts, accepted, plain

MOST_CALLS = 64  # of an answer: more are no match


@dataclass(frozen=True)
class Read:
    """The calls that an answer makes; or the fault for which they cannot be read, and those before it."""

    calls: tuple[Call, ...] = ()
    fault: str | None = None


Reader = Callable[[str, Sequence[str]], Read]  # of an answer with its special tokens, and the tools it was shown


@dataclass(frozen=True)
class CallScore:
    """What one row tells. The first three are None where no call is wanted.

    `parsed`: there are calls, and each can be read. `name` and `arguments`: as many calls as wanted, whose names, or
    whose arguments, go with the wanted ones one to one. `match`: both at once; where no call is wanted, that there is
    none. `called` and `wanted`: whether the answer calls or tries to, and whether it should.
    """

    parsed: bool | None
    name: bool | None
    arguments: bool | None
    match: bool
    called: bool
    wanted: bool


def score(wanted: Sequence[Call], tools: Sequence[str], read: Read, *, alternatives: bool = False) -> CallScore:
    """How the calls of an answer compare with the wanted ones, in any order.

    `tools` are JSON objects as `Chat` has them; a parameter that they declare a number takes `2.0` for `2`. With
    `alternatives`, each wanted argument is a list of accepted values, and `""` among them says that it may be missing.
    Raises ValueError where wanted arguments are no JSON object, or no lists although `alternatives` says so.
    """
    called = bool(read.calls) or read.fault is not None
    if not wanted:
        return CallScore(None, None, None, not called, called, wanted=False)
    expected = [(call.name, _arguments(call)) for call in wanted]
    for called_tool, values in expected:
        if values is None:
            raise ValueError(f"the wanted arguments of `{called_tool}` are no JSON object")
        if alternatives and not all(isinstance(value, list) for value in values.values()):
            raise ValueError(f"the wanted arguments of `{called_tool}` are no lists of accepted values")
    got = [(call.name, _arguments(call)) for call in read.calls]
    parsed = called and read.fault is None and all(values is not None for _, values in got)
    if not parsed or len(got) != len(expected) or len(got) > MOST_CALLS:
        return CallScore(parsed, False, False, False, called, wanted=True)
    accepts: Accepts = accepted if alternatives else plain
    schemas = _schemas(tools)
    names = [[one == other for other, _ in got] for one, _ in expected]
    try:
        arguments = [[accepts(given, values, schemas.get(one)) for _, given in got] for one, values in expected]
    except RecursionError:
        return CallScore(True, False, False, False, called, wanted=True)
    both = [[a and b for a, b in zip(*rows, strict=True)] for rows in zip(names, arguments, strict=True)]
    name, argument, match = (most_pairs(fits) == len(expected) for fits in (names, arguments, both))
    return CallScore(True, name, argument, match, called, wanted=True)


def by_metric(scores: CallScore) -> dict[str, float | None]:
    """What a row counts for in each metric, which is the mean over the rows that count: None for one that does not.

    `no_call_precision` is the share of answers without a call that should have none, `no_call_recall` the share of
    rows where no call is wanted that get none.
    """
    counted = {
        "call_parsed": scores.parsed,
        "call_name": scores.name,
        "call_arguments": scores.arguments,
        "call_match": scores.match,
        "no_call_precision": None if scores.called else not scores.wanted,
        "no_call_recall": None if scores.wanted else not scores.called,
    }
    return {name: None if value is None else float(value) for name, value in counted.items()}


def _arguments(call: Call) -> dict[str, Any] | None:
    try:
        values = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _schemas(tools: Sequence[str]) -> dict[str, Any]:
    """Name of a tool -> the schema of its parameters; a tool that is not as it should be has none."""
    found: dict[str, Any] = {}
    for text in tools:
        tool = json.loads(text)
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("parameters"), dict):
            found[str(function.get("name"))] = function["parameters"]
    return found
