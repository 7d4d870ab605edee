"""Files or Hub datasets in; rows, and then checked samples, out, each with the file and line that it came from.

No row vanishes: of every file, the rows read are the rows kept plus the rows dropped for each reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from runner import recipe
from runner.data import choice, formats, origins
from runner.data.calling import formats as calling
from runner.data.examples import Chat, Example
from runner.data.rows import Fault, Row, has_fixed_columns, shown, suffix, text_of
from runner.errors import DataError, Place, Problem

rows = origins.rows

MOST_SHOWN = 20  # problems of one DataError
CSV_HEADER = "the first line of a CSV or TSV file names its columns"

UNREADABLE = "unreadable"  # the reasons of the ledger
INVALID = "invalid"
NOT_SAMPLED = "weight below 1"
OVER_LIMIT = "over the limit"
TRAINED_ON = "for training"  # where only held-out rows are wanted


@dataclass(frozen=True, slots=True)
class Sample:
    """What is learned from one row, and where the row stands."""

    example: Example
    place: Place


@dataclass(frozen=True)
class Rejected:
    """A row that was left out because of what is wrong with it, as it was written."""

    place: Place
    problem: Problem
    raw: str


@dataclass(frozen=True)
class FileLedger:
    """Rows of one file: `read == kept + sum(dropped.values())`."""

    file: str
    read: int
    kept: int
    dropped: dict[str, int]  # by reason
    format: str = ""  # of its good rows; several in one file are parted by commas


@dataclass(frozen=True)
class Ledger:
    """What became of every row. `kept + repeats` is the number of samples in both splits."""

    files: tuple[FileLedger, ...]
    repeats: int  # samples that are there again, because of a weight above 1
    leaked: int  # evaluation samples that are also trained on, word for word
    unanswered: int  # conversations kept that end on a user turn, from which nothing is learned there
    calls: dict[str, int] = field(default_factory=dict)  # rows kept with `none`, `one` or `several`; of calling formats

    @property
    def read(self) -> int:
        return sum(file.read for file in self.files)

    @property
    def kept(self) -> int:
        return sum(file.kept for file in self.files)

    @property
    def dropped(self) -> dict[str, int]:
        """Rows dropped for each reason, over all files."""
        total: Counter[str] = Counter()
        for file in self.files:
            total.update(file.dropped)
        return dict(total)


@dataclass(frozen=True)
class Data:
    """The samples of a run, in the order of their sources; `sha256` is of each file, by its name in the places.

    Of a Hub dataset it is of its rows as JSON, one a line.
    """

    train: list[Sample]
    evaluation: list[Sample]
    rejected: list[Rejected]
    ledger: Ledger
    sha256: dict[str, str]


@dataclass
class Reading:
    """What is gathered while sources are read; one entry a good row in the first three lists, where they are filled."""

    keeps_rejected: bool
    follows_split: bool = True  # whether a row's own `split` says where it belongs
    samples: list[Sample] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    copies: list[int] = field(default_factory=list)  # how often the row is to be there, by the weight of its source
    held_apart: Place | None = None  # the first row of a training source that says `split: evaluation`
    read: Counter[str] = field(default_factory=Counter)  # by file
    dropped: dict[str, Counter[str]] = field(default_factory=dict)  # by file and reason
    formats: dict[str, dict[str, None]] = field(default_factory=dict)  # by file, in the order in which they came
    rejected: list[Rejected] = field(default_factory=list)
    whole: list[Problem] = field(default_factory=list)  # files that cannot be read
    problems: list[Problem] = field(default_factory=list)  # the first of those in rows
    total: int = 0  # problems in rows
    sha256: dict[str, str] = field(default_factory=dict)

    def drop(self, file: str, reason: str) -> None:
        self.dropped.setdefault(file, Counter())[reason] += 1

    def reject(self, place: Place, reason: str, problems: Sequence[Problem], raw: str) -> None:
        """Take note of a row that is not usable; its problems are one in what is kept of it."""
        self.drop(place.file, reason)
        self.total += len(problems)
        self.problems += problems[: MOST_SHOWN - len(self.problems)]
        if not self.keeps_rejected:
            return
        message = "; ".join(problem.message for problem in problems)
        self.rejected.append(Rejected(place, Problem(message, problems[0].place, problems[0].hint), raw))


def read(dataset: recipe.Dataset, seed: int, follow_split: bool = True) -> Data:
    """The checked samples of both splits; without `follow_split`, rows belong where their source is named.

    With `on_bad_row: error` any bad row raises DataError, with the first problems of all sources and the number
    of all of them; with `skip` bad rows go to `rejected`. A file that cannot be read always raises, and so
    does a split without any row left. The same seed and files give the same samples.
    """
    reading = Reading(keeps_rejected=dataset.on_bad_row == "skip", follows_split=follow_split)
    for index, source in enumerate(dataset.train):
        _read_source(source, "train", f"{seed} train {index}", reading)
    for index, source in enumerate(dataset.evaluation):
        _read_source(source, "evaluation", f"{seed} evaluation {index}", reading)
    raise_problems(dataset, reading)
    for split, given in (("train", dataset.train), ("evaluation", dataset.evaluation)):
        for source in given:
            reading.sha256.update(origins.hashes(source, origins.default_split(split)))

    picked = {
        split: [i for i, named in enumerate(reading.splits) if named == split and reading.copies[i]]
        for split in origins.SPLITS
    }
    if dataset.evaluation_fraction is not None:
        examples = [reading.samples[i].example for i in picked["train"]]
        held = choice.held_out(examples, dataset.evaluation_fraction, Random(f"{seed} held out"))
        picked["evaluation"] = [i for position, i in enumerate(picked["train"]) if position in held]
        picked["train"] = [i for position, i in enumerate(picked["train"]) if position not in held]
        for i in picked["evaluation"]:
            reading.copies[i] = 1
    for split in origins.SPLITS:
        copies = [i for i in picked[split] for _ in range(reading.copies[i])]
        random = Random(f"{seed} limit {split}") if dataset.shuffle else None
        picked[split] = choice.limited(copies, dataset.limit, random)
    raise_nothing_left(dataset, reading, picked)
    return _data(reading, picked)


def _read_source(source: recipe.Source, role: str, seed: str, reading: Reading) -> None:
    """Read, check and weigh the rows of one source of a split."""
    weighed: list[int] = []
    for example, row in examples(source, role, reading):
        split = row.split or role
        if split == role:
            weighed.append(len(reading.samples))
        elif reading.held_apart is None:
            reading.held_apart = row.place
        reading.samples.append(Sample(example, row.place))
        reading.splits.append(split)
        reading.copies.append(1)
    for i, copies in zip(weighed, choice.copies(len(weighed), source.weight, Random(seed)), strict=True):
        reading.copies[i] = copies


def examples(source: recipe.Source, role: str, reading: Reading) -> Iterator[tuple[Example, Row]]:
    """The sound rows of one source of a split, one at a time; the others, and a Hub's hash, go to `reading`.

    A row that goes on in the next one is counted when it ends.
    """
    chosen, file, refused = source.format, None, None
    digest = hashlib.sha256() if origins.is_hub_id(source) else None
    default_split = origins.default_split(role)
    for item in rows((source,), default_split):
        if isinstance(item, Fault):
            _take_fault(item, reading)
            continue
        if not reading.follows_split:
            item = replace(item, split=None)
        if digest is not None:
            digest.update(text_of(item).encode() + b"\n")
        is_first, file = item.place.file != file, item.place.file
        if file == refused:
            continue
        if is_first and has_fixed_columns(item.place):
            wrong = _choose(item, chosen)
            if isinstance(wrong, Problem):
                reading.whole.append(_of_file(wrong, item.place))
                refused = file
                continue
        reading.read[file] += not item.more
        example = _example(item, chosen, role)
        if isinstance(example, list):
            reading.reject(item.place, INVALID, example, text_of(item))
            continue
        named = _choose(item, chosen) if calling.is_calling(chosen) else formats.format_of(example)
        reading.formats.setdefault(file, {})[str(named)] = None
        if not calling.is_calling(chosen):
            chosen = str(named)
        yield example, item
    if digest is not None and file is not None:
        reading.sha256[file] = digest.hexdigest()


def _take_fault(fault: Fault, reading: Reading) -> None:
    if fault.whole or fault.problem.place is None:
        reading.whole.append(fault.problem)
        return
    reading.read[fault.problem.place.file] += 1
    reading.reject(fault.problem.place, UNREADABLE, [fault.problem], fault.raw)


def _of_file(problem: Problem, place: Place) -> Problem:
    """A problem of a file's columns: it stands with their names, which a CSV file has on its first line."""
    if suffix(place.file) not in (".csv", ".tsv"):
        return replace(problem, place=Place(place.file))
    return replace(problem, place=Place(place.file, 1), hint=problem.hint or CSV_HEADER)


