"""Checked samples in, token rows out, and what became of each: nothing is cut or dropped without being counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from runner import recipe
from runner.data.dataset import MOST_SHOWN, Ledger, Rejected, Sample
from runner.data.examples import Document, Question
from runner.errors import DataError, Place, Problem
from runner.text import templates, tokens
from runner.text.templates import Refused, Rendered
from runner.text.tokens import Tokens
from runner.token_rows import NOT_LEARNED as NOT_LEARNED

AT_ONCE = 512  # rows given to the tokenizer in one call

REFUSED = "no mask can be proved"  # the reasons of the ledger
TOO_LONG = "longer than max_length"
NOTHING_LEARNED = "nothing to learn"


@dataclass(frozen=True)
class TokenRow:
    """One row as the model sees it: ids, and -100 in `labels` where nothing is learned. `place` is its origin."""

    ids: list[int]
    labels: list[int]
    place: Place

    @property
    def learned(self) -> int:
        return sum(label != NOT_LEARNED for label in self.labels)


@dataclass(frozen=True)
class Asked:
    """A bare prompt: its whole text with special tokens written out, the same as the row says it, and other columns.

    `prompt` and `columns` are JSON: a text or a list of turns, and an object.
    """

    text: str
    prompt: str
    columns: str


@dataclass
class Encoded:
    """The rows of one split, and what happened on the way."""

    rows: list[TokenRow] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)  # one a row, where rows are bare prompts
    rejected: list[Rejected] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)  # samples by reason
    lost: dict[tuple[str, int], str] = field(default_factory=dict)  # file and line of each row dropped -> reason
    truncated: int = 0  # rows that lost their end, because the recipe says so
    windows: int = 0  # pieces that rows were split into, because the recipe says so
    rewritten: int = 0  # learned turns that the template renders otherwise than a server would have asked for them
    problems: list[Problem] = field(default_factory=list)


def uses_template(settings: recipe.Dataset, tokenizer: Any) -> bool:
    """Whether rows go through the model's chat template: as the recipe says, or if there is one."""
    if settings.apply_chat_template == "auto":
        return tokenizer.chat_template is not None
    return settings.apply_chat_template == "true"


def encode(samples: Sequence[Sample], tokenizer: Any, settings: recipe.Dataset, max_length: int) -> Encoded:
    """All samples of a split as token rows. Faults are gathered in `problems`; `raise_faults` raises them."""
    encoded = Encoded()
    with_template = uses_template(settings, tokenizer)
    for some in (samples[start : start + AT_ONCE] for start in range(0, len(samples), AT_ONCE)):
        rendered: list[tuple[Sample, Rendered]] = []
        for sample in some:
            try:
                example = sample.example
                assert not isinstance(example, Question | Document), "they are not learned as prompt and answer"
                rendered.append((sample, templates.render(example, tokenizer, settings.learn, with_template)))
            except Refused as refused:
                reject(encoded, sample, refused, settings)
        outcomes = tokens.encode_many([text for _, text in rendered], tokenizer)
        for (sample, text), outcome in zip(rendered, outcomes, strict=True):
            if isinstance(outcome, Refused):
                reject(encoded, sample, outcome, settings)
            else:
                encoded.rewritten += text.rewritten
                _keep(encoded, sample, outcome, settings, max_length)
    return encoded


def raise_faults(parts: Iterable[Encoded]) -> None:
    """Raise DataError with the first problems of all splits, if there are any."""
    problems = [problem for part in parts for problem in part.problems]
    if problems:
        raise DataError(problems[:MOST_SHOWN], total=len(problems))


def whole_ledger(ledger: Ledger, parts: Iterable[Encoded]) -> Ledger:
    """The ledger of the files with what was dropped here as well, so that again read = kept + dropped."""
    lost: dict[str, Counter[str]] = {}
    for part in parts:
        for (name, _), reason in part.lost.items():
            lost.setdefault(name, Counter())[reason] += 1
    files = []
    for file in ledger.files:
        dropped = Counter(file.dropped) + lost.get(file.file, Counter())
        files.append(replace(file, dropped=dict(dropped), kept=file.read - dropped.total()))
    return replace(ledger, files=tuple(files))


def reject(encoded: Encoded, sample: Sample, refused: Refused, settings: recipe.Dataset) -> None:
    """A row for which no mask can be proved: a fault, or left out where the recipe says so."""
    problem = Problem(refused.reason, sample.place, refused.hint)
    if settings.on_bad_row == "skip":
        drop(encoded, sample, REFUSED, problem)
    else:
        encoded.problems.append(problem)


def _keep(encoded: Encoded, sample: Sample, outcome: Tokens, settings: recipe.Dataset, max_length: int) -> None:
    labels = [token if learned else NOT_LEARNED for token, learned in zip(outcome.ids, outcome.learned, strict=True)]
    # The first token is never predicted from anything, so a label on it would be counted and not learned.
    labels[:1] = [NOT_LEARNED]
    row = TokenRow(outcome.ids, labels, sample.place)
    if row.learned == 0:
        problem = Problem("the row has no token to learn", sample.place, "is the answer empty")
        if settings.on_bad_row == "skip":
            drop(encoded, sample, NOTHING_LEARNED, problem)
        else:
            encoded.problems.append(problem)
    elif len(row.ids) <= max_length:
        encoded.rows.append(row)
    else:
        _too_long(encoded, sample, row, settings, max_length)


def _too_long(encoded: Encoded, sample: Sample, row: TokenRow, settings: recipe.Dataset, most: int) -> None:
    problem = Problem(
        f"the row has {len(row.ids)} tokens, and at most {most} fit",
        sample.place,
        "raise `dataset.max_length`, or say with `dataset.overflow` what becomes of long rows: "
        "`drop`, `truncate` or `split`",
    )
    if settings.overflow == "error":
        encoded.problems.append(problem)
        return
    # A piece begins with the last token of the one before, so that its own first token is predicted from something.
    starts = range(0, len(row.ids) - 1, max(most - 1, 1)) if settings.overflow == "split" else (0,)
    pieces = [
        TokenRow(row.ids[start : start + most], [NOT_LEARNED, *row.labels[start + 1 : start + most]], row.place)
        for start in starts
    ]
    kept = [piece for piece in pieces if piece.learned]
    if settings.overflow == "drop" or not kept:
        drop(encoded, sample, TOO_LONG, problem)
        return
    encoded.rows += kept
    if settings.overflow == "split":
        encoded.windows += len(kept)
    else:
        encoded.truncated += 1


def drop(encoded: Encoded, sample: Sample, reason: str, problem: Problem) -> None:
    """Count a sample out. A row that is there several times, by its source's weight, is one row in `lost`."""
    encoded.dropped[reason] += 1
    row = (sample.place.file, sample.place.line)
    if row not in encoded.lost:
        encoded.lost[row] = reason
        raw = json.dumps(asdict(sample.example), ensure_ascii=False)
        encoded.rejected.append(Rejected(sample.place, problem, raw))
