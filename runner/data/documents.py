"""Files or Hub datasets in; documents out, one at a time, however large all of them are together.

The sources are read twice. `survey` looks at every document and keeps two dozen bytes of each: enough to say which
are trained on, which are held out and which are left out, and what is wrong. `stream` then gives the texts.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from runner import recipe
from runner.data import choice, dataset, origins
from runner.data.dataset import FileLedger, Ledger, Reading, Rejected
from runner.data.examples import Document
from runner.data.rows import Row, text_of
from runner.errors import DataError, Place, Problem

EMPTY = "empty"  # a reason of the ledger: a text of nothing but white space
HASHES = 2**64  # of a text, that there are


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document, the whole of it where it is short. `number` counts all documents kept or not, from 0."""

    text: str
    number: int
    place: Place  # of the document
    split: str
    ends: bool  # whether the document ends with it


@dataclass(frozen=True)
class Survey:
    """What becomes of each document, by its number in the order of the sources.

    `copies` says how often it is taken, 0 for one that is left out; `evaluation` is 1 for one that is held out;
    `files` is the number of its file in `ledger.files`. `characters` and `documents` are those of a split, copies
    included.
    """

    copies: array[int]
    evaluation: bytearray
    files: array[int]
    documents: dict[str, int]
    characters: dict[str, int]
    longest: int  # characters
    rejected: list[Rejected]
    ledger: Ledger


@dataclass
class _Seen:
    """What is kept of each document while the sources are read."""

    hashes: array[int] = field(default_factory=lambda: array("Q"))
    characters: array[int] = field(default_factory=lambda: array("Q"))
    copies: array[int] = field(default_factory=lambda: array("H"))
    files: array[int] = field(default_factory=lambda: array("I"))
    evaluation: bytearray = field(default_factory=bytearray)
    names: dict[str, int] = field(default_factory=dict)


def survey(settings: recipe.Dataset, seed: int, held_out_only: bool = False) -> Survey:
    """Every document looked at, and what becomes of it. The same seed and files give the same.

    With `held_out_only` those that training would take are left out.

    Which ones are held out by a fraction goes by the hash of their text and the seed: equal texts stay on one side,
    and a corpus that grows keeps those that it held out. Raises DataError as `dataset.read` does.
    """
    reading = Reading(keeps_rejected=settings.on_bad_row == "skip")
    seen = _Seen()
    for role, index, source in _sources(settings):
        weighed: list[int] = []
        digest = hashlib.blake2b(str(seed).encode(), digest_size=8)
        characters = 0
        for document, row in _documents(source, role, reading):
            digest.update(document.text.encode())
            characters += len(document.text)
            if row.more:
                continue
            split = row.split or role
            if split == role:
                weighed.append(len(seen.copies))
            elif reading.held_apart is None:
                reading.held_apart = row.place
            seen.hashes.append(int.from_bytes(digest.digest(), "big"))
            seen.characters.append(characters)
            seen.evaluation.append(split == "evaluation")
            seen.copies.append(1)
            seen.files.append(seen.names.setdefault(row.place.file, len(seen.names)))
            digest, characters = hashlib.blake2b(str(seed).encode(), digest_size=8), 0
        for i, copies in zip(
            weighed, choice.copies(len(weighed), source.weight, Random(f"{seed} {role} {index}")), strict=True
        ):
            seen.copies[i] = copies
    dataset.raise_problems(settings, reading)
    if settings.evaluation_fraction is not None:
        _hold_out(seen, settings.evaluation_fraction)
    sampled = bytes(1 if copies else 0 for copies in seen.copies)
    if settings.limit is not None:
        _limit(seen, settings.limit, settings.shuffle, seed)
    left = {split: range(sum(1 for _ in _taken(seen, split))) for split in origins.SPLITS}
    dataset.raise_nothing_left(settings, reading, left)
    trained = set(_taken(seen, "train")) if held_out_only else set()
    for i in trained:
        seen.copies[i] = 0
    return _survey(seen, reading, sampled, trained)


def stream(settings: recipe.Dataset, found: Survey) -> Iterator[Piece]:
    """The documents that a survey takes, piece by piece and in order; those of several copies once in each round.

    Raises DataError where the files are not those that were surveyed.
    """
    for turn in range(max(found.copies, default=0)):
        reading, number = Reading(keeps_rejected=False), 0
        for role, _, source in _sources(settings):
            for document, row in _documents(source, role, reading):
                if number >= len(found.copies):
                    raise _changed(row.place)
                if found.copies[number] > turn:
                    split = origins.SPLITS[found.evaluation[number]]
                    yield Piece(document.text, number, row.place, split, not row.more)
                number += not row.more
        if number != len(found.copies):
            raise _changed(Place(settings.train[0].path))


