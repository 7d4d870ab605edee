"""The state of a run in, one sentence out: how it stands, and what to do next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from runner import errors, runfile
from runner.errors import OUT_OF_MEMORY, WRONG_INPUT
from runner.hub.card import METRIC_NAMES
from runner.report.reading import mapping, number

GOING_ON = ("preparing", "training", "evaluating", "pushing")
TRAINED = ("done", "not_pushed", "pushing")
WORDS = {
    "done": "trained",
    "not_pushed": "trained, not pushed",
    "interrupted": "interrupted",
    "failed": "failed",
    "preparing": "preparing",
    "training": "training",
    "evaluating": "evaluating",
    "pushing": "pushing",
}
LOGS = "the last lines of the files in `logs` tell more, and the same command goes on or starts again"


def status(state: Mapping[str, Any]) -> str:
    """The state in a word or two."""
    return WORDS.get(str(state.get("status")), "not known")


def sentence(
    state: Mapping[str, Any], evaluation: Mapping[str, Any], directory: Path, at_work: bool | None = None
) -> str:
    """How the run stands and what to do next, with commands in backticks. `at_work` is whether a process has it now."""
    now, place = state.get("status"), shlex.quote(str(directory))
    if now == "done":
        told = _verdict(mapping(evaluation.get("metrics")))
        return f'The adapter is trained{told}; ask it beside its base model with `tunesmith generate {place} "…"`.'
    if now == "not_pushed":
        return f"The adapter is safe on the disk and not on the Hub; `tunesmith push {place}` tries again."
    if now == "interrupted":
        return "The run was interrupted with a checkpoint saved; the same command goes on from there."
    if now == "failed":
        return (
            f"The run {'ran out of memory' if state.get('exit_code') == OUT_OF_MEMORY else 'failed'}; {_advice(state)}."
        )
    if at_work and (now in GOING_ON or now is None):
        return f"The run is {now or 'about to begin'}; this page follows it."
    if at_work is False and now in GOING_ON:
        return f"The run was {now}, and no process is at work on it any more: the same command as before goes on."
    if at_work is False and now is None:
        return f"There is no run in `{place}` yet; this page waits for it."
    if now in GOING_ON:
        return (
            f"The run was {now} when this page was written: `tunesmith report {place}` writes it anew, and where no "
            "process is left the same command as before goes on."
        )
    return f"How the run stands is not told by `run.json`; `tunesmith report {place}` writes this page anew."


def fault(state: Mapping[str, Any]) -> str:
    """What ended the run, as the terminal said it; nothing where nothing did."""
    found = runfile.fault(state)
    return errors.report(found) if found else ""


def facts(
    state: Mapping[str, Any],
    plan: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    saved: Sequence[int] = (),
    price: float | None = None,
) -> list[tuple[str, str]]:
    """A few names and numbers that say which run this is.

    `saved` are the steps of its checkpoints, `price` is that of a device for an hour.
    """
    recipe, model = mapping(state.get("recipe")), mapping(state.get("model"))
    steps = [event["step"] for event in events if event["event"] == "step"]
    taken = seconds(state, events).values()
    total = mapping(plan.get("steps")).get("total")
    spent = cost(state, plan, events, price)
    found = [
        ("task", recipe.get("task")),
        ("base model", short_name(model.get("name"))),
        ("adapter", _adapter(mapping(recipe.get("adapter")))),
        ("step", f"{steps[-1]} of {total}" if steps and total is not None else steps[-1] if steps else None),
        ("newest checkpoint", f"step {max(saved)}" if saved and state.get("status") not in TRAINED else None),
        ("device", device(plan)),
        ("time", f"{sum(taken) / 60:.1f} minutes" if taken else None),
        ("cost", None if spent is None else f"{spent:.2f} at {price:g} an hour"),
        ("started", moment(state.get("started"))),
        ("last changed", moment(state.get("updated"))),
    ]
    return [(name, str(value)) for name, value in found if value is not None]


def _advice(state: Mapping[str, Any]) -> str:
    found = runfile.fault(state)
    if state.get("exit_code") == WRONG_INPUT:
        return "correct what is named below, and run it again"
    if found and any(problem.hint for problem in found.problems):
        return "what to do about it is said below, and the same command goes on or starts again"
    return LOGS


def short_name(name: Any) -> str | None:
    """A model's Hub id, or the last name of its path."""
    return None if name is None else PurePath(str(name)).name if str(name).startswith("/") else str(name)


def moment(text: Any) -> str | None:
    """A time of `run.json` as a person reads it."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\dZ", str(text))
    return f"{found[1]} {found[2]} UTC" if found else str(text)


def _adapter(settings: Mapping[str, Any]) -> str | None:
    if settings.get("type") == "full":
        return "none: all weights"
    return None if settings.get("type") is None else f"{settings['type']}, rank {settings.get('rank')}"


def seconds(state: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How long each stage took; of a training that goes on or was killed, what its steps took until now."""
    found = {name: value for name, text in mapping(state.get("timings")).items() if (value := number(text)) is not None}
    elapsed = sum(number(event.get("elapsed")) or 0.0 for event in events if event["event"] == "step")
    return found | ({"train": max(elapsed, found.get("train", 0.0))} if elapsed else {})


def cost(
    state: Mapping[str, Any], plan: Mapping[str, Any], events: Sequence[Mapping[str, Any]], price: float | None
) -> float | None:
    """What a run has cost until now at this price of a device, or of a machine without any, for an hour.

    All devices are paid for in every stage, also where one of them works.
    """
    taken = seconds(state, events).values()
    if price is None or not taken:
        return None
    devices = number(plan.get("nodes" if plan.get("device") == "cpu" else "processes")) or 1.0
    return sum(taken) / 3600 * devices * price


def device(plan: Mapping[str, Any]) -> str | None:
    """The devices of a run by name and number, where they are known."""
    name, processes = plan.get("device_name"), plan.get("processes")
    return None if name is None else f"{processes} × {name}" if processes not in (None, 1) else str(name)


def _verdict(metrics: Mapping[str, Any]) -> str:
    """What the held-out rows say, in a few words."""
    told: dict[str, list[str]] = {}
    for name, entry in metrics.items():
        verdict = mapping(entry).get("verdict")
        if verdict in ("better", "worse", "within noise"):
            told.setdefault(verdict, []).append(METRIC_NAMES.get(name, str(name)))
    words = {"better": "better than its base model in", "worse": "worse in", "within noise": "within noise in"}
    found = [f"{words[verdict]} {', '.join(told[verdict])}" for verdict in words if verdict in told]
    return f" and on held-out rows {', '.join(found)}" if found else ""
