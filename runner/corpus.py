"""Documents in, the token rows of continued pretraining out, and what became of every token.

A document is its text and the end-of-text token behind it, with a beginning-of-text token in front where the tokenizer
writes one. `wrapped` rows are cut from all documents laid end to end; otherwise each document has rows of its own.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runner import recipe
from runner.data import documents
from runner.data.dataset import MOST_SHOWN, Rejected
from runner.data.documents import Piece, Survey
from runner.data.origins import SPLITS
from runner.errors import DataError, Place, Problem, RecipeError
from runner.text import pieces, special_tokens
from runner.text.pieces import Ids, Part
from runner.token_rows import FILES, Writer

TOO_LONG = "longer than max_length"  # the reasons of the ledger
CUT_OFF = "behind max_length"


@dataclass(frozen=True)
class Corpus:
    """What was written: facts of each split, a hash of all rows, the ledger, and documents that were left out."""

    facts: dict[str, dict[str, int]]
    fingerprint: str
    ledger: dict[str, Any]
    rejected: list[Rejected]


@dataclass
class _Split:
    """One split while it is written."""

    writer: Writer
    settings: recipe.Dataset
    length: int
    wrapped: bool
    documents: int = 0
    read: int = 0  # tokens
    dropped: Counter[str] = field(default_factory=Counter)  # tokens, by reason
    stretches: int = 0  # runs of tokens that rows were cut from
    windows: int = 0  # rows of documents that have several
    truncated: int = 0  # documents
    begin: int = 0  # where the document begins that is being written
    lost: dict[int, str] = field(default_factory=dict)  # number of a document -> why it was left out
    rejected: list[Rejected] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def write(settings: recipe.Dataset, survey: Survey, tokenizer: Any, length: int, wrapped: bool, folder: Path) -> Corpus:
    """Tokenise what the survey takes, and write rows of `length` tokens to `folder/train` and `folder/evaluation`.

    Raises DataError with every document that is too long, where the recipe does not say what becomes of it.
    """
    splits = {
        name: _Split(Writer(folder / name), settings, length, wrapped) for name in SPLITS if survey.documents[name]
    }
    try:
        for tokens in encoded(documents.stream(settings, survey), tokenizer):
            _take(splits[tokens.key.split], tokens)
        for split in splits.values():
            if wrapped:
                split.stretches = 1
                split.writer.cut(0, split.writer.tokens, length)
    finally:
        for split in splits.values():
            split.writer.close()
    _raise_faults(splits)
    return Corpus(
        facts={name: _facts(splits.get(name)) for name in SPLITS},
        fingerprint=_fingerprint(folder / name for name in splits),
        ledger=_ledger(survey, splits),
        rejected=[each for split in splits.values() for each in split.rejected],
    )


def opening(
    settings: recipe.Dataset, survey: Survey, tokenizer: Any, length: int, wrapped: bool, folder: Path, most: int
) -> list[tuple[int, Place]]:
    """Write the first rows to train on, of about `most` tokens, to `folder/train`, each as `write` has it.

    Gives the token at which each document begins, and where it stands. Raises DataError as `write` does.
    """
    split = _Split(Writer(folder / "train"), settings, length, wrapped)
    begins: list[tuple[int, Place]] = []
    within = False
    try:
        for tokens in encoded(documents.stream(settings, survey), tokenizer):
            if tokens.key.split != "train":
                continue
            if not within:
                begins.append((split.writer.tokens, tokens.key.place))
            _take(split, tokens)
            within = not tokens.ends
            if split.writer.tokens >= most and (wrapped or not within or split.writer.tokens >= 2 * most):
                break
        if wrapped or within:  # a document that goes on is shown as far as it was read
            split.writer.cut(0 if wrapped else split.begin, split.writer.tokens, length)
    finally:
        split.writer.close()
    _raise_faults({"train": split})
    return begins


def encoded(parts: Iterable[Piece], tokenizer: Any) -> Iterator[Ids[Piece]]:
    """Documents as token ids, with the tokens that begin and end them; each with the latest piece it was made of."""
    end = tokenizer.eos_token_id
    if end is None:
        hint = "use a model whose `tokenizer_config.json` names an `eos_token`"
        raise RecipeError(Problem("the model's tokenizer has no end-of-text token to join documents with", hint=hint))
    special = special_tokens.of(tokenizer)
    front = [special.start_id] if special.start is not None and special.start_id is not None else []
    begins = True
    for tokens in pieces.encode((Part(piece, piece.text, piece.ends) for piece in parts), tokenizer):
        ids = [*(front if begins else ()), *tokens.ids, *((end,) if tokens.ends else ())]
        yield Ids(tokens.key, ids, tokens.ends)
        begins = tokens.ends


def _take(split: _Split, tokens: Ids[Piece]) -> None:
    split.writer.add(tokens.ids)
    split.read += len(tokens.ids)
    if not tokens.ends:
        return
    split.documents += 1
    if not split.wrapped:
        _end(split, tokens.key)
    split.begin = split.writer.tokens


def _end(split: _Split, piece: Piece) -> None:
    """Cut the rows of a document that has been written, as the recipe says what becomes of a long one."""
    length, overflow = split.length, split.settings.overflow
    tokens = split.writer.tokens - split.begin
    if tokens > length and overflow != "split":
        problem = Problem(
            f"the document has {tokens} tokens, and at most {length} fit into a row",
            piece.place,
            "raise `dataset.max_length`, or set `dataset.overflow` to `split`, `truncate` or `drop`",
        )
        if overflow == "truncate":
            split.writer.take_back(tokens - length)
            split.dropped[CUT_OFF] += tokens - length
            split.truncated += 1
        else:
            split.writer.take_back(tokens)
            split.dropped[TOO_LONG] += tokens
            if overflow == "error":
                split.problems.append(problem)
            elif piece.number not in split.lost:
                split.lost[piece.number] = TOO_LONG
                split.rejected.append(Rejected(piece.place, problem, ""))
            return
    rows = split.writer.cut(split.begin, split.writer.tokens, length)
    split.stretches += 1
    split.windows += rows if rows > 1 else 0


def _raise_faults(splits: dict[str, _Split]) -> None:
    problems = [problem for split in splits.values() for problem in split.problems]
    if problems:
        raise DataError(problems[:MOST_SHOWN], total=len(problems))
    needed = splits.get("train", splits.get("evaluation"))  # the second one where nothing is to be trained
    if needed is None or not needed.writer.rows:
        raise DataError(Problem("no row is left to learn from", hint="`rejects.jsonl` says why each was left out"))


def _facts(split: _Split | None) -> dict[str, int]:
    if split is None:
        return {"rows": 0, "tokens": 0, "learned_tokens": 0, "longest": 0}
    writer = split.writer
    return {
        "rows": writer.rows,
        "tokens": _in_rows(split),
        "learned_tokens": writer.in_rows - writer.rows,
        "longest": writer.longest,
    }


def _in_rows(split: _Split) -> int:
    """The tokens that stand in rows, those once that end one row and begin the next."""
    return split.writer.in_rows - (split.writer.rows - split.stretches)


def _ledger(survey: Survey, splits: dict[str, _Split]) -> dict[str, Any]:
    """Documents of the files: read = kept + dropped, by reason. Of tokens likewise: read = trained + dropped."""
    lost = {number: reason for split in splits.values() for number, reason in split.lost.items()}
    files = [asdict(file) for file in survey.ledger.files]
    for number, reason in lost.items():
        file = files[survey.files[number]]
        file["kept"] -= 1
        file["dropped"][reason] = file["dropped"].get(reason, 0) + 1
    dropped: Counter[str] = Counter()
    for file in files:
        dropped.update(file["dropped"])
    return {
        "read": survey.ledger.read,
        "kept": sum(file["kept"] for file in files),
        "dropped": dict(dropped),
        "files": files,
        "repeats": survey.ledger.repeats,
        "in_both_splits": survey.ledger.leaked,
        "splits": {
            name: {
                "documents": split.documents,
                "tokens_read": split.read,
                "tokens_trained": _in_rows(split),
                "tokens_dropped": dict(split.dropped),
                "truncated": split.truncated,
                "windows": split.windows,
                **_facts(split),
            }
            for name, split in splits.items()
        },
    }


def _fingerprint(folders: Iterable[Path]) -> str:
    """A hash of the rows themselves: what a checkpoint was trained on, whatever version prepared it."""
    digest = hashlib.sha256()
    for folder in folders:
        for name, _ in FILES:
            with (folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
