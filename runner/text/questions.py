"""Bare prompts to the token ids that a model is asked with, and what reward functions are to know of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runner import recipe
from runner.data.dataset import Sample
from runner.data.examples import Question, plain
from runner.errors import Problem
from runner.text import encoding, templates, tokens
from runner.text.encoding import NOT_LEARNED, Asked, Encoded, TokenRow
from runner.text.templates import Refused


def ask(samples: Sequence[Sample], tokenizer: Any, settings: recipe.Dataset, prefill: str, most: int) -> Encoded:
    """All prompts of a split as token rows, and beside each what it asks. Faults are gathered in `problems`.

    A prompt of more than `most` tokens is a fault, or left out where the recipe says `overflow: drop`.
    """
    encoded = Encoded()
    with_template = encoding.uses_template(settings, tokenizer)
    for sample in samples:
        example = sample.example
        assert isinstance(example, Question), "rows of this task are read as prompts"
        try:
            text = templates.question(example, tokenizer, with_template) + prefill
        except Refused as refused:
            encoding.reject(encoded, sample, refused, settings)
            continue
        ids = tokens.encode_prompt(text, tokenizer)
        if len(ids) > most:
            _too_long(encoded, sample, len(ids), settings, most)
            continue
        encoded.rows.append(TokenRow(ids, [NOT_LEARNED] * len(ids), sample.place))
        prompt = example.prompt if isinstance(example.prompt, str) else plain(example.prompt)
        encoded.asked.append(Asked(text, json.dumps(prompt, ensure_ascii=False), example.columns))
    return encoded


def _too_long(encoded: Encoded, sample: Sample, length: int, settings: recipe.Dataset, most: int) -> None:
    problem = Problem(
        f"the prompt has {length} tokens, and at most {most} fit",
        sample.place,
        "raise `grpo.max_prompt_length`, or leave long prompts out with `dataset.overflow: drop`",
    )
    if settings.overflow == "drop":
        encoding.drop(encoded, sample, encoding.TOO_LONG, problem)
    else:
        encoded.problems.append(problem)