def _choose(row: Row, source_format: str) -> str | Problem:
    """The format that a row is in, or the problem that it is in none that its source may have."""
    if calling.is_calling(source_format):
        return calling.choose(row, source_format)
    return formats.choose(row, source_format)


def _example(row: Row, source_format: str, role: str) -> Example | list[Problem]:
    if role == "evaluation" and row.split == "train":
        message = "the row says `split: train`, and its source is of `dataset.evaluation`"
        return formats.placed(row, [(message, "name the file in `dataset.train` alone: its `split` is followed there")])
    if calling.is_calling(source_format):
        return calling.read(row, source_format)
    return formats.read(row, source_format)


def raise_problems(dataset: recipe.Dataset, reading: Reading) -> None:
    """Raise what was found wrong while reading: files first, because they are few."""
    problems, total = list(reading.whole), len(reading.whole)
    if dataset.on_bad_row == "error":
        problems += reading.problems
        total += reading.total
    if dataset.evaluation_fraction is not None and reading.held_apart is not None:
        message = "the row is for evaluation by its `split`, and `dataset.evaluation` asks for a share of all rows"
        problems.append(Problem(message, reading.held_apart, "use one of the two"))
        total += 1
    if problems:
        raise DataError(problems[:MOST_SHOWN], total)


def raise_nothing_left(dataset: recipe.Dataset, reading: Reading, picked: Mapping[str, Sequence[int]]) -> None:
    """Raise where a split that was asked for has no rows, with the first reasons."""
    read = sum(reading.read.values())
    for split, asked in (("train", dataset.train), ("evaluation", dataset.evaluation)):
        if asked and not picked[split]:
            place = Place(shown(asked[0].path))
            problem = Problem(f"no row is left for `{split}`, of {read} that were read", place)
            raise DataError([problem, *reading.problems[: MOST_SHOWN - 1]], 1 + reading.total)


