"""Runs in, everything that is told of them beside each other out, for a terminal, a page or another program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner import errors, runfile
from runner.compare import curves, facts, scores, settings
from runner.compare.runs import Run
from runner.compare.scores import Difference
from runner.hub.card import METRIC_NAMES
from runner.report.evaluation import with_interval
from runner.report.figures import Chart, figure

Row = tuple[str, list[str]]  # a name, and a value for each run


@dataclass(frozen=True)
class Comparison:
    """What differs between runs, and what does not go together."""

    labels: list[str]
    runs: list[dict[str, Any]]  # plain values of each
    facts: list[Row]
    faults: list[tuple[str, str]]  # a run, and what ended it as the terminal said it
    remarks: list[str]  # sentences on what makes them hard to compare, with literals in backticks
    settings: list[tuple[str, list[Any]]]  # those that differ
    setting_rows: list[Row]
    charts: list[Chart]
    scores: list[dict[str, Any]]
    score_rows: list[Row]
    differences: list[Difference]
    unpaired: list[str]  # sentences on runs whose rows cannot be held against those of the first
    notes: list[str] = field(default_factory=list)  # what could not be read


def make(runs: Sequence[Run], price: float | None = None) -> Comparison:
    """Compare runs; `price` is that of a device for an hour."""
    found = [(run.label, runfile.fault(run.state)) for run in runs]
    table, values, differing = scores.table(runs), [facts.of(run, price) for run in runs], settings.differing(runs)
    try:
        differences, unpaired = scores.differences(runs)
    except ModuleNotFoundError as error:
        differences, unpaired = [], [f"differences of single rows need the package `{error.name}`"]
    return Comparison(
        labels=[run.label for run in runs],
        runs=values,
        facts=facts.table(values, price),
        faults=[(label, errors.report(fault)) for label, fault in found if fault is not None],
        remarks=settings.remarks(runs),
        settings=differing,
        setting_rows=[(name, settings.shown(each)) for name, each in differing],
        charts=curves.charts(runs),
        scores=table,
        score_rows=[row for entry in table for row in _rows(entry)],
        differences=differences,
        unpaired=unpaired if table else [],
        notes=[f"{run.label}: {note}" for run in runs for note in run.files.notes],
    )


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as values of JSON, all but its charts."""
    faults = dict(comparison.faults)
    return {
        "runs": [
            {"name": label, **values, "fault": faults.get(label)}
            for label, values in zip(comparison.labels, comparison.runs, strict=True)
        ],
        "remarks": comparison.remarks,
        "settings": [{"name": name, "values": values} for name, values in comparison.settings],
        "scores": comparison.scores,
        "differences": [vars(each) for each in comparison.differences],
        "unpaired": comparison.unpaired,
        "notes": comparison.notes,
    }


def difference_cells(each: Difference) -> tuple[str, ...]:
    """Metric, both runs, difference, interval, verdict and rows, as a person reads them."""
    ends = " to ".join(f"{end:+.3g}" if end else "0" for end in each.interval) if each.interval else "–"
    shown = "–" if each.difference is None else f"{each.difference:+.4g}" if each.difference else "0"
    return _name(each.metric), f"{each.run} less {each.first}", shown, ends, each.verdict, figure(each.rows)


def _rows(entry: Mapping[str, Any]) -> list[Row]:
    """A metric of the trained models, with each one's verdict, and of the base models."""
    of_base = [_cell(each, "base") for each in entry["runs"]]
    return [
        (_name(entry["metric"]), [_cell(each, "adapter", verdict=True) for each in entry["runs"]]),
        *([(f"{_name(entry['metric'])}, base model", of_base)] if any(cell != "–" for cell in of_base) else []),
    ]


def _cell(entry: Mapping[str, Any] | None, which: str, verdict: bool = False) -> str:
    if entry is None or entry[which] is None:
        return "–"
    told = f", {entry['verdict']}" if verdict and entry["verdict"] else ""
    return with_interval(entry[which], entry[f"{which}_interval"]) + told


def _name(metric: str) -> str:
    return METRIC_NAMES.get(metric, metric)
