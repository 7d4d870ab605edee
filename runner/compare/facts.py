"""Runs in, how fast each was, what it took, and what it has cost, out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.compare.runs import Run
from runner.report import ends
from runner.report.curves import GIB
from runner.report.figures import figure
from runner.report.reading import mapping, number


def of(run: Run, price: float | None) -> dict[str, Any]:
    """Plain values of a run, None where something is not known; `price` is that of a device for an hour."""
    steps = [event for event in run.events if event["event"] == "step"]
    learned, spent, elapsed = (_sum(steps, key) for key in ("learned_tokens", "seconds", "elapsed"))
    memory = [value for event in steps if (value := number(event.get("memory"))) is not None]
    last = steps[-1]["step"] if steps else None
    return {
        "directory": str(run.files.directory),
        "status": run.state.get("status"),
        "exit_code": run.state.get("exit_code"),
        "task": run.recipe.get("task"),
        "started": run.state.get("started"),
        "device": ends.device(run.plan),
        "step": last,
        "steps": mapping(run.plan.get("steps")).get("total"),
        "trained_weights": number(run.plan.get("trainable")),
        "learned_tokens_a_second": learned / spent if learned and spent else None,
        "seconds_a_step": elapsed / last if elapsed and last and last > 0 else None,
        "memory_bytes": max(memory, default=None),
        "seconds": ends.seconds(run.state, run.events),
        "cost": ends.cost(run.state, run.plan, run.events, price),
    }


def table(found: Sequence[Mapping[str, Any]], price: float | None) -> list[tuple[str, list[str]]]:
    """Name of each fact that is known of a run, and what a person reads of it for each."""
    rows = [(name, [_text(value(each)) for each in found]) for name, value in _shown(price).items()]
    return [(name, values) for name, values in rows if any(value != "–" for value in values)]


def _shown(price: float | None) -> dict[str, Callable[[Mapping[str, Any]], Any]]:
    def stage(name: str) -> Callable[[Mapping[str, Any]], Any]:
        return lambda each: _minutes(each["seconds"].get(name))

    return {
        "state": lambda each: ends.status(each),
        "task": lambda each: each["task"],
        "started": lambda each: ends.moment(each["started"]),
        "device": lambda each: each["device"],
        "step": lambda each: each["step"] if each["steps"] is None else f"{each['step'] or 0} of {each['steps']}",
        "trained weights": lambda each: each["trained_weights"],
        "learned tokens a second": lambda each: each["learned_tokens_a_second"],
        "seconds a step": lambda each: each["seconds_a_step"],
        "memory of a process, GiB": lambda each: each["memory_bytes"] and each["memory_bytes"] / GIB,
        "minutes of preparation": stage("prepare"),
        "minutes of training": stage("train"),
        "minutes of evaluation": stage("evaluate"),
        "minutes in all": lambda each: _minutes(sum(each["seconds"].values())) if each["seconds"] else None,
        f"cost at {price} an hour": lambda each: None if each["cost"] is None else f"{each['cost']:.2f}",
    }


def _sum(events: Sequence[Mapping[str, Any]], key: str) -> float:
    return sum(value for event in events if (value := number(event.get(key))) is not None)


def _minutes(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds / 60:.1f}"


def _text(value: Any) -> str:
    return figure(number(value)) if value is None or number(value) is not None else str(value)