def hashes(settings: recipe.Dataset) -> dict[str, str]:
    """The SHA-256 of each file, and of a Hub dataset that of its rows as JSON, one a line. Raises DataError."""
    digests: dict[str, str] = {}
    for role, _, source in _sources(settings):
        split = origins.default_split(role)
        digests.update(origins.hashes(source, split))
        if origins.is_hub_id(source):
            digest, name = hashlib.sha256(), source.path
            for row in origins.rows((source,), split):
                if isinstance(row, Row):
                    digest.update(text_of(row).encode() + b"\n")
                    name = row.place.file
            digests[name] = digest.hexdigest()
    return digests


def _sources(settings: recipe.Dataset) -> Iterator[tuple[str, int, recipe.Source]]:
    """Each source with the split that it is of, and its number there."""
    for role, sources in (("train", settings.train), ("evaluation", settings.evaluation)):
        for index, source in enumerate(sources):
            yield role, index, source


def _documents(source: recipe.Source, role: str, reading: Reading) -> Iterator[tuple[Document, Row]]:
    """The documents of a source, or their parts; those without text are counted out."""
    goes_on = False
    for example, row in dataset.examples(source, role, reading):
        assert isinstance(example, Document), "a source of documents has the format `text`"
        if row.more or goes_on or example.text.strip():
            yield example, row
        else:
            reading.drop(row.place.file, EMPTY)
        goes_on = row.more


def _hold_out(seen: _Seen, fraction: float) -> None:
    """Move to evaluation what has a hash in the lowest fraction of all: at least one text, and never all of them."""
    training = [i for i, copies in enumerate(seen.copies) if copies and not seen.evaluation[i]]
    lowest, highest = (pick((seen.hashes[i] for i in training), default=0) for pick in (min, max))
    highest_held = max(int(fraction * HASHES), lowest)
    if highest_held >= highest:
        highest_held = max((seen.hashes[i] for i in training if seen.hashes[i] < highest), default=-1)
    for i in training:
        if seen.hashes[i] <= highest_held:
            seen.evaluation[i], seen.copies[i] = 1, 1


def _limit(seen: _Seen, limit: int, shuffle: bool, seed: int) -> None:
    """Take at most so many documents of each split, copies counted."""
    for split in origins.SPLITS:
        taken = [i for i in _taken(seen, split) for _ in range(seen.copies[i])]
        kept = Counter(choice.limited(taken, limit, Random(f"{seed} limit {split}") if shuffle else None))
        for i in set(taken):
            seen.copies[i] = kept[i]


def _taken(seen: _Seen, split: str) -> Iterable[int]:
    wanted = origins.SPLITS.index(split)
    return (i for i, copies in enumerate(seen.copies) if copies and seen.evaluation[i] == wanted)


def _survey(seen: _Seen, reading: Reading, sampled: bytes, trained: set[int]) -> Survey:
    names = list(seen.names)
    kept: Counter[str] = Counter()
    documents = dict.fromkeys(origins.SPLITS, 0)
    characters = dict.fromkeys(origins.SPLITS, 0)
    for i, copies in enumerate(seen.copies):
        file, split = names[seen.files[i]], origins.SPLITS[seen.evaluation[i]]
        documents[split] += copies
        characters[split] += copies * seen.characters[i]
        if copies:
            kept[file] += 1
        else:
            left_out = dataset.OVER_LIMIT if sampled[i] else dataset.NOT_SAMPLED
            reading.drop(file, dataset.TRAINED_ON if i in trained else left_out)
    held_out = {seen.hashes[i] for i in _taken(seen, "evaluation")}
    both = {seen.hashes[i] for i in _taken(seen, "train") if seen.hashes[i] in held_out}
    ledger = Ledger(
        files=tuple(
            FileLedger(file, read, kept[file], dict(reading.dropped.get(file, {})))
            for file, read in reading.read.items()
        ),
        repeats=sum(documents.values()) - kept.total(),
        leaked=sum(seen.hashes[i] in both for i in _taken(seen, "evaluation")),
        unanswered=0,
    )
    longest = max((seen.characters[i] for i, copies in enumerate(seen.copies) if copies), default=0)
    order = {file.file: number for number, file in enumerate(ledger.files)}
    files = array("I", (order[names[number]] for number in seen.files))
    return Survey(seen.copies, seen.evaluation, files, documents, characters, longest, reading.rejected, ledger)


def _changed(place: Place) -> DataError:
    return DataError(Problem("the data changed while it was read", place, "run again when it is no longer written to"))
