"""Runs in, their scores beside each other out; and how far they differ where they answered the same held-out questions.

That difference is of the same rows (`intervals.py`), and tells far less from noise than two intervals side by side do.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.compare.runs import Run
from runner.errors import listed
from runner.report import evaluation
from runner.report.reading import mapping, number
from runner.scores.metrics import BY_LOSS, BY_REWARDS

SEED = 0  # of the bootstrap, so that the same runs give the same figures

KINDS = {"losses": "held-out rows", "answers": "held-out questions"}
NO_SCORE = (0.0, 0.0)

Part = tuple[float, float]  # amount and weight of a row, as `intervals.py` has them


@dataclass(frozen=True)
class Difference:
    """A metric of a run less that of the first one, over the rows that both have answered."""

    metric: str
    run: str
    first: str
    difference: float | None
    interval: tuple[float, float] | None
    verdict: str  # better | worse | within noise | too few rows: what the run is beside the first
    rows: int


def table(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each metric that a run has: `base` and `adapter` of each run, with interval, verdict and rows, or None."""
    names = dict.fromkeys(name for run in runs for name in mapping(run.scored.get("metrics")))
    return [{"metric": name, "runs": [_of(run, name) for run in runs]} for name in names]


def _of(run: Run, metric: str) -> dict[str, Any] | None:
    entry = mapping(mapping(run.scored.get("metrics")).get(metric))
    if not entry:
        return None
    verdict = entry.get("verdict")
    return {
        "adapter": number(entry.get("adapter")),
        "adapter_interval": evaluation.interval(entry.get("adapter_interval")),
        "base": number(entry.get("base")),
        "base_interval": evaluation.interval(entry.get("base_interval")),
        "verdict": verdict if verdict in evaluation.VERDICTS else None,
        "rows": number(entry.get("rows")),
    }


def differences(runs: Sequence[Run]) -> tuple[list[Difference], list[str]]:
    """Each run against the first, and sentences on what cannot be held against it row by row."""
    from runner import intervals  # which needs numpy

    found: list[Difference] = []
    said: list[str] = []
    first, before = runs[0], _rows(runs[0])
    for run in runs[1:]:
        after = _rows(run)
        measured = {}
        for kind, what in KINDS.items():
            ours, others, names = after[kind], before[kind], _names(run, first, kind)
            both = [key for key in others if key in ours]
            for name in names if both else ():
                measured[name] = intervals.Measured(
                    [ours[key].get(name, NO_SCORE) for key in both], [others[key].get(name, NO_SCORE) for key in both]
                )
            if names and not (ours and others):
                missing = " and ".join(f"`{each.label}`" for each, rows in ((run, ours), (first, others)) if not rows)
                said.append(f"{listed(names)}: {missing} kept no scores of single {what}, so no difference is told")
            elif names and len(both) < max(len(ours), len(others)):
                many = f"{len(both)} {what} in common, of {len(ours)} and {len(others)}"
                said.append(f"{listed(names)}: `{run.label}` and `{first.label}` have {many}")
        found += _told(run, first, intervals.compare(measured, SEED) if measured else {})
        if other_rewards := [
            name for name in _shared(run, first) if not any(name in _names(run, first, kind) for kind in KINDS)
        ]:
            said.append(f"{listed(other_rewards)}: `{run.label}` and `{first.label}` were scored by different rewards")
    return found, said


def _told(run: Run, first: Run, found: Mapping[str, Mapping[str, Any]]) -> Iterator[Difference]:
    for name, entry in found.items():
        interval = evaluation.interval(entry["difference_interval"])
        verdict = entry["verdict"] or "too few rows"
        yield Difference(name, run.label, first.label, number(entry["difference"]), interval, verdict, entry["rows"])


def _shared(run: Run, first: Run) -> list[str]:
    return [name for name in mapping(first.scored.get("metrics")) if name in mapping(run.scored.get("metrics"))]


def _names(run: Run, first: Run, kind: str) -> list[str]:
    """The metrics of a kind that both runs have, and that mean the same for both."""
    metrics = _shared(run, first)
    if kind == "losses":
        return [name for name in metrics if name in BY_LOSS]
    same = _same_rewards(run, first)
    return [name for name in metrics if name not in BY_LOSS and (same or name.split("/")[0] != BY_REWARDS)]


def _rows(run: Run) -> dict[str, dict[str, dict[str, Part]]]:
    """The adapter's score of each held-out row by a digest of the row: its loss, and the scores of its answer."""
    losses, answers = [], []
    for line in run.files.lines("losses.jsonl"):
        loss, tokens = number(line.get("adapter")), number(line.get("tokens"))
        if loss is not None and tokens is not None:
            losses.append((str(line.get("row")), dict.fromkeys(BY_LOSS, (loss, tokens))))
    for sample in run.files.lines("samples.jsonl"):
        scores = sample.get("adapter_scores")
        if isinstance(scores, dict):
            asked = json.dumps([sample.get("prompt"), sample.get("answer"), sample.get("calls")], sort_keys=True)
            values = {name: (score, 1.0) for name, value in scores.items() if (score := number(value)) is not None}
            answers.append((asked, values))
    return {"losses": _numbered(losses), "answers": _numbered(answers)}


def _numbered(rows: Sequence[tuple[str, dict[str, Part]]]) -> dict[str, dict[str, Part]]:
    """The same by a digest of each, and the how-manieth of those that are alike it is."""
    found, times = {}, Counter[str]()
    for row, scores in rows:
        digest = hashlib.sha256(row.encode("utf-8", "replace")).hexdigest()
        found[f"{digest}-{times[digest]}"] = scores
        times[digest] += 1
    return found


def _same_rewards(one: Run, other: Run) -> bool:
    """Whether both runs were scored by the same functions, with the same weights and options."""

    def told(run: Run) -> tuple[Any, ...]:
        settings = (run.recipe.get("rewards"), mapping(run.recipe.get("evaluation")).get("rewards"))
        kept = [
            {key: value for key, value in mapping(reward).items() if key != "file"}
            for rewards in settings
            for reward in (rewards if isinstance(rewards, list) else [])
        ]
        return (kept, run.state.get("rewards"))

    return told(one) == told(other)