def _data(reading: Reading, picked: dict[str, list[int]]) -> Data:
    train = [reading.samples[i] for i in picked["train"]]
    evaluation = [reading.samples[i] for i in picked["evaluation"]]
    kept_rows = {*picked["train"], *picked["evaluation"]}
    kept: Counter[str] = Counter()
    for i, sample in enumerate(reading.samples):
        if i in kept_rows:
            kept[sample.place.file] += 1
        else:
            reading.drop(sample.place.file, OVER_LIMIT if reading.copies[i] else NOT_SAMPLED)
    trained = {sample.example for sample in train} if evaluation else set()
    ledger = Ledger(
        files=tuple(
            FileLedger(
                file, read, kept[file], dict(reading.dropped.get(file, {})), ", ".join(reading.formats.get(file, {}))
            )
            for file, read in reading.read.items()
        ),
        repeats=len(train) + len(evaluation) - len(kept_rows),
        leaked=sum(sample.example in trained for sample in evaluation),
        unanswered=sum(formats.ends_unanswered(reading.samples[i].example) for i in kept_rows),
        calls=_calls(reading, kept_rows),
    )
    return Data(train, evaluation, reading.rejected, ledger, reading.sha256)


def _calls(reading: Reading, kept_rows: set[int]) -> dict[str, int]:
    """How many of the kept rows have no call, one or several; nothing where no row is of a format with calls."""
    if not any(calling.is_calling(name) for names in reading.formats.values() for name in names):
        return {}
    chats = [reading.samples[i].example for i in kept_rows]
    counted = Counter(calling.count(chat) for chat in chats if isinstance(chat, Chat))
    return {name: counted[name] for name in calling.COUNTS}
