"""Held-out questions as they were prepared, and a model, in; its answers and their scores out.

Used at the end of a run for both models, and during training where a metric of answers decides when to stop.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from runner import answering, model
from runner.answering import Answer
from runner.plan import Plan
from runner.scores import rows
from runner.scores.calls import Read
from runner.scores.rows import Measure, Scored
from runner.stopping import never
from runner.text import calling
from runner.text.calling import Fault


@dataclass(frozen=True)
class Asked:
    """The questions of `questions.json`, the tokens that end an answer, and what answers are measured by."""

    questions: Sequence[dict[str, Any]]
    ends: Sequence[int]
    measure: Measure


def read(plan: Plan, loaded: Any, tokenizer: PreTrainedTokenizerBase, metrics: Sequence[str]) -> Asked:
    """What a run prepared to ask, for metrics of answers. `loaded` is the model, which knows what ends its answers."""
    prepared = json.loads((Path(plan.directory) / "prepared" / "questions.json").read_text(encoding="utf-8"))
    settings = plan.recipe.evaluation
    schema = None
    if settings.json_schema is not None:
        schema = json.loads(Path(settings.json_schema).read_text(encoding="utf-8"))
    reader = functools.partial(_calls, prepared.get("syntax"))
    ends = [*model.ends(loaded, tokenizer), *tokenizer.convert_tokens_to_ids(prepared["stops"])]
    return Asked(prepared["questions"], ends, Measure(tuple(metrics), schema, reader))


def answered(
    asked: Asked,
    loaded: Any,
    tokenizer: PreTrainedTokenizerBase,
    most: int,
    leave: Callable[[], bool] = never,
) -> list[tuple[Answer, Scored]]:
    """The model's greedy answer to each question, of at most `most` tokens, and its scores.

    `leave` is asked before each token; raises GivenUp where it says so.
    """
    ids = [question["ids"] for question in asked.questions]
    answers = answering.answers(loaded, tokenizer, ids, asked.ends, most, leave)
    return [
        (answer, rows.score(asked.measure, question, answer.text, answer.marked))
        for question, answer in zip(asked.questions, answers, strict=True)
    ]


def _calls(syntax: str | None, text: str, tools: Sequence[str]) -> Read:
    """The calls of an answer; without a syntax, since no row has tools, there are none."""
    if syntax is None:
        return Read()
    found = calling.read(text, syntax, tools)
    return Read(fault=found.reason) if isinstance(found, Fault) else Read(found[1])
