"""Held-out rows alone, for an evaluation that trains nothing: settings of a recipe's data in, checked samples out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from runner import recipe
from runner.data import dataset, formats
from runner.data.calling import formats as calling
from runner.data.dataset import Data, Ledger, Sample
from runner.data.examples import Chat


def read(settings: recipe.Dataset, seed: int) -> Data:
    """The held-out samples that training by these settings would leave. Raises DataError as `dataset.read` does.

    Without sources to train on, all rows of `settings.evaluation` are held out, whatever `split` they say.
    """
    data = dataset.read(settings, seed, follow_split=bool(settings.train))
    return replace(data, train=[], ledger=_ledger(data))


def _ledger(data: Data) -> Ledger:
    """The ledger of the held-out rows, in which rows that are trained on are dropped."""
    each = {(sample.place.file, sample.place.line): sample for sample in data.evaluation}
    kept = Counter(file for file, _ in each)
    files = []
    for file in data.ledger.files:
        trained = file.kept - kept[file.file]
        dropped = file.dropped | ({dataset.TRAINED_ON: trained} if trained else {})
        files.append(replace(file, kept=kept[file.file], dropped=dropped))
    return replace(
        data.ledger,
        files=tuple(files),
        repeats=len(data.evaluation) - len(each),
        unanswered=sum(formats.ends_unanswered(sample.example) for sample in each.values()),
        calls=_calls(list(each.values())) if data.ledger.calls else {},
    )


def _calls(samples: list[Sample]) -> dict[str, int]:
    counted = Counter(calling.count(sample.example) for sample in samples if isinstance(sample.example, Chat))
    return {name: counted[name] for name in calling.COUNTS}
