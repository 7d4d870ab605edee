"""The answers that rows give in; what they are, and so what measures them and what could pay for them, out."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.data.examples import Chat, Document, Example, Instruction, Question
from runner.guess import CHARACTERS_A_TOKEN
from runner.init.columns import FEW, LONG
from runner.init.proposals import Proposal
from runner.scores import texts
from runner.scores.read_answers import choice_accuracy, listed_choices, numeric_match

NEARLY_ALL = 0.95
LABELS_EACH = 5  # rows of each label at least, for a few values to be labels
NUMBER_MARKS = ("####", "\\boxed")  # what data sets of sums write before their result
NUMBER = re.compile(r"[-+−]?[$€£]?\s?[\d.,/]+\s?%?")
LENGTHS = (16, 32, 64, 128, 256, 512, 1024)  # tokens of an answer that are set
FORM_ALONE = "what a good answer is stands in no column: the rewards pay for its form alone (docs/rewards.md)"

NUMBERS_FOR_LABELS = "what the labels mean, which are numbers, stands in no column: words are learned sooner"


@dataclass(frozen=True)
class Answers:
    """What answers are. `rewards` are those that ship and fit, as a recipe names them."""

    what: str  # for a sentence
    metrics: tuple[str, ...]
    tokens: int  # the longest answer, guessed
    short: bool  # whether writing many of them is cheap
    rewards: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)
    doubt: str | None = None


def of(proposal: Proposal, examples: Sequence[Example]) -> Answers | None:
    """What the answers of rows are; None where there is nothing to answer."""
    if proposal.task == "continued_pretraining":
        return None
    if proposal.task == "function_calling":
        return Answers("calls of tools", ("loss", "call_parsed", "call_name", "call_match"), 256, False)
    asked = [each for each in (_answer(example, proposal.answer) for example in examples) if each is not None]
    if not asked:
        return Answers("nothing that could be compared", (), 256, False, _of_form(), FORM_ALONE)
    longest = _percentile([len(answer) for _, answer in asked]) / CHARACTERS_A_TOKEN
    tokens = next((length for length in LENGTHS if length >= 1.5 * longest + 4), LENGTHS[-1])
    what, metrics, reward = _kind(asked)
    short = tokens <= 64
    doubt = NUMBERS_FOR_LABELS if what.endswith("labels") and all(answer.isdecimal() for _, answer in asked) else None
    if proposal.task != "grpo":
        return Answers(what, ("loss", "perplexity", *metrics), tokens, short, (), doubt)
    if reward is None:
        return Answers(what, (), max(tokens, 64), short, _of_form(), FORM_ALONE)
    paid: dict[str, Any] = {"use": reward, "options": {"column": proposal.answer}}
    return Answers(what, (), max(tokens, 256) if reward == "numeric_answer" else tokens, short, (paid,), doubt)


def _kind(asked: Sequence[tuple[str, str]]) -> tuple[str, tuple[str, ...], str | None]:
    """What the answers are, what measures them, and the reward that ships for them."""
    answers = [answer for _, answer in asked]
    different = set(answers)
    if _nearly_all(answer.lstrip()[:1] in ("{", "[") and texts.json_valid(answer, answer) for answer in answers):
        return "JSON", ("json_valid", "json_match"), "json_fields"
    if _nearly_all(
        bool(listed_choices(prompt)) and choice_accuracy(answer, answer, prompt) for prompt, answer in asked
    ):
        letters = different <= set("ABCD")
        return "choices of a list", ("choice_accuracy",), "multiple_choice" if letters else None
    few = len(different) <= min(FEW, max(len(answers) / LABELS_EACH, 2)) and all(
        len(each) <= LONG for each in different
    )
    if few and 1 < len(different) < len(answers):
        return f"one of {len(different)} labels", ("exact_match",), "exact_answer"
    if _nearly_all(_is_number(answer) for answer in answers):
        return "numbers", ("numeric_match",), "numeric_answer"
    if statistics.median(map(len, answers)) <= LONG:
        return "short texts", ("exact_match", "token_f1"), "exact_answer"
    return "texts", ("rouge_l",), None


def _is_number(answer: str) -> bool:
    """Whether an answer is a number, or a text that ends in one by a mark."""
    told = any(mark in answer for mark in NUMBER_MARKS) or NUMBER.fullmatch(answer.strip())
    return bool(told) and numeric_match(answer, answer) is not None


def _answer(example: Example, column: str | None) -> tuple[str, str] | None:
    """The prompt and the answer of a row."""
    if isinstance(example, Instruction):
        return example.prompt, example.completion
    if isinstance(example, Chat):
        told = [index for index, message in enumerate(example.messages) if message.role == "assistant"]
        before = example.messages[told[-1] - 1].content if told[-1] else ""
        return before, example.messages[told[-1]].content
    if isinstance(example, Question) and column is not None:
        value = json.loads(example.columns).get(column)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return (example.prompt if isinstance(example.prompt, str) else example.prompt[-1].content), text
    assert isinstance(example, Question | Document)
    return None


def _of_form() -> tuple[Mapping[str, Any], ...]:
    bounds = {"minimum": 5, "maximum": 150, "unit": "words", "edge": 50}
    return {"use": "length_between", "options": bounds}, {"use": "repetition_penalty"}


def _nearly_all(found: Any) -> bool:
    told = [bool(each) for each in found]
    return sum(told) >= NEARLY_ALL * len(told)


def _percentile(lengths: Sequence[int]) -> float:
    return float(sorted(lengths)[int(0.98 * (len(lengths) - 1))])
