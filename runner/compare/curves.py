"""Runs in, charts out in which each run has its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.compare.runs import Run
from runner.report import curves
from runner.report.figures import Chart, Line, Point, chart
from runner.report.reading import mapping, number

MOST_MEASURES = 24  # of held-out rows that have a chart each

Event = Mapping[str, Any]


def charts(runs: Sequence[Run]) -> list[Chart]:
    """The charts that at least one run has points of, in the order of the page."""
    wanted: list[tuple[str, list[Line], str]] = [
        ("Reward in training", _lines(runs, "step", lambda event: event.get("reward")), "step"),
        ("Loss in training", _lines(runs, "step", lambda event: event.get("loss")), "step"),
        ("Loss on held-out rows", _lines(runs, "evaluation", lambda event: event.get("evaluation_loss")), "step"),
    ]
    names = dict.fromkeys(name for run in runs for event in run.events for name in mapping(event.get("measured")))
    for name in list(names)[:MOST_MEASURES]:
        wanted.append((f"Held-out {name}", _lines(runs, "evaluation", _measure(name)), "step"))
    rewarded = any("reward" in event for run in runs for event in run.events)
    what = "reward" if rewarded else "loss"
    wanted += [
        (
            f"{what.capitalize()} over the time of training",
            [_timed(run, what, place) for place, run in enumerate(runs)],
            "minutes",
        ),
        ("Learning rate", _lines(runs, "step", lambda event: event.get("learning_rate")), "step"),
        ("Gradient norm, before it is clipped", _lines(runs, "step", lambda event: event.get("gradient_norm")), "step"),
        ("Learned tokens a second", _lines(runs, "step", curves.speed), "step"),
        ("Memory of a process, GiB", _lines(runs, "step", curves.memory), "step"),
    ]
    drawn = (chart(title, lines, place, x) for place, (title, lines, x) in enumerate(wanted))
    return [each for each in drawn if each is not None]


def _lines(runs: Sequence[Run], kind: str, value: Callable[[Event], Any]) -> list[Line]:
    return [
        Line(run.label, curves.points([event for event in run.events if event["event"] == kind], value), (),
             kind == "evaluation", place)
        for place, run in enumerate(runs)
    ]  # fmt: skip


def _timed(run: Run, what: str, place: int) -> Line:
    """A value over the minutes that the steps until then have taken."""
    minutes, found = 0.0, list[Point]()
    for event in run.events:
        if event["event"] != "step":
            continue
        minutes += (number(event.get("elapsed")) or 0.0) / 60
        if (value := number(event.get(what))) is not None:
            found.append((minutes, value))
    return Line(run.label, found, look=place)


def _measure(name: str) -> Callable[[Event], Any]:
    return lambda event: mapping(event.get("measured")).get(name)
