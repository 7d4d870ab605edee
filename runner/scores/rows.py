"""A held-out question and its answer in, the score of each metric out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.data.examples import Call
from runner.scores import calls, fits_schema
from runner.scores.calls import Read, Reader
from runner.scores.metrics import CHOICE, OF_CALLS, OF_TEXTS, SCHEMA
from runner.scores.read_answers import choice_accuracy


@dataclass(frozen=True)
class Measure:
    """What answers are measured by. Metrics that are not of one answer are passed over."""

    metrics: tuple[str, ...]
    schema: dict[str, Any] | None = None  # of `json_schema`
    reader: Reader | None = None  # for the metrics of calls


@dataclass(frozen=True)
class Scored:
    """What an answer scored. `values`: metric -> 0 to 1, or None where the row does not count for it."""

    values: dict[str, float | None]
    read: Read | None = None  # where calls are measured


def score(measure: Measure, question: Mapping[str, Any], text: str, marked: str) -> Scored:
    """`question` is one of `questions.json`; `text` is the answer, `marked` the same with its special tokens."""
    values: dict[str, float | None] = {}
    read = None
    if any(name in OF_CALLS for name in measure.metrics):
        assert measure.reader is not None, "metrics of calls come with a reader"
        tools = question.get("tools", [])
        read = measure.reader(marked, tools)
        wanted = [Call(call["name"], call["arguments"]) for call in question.get("calls", [])]
        found = calls.by_metric(calls.score(wanted, tools, read))
        values |= {name: found[name] for name in measure.metrics if name in found}
    for name in measure.metrics:
        if name in OF_TEXTS:
            values[name] = OF_TEXTS[name](text, question["answer"])
        elif name == CHOICE:
            values[name] = choice_accuracy(text, question["answer"], question["prompt"])
        elif name == SCHEMA:
            assert measure.schema is not None, "a recipe with this metric has a schema"
            values[name] = fits_schema.fits(text, measure.schema)
    return Scored({name: values[name] for name in measure.metrics if name in values}, read)
