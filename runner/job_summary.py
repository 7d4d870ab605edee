"""How a run ended in, Markdown for the summary page of a GitHub job out: state, scores, curve, faults, places.

It is built from what the run left in its directory, and from the fault that ended it. What stands in it of a model,
a recipe or a path is HTML text, of which no character is Markdown, and holds no secret.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import errors, runfile
from runner.errors import (
    DONE,
    FAILED,
    INTERRUPTED,
    NOT_PUSHED,
    OUT_OF_MEMORY,
    WRONG_INPUT,
    Problem,
    RunError,
    UserError,
    printable,
)
from runner.hub.card import METRIC_NAMES
from runner.report.reading import Files, mapping, number, short
from runner.secrets import cleaned, redact

VARIABLE = "GITHUB_STEP_SUMMARY"  # holds the file that GitHub shows
MOST_BYTES = 1024**2  # that GitHub takes of one step; with one byte more it shows none of it
MOST_POINTS = 40  # of a curve
MOST_ROWS = 60  # of a table
MOST_FAULTS = 20
LONGEST_NAME, LONGEST_FAULT = 200, 2000  # characters

# Exit code -> heading, and what to do now.
ENDS = {
    DONE: ("trained", ""),
    FAILED: ("not trained", "The last lines of the files in `logs` tell more."),
    WRONG_INPUT: ("not trained: the recipe or the data is wrong", "Correct what is named above, and run it again."),
    NOT_PUSHED: (
        "trained, not pushed",
        "The adapter is safe on the disk. Once the reason above is gone, run the job again: it pushes and does not "
        "train. `tunesmith push` with the run's directory does the same by hand.",
    ),
    OUT_OF_MEMORY: (
        "out of memory",
        "`tunesmith plan` says what takes it.",
    ),
    INTERRUPTED: (
        "interrupted, with a checkpoint saved",
        "Run the job again on the same machine: it goes on from that checkpoint.",
    ),
}
PLACES = {
    "report.html": "all of it on one page, for a browser",
    "adapter": "the adapter, with tokenizer and model card",
    "metrics.jsonl": "every logged step",
    "evaluation.json": "the scores",
    "samples.jsonl": "held-out questions with both answers",
    "completions.jsonl": "every completion that was sampled, with its scores",
    "ledger.json": "what became of every row",
    "logs": "what the libraries printed",
}


def write(directory: Path | None, fault: UserError | None, environment: Mapping[str, str]) -> None:
    """Append the summary to the file that `GITHUB_STEP_SUMMARY` names; nothing where it names none.

    `directory` is the run's, or None where the recipe could not be read. Raises RunError where the file cannot be
    written and nothing else went wrong.
    """
    name = environment.get(VARIABLE)
    if not name:
        return
    path = Path(name)
    try:
        room = MOST_BYTES - (path.stat().st_size if path.exists() else 0)
        text = render(directory, fault, environment)
        if len(text.encode()) > room:
            text = render(None, fault, environment)
        if len(text.encode()) <= room:
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        if fault is None:
            hint = "the run itself is done; the variable has to name a file that this user may write to"
            raise RunError(
                Problem(f"cannot write to the `{name}` of `{VARIABLE}`: {error.strerror}", hint=hint)
            ) from error


def render(directory: Path | None, fault: UserError | None, environment: Mapping[str, str]) -> str:
    """The summary as Markdown, far below GitHub's limit whatever the run's files hold."""
    code = DONE if fault is None else fault.exit_code
    state = {} if directory is None else cleaned(runfile.read(directory), environment)
    # what lies there may be of another run: one that has the name, or that still goes on
    ours = directory is not None and (fault is None or state.get("exit_code") == code)
    heading, advice = ENDS.get(code, ENDS[FAILED])
    title = _name(state.get("name") or directory.name) if directory is not None and ours else "Tunesmith"
    parts = [f"## {title}: {heading}"]
    if directory is not None and ours:
        files = Files(directory, environment)
        events, evaluation = list(files.events()), files.object("evaluation.json")
        parts += [_facts(state, events), *_faults(fault, environment), advice]
        parts += [
            *_scores(evaluation),
            *_curve(events),
            *_rewards(events, environment),
            *_held_out(events, environment),
        ]
        parts += _places(directory, state, environment)
    else:
        parts += [*_faults(fault, environment), advice]
    return "\n\n".join(part for part in parts if part) + "\n\n"


def _facts(state: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> str:
    recipe, model = mapping(state.get("recipe")), mapping(state.get("model"))
    seconds = [value for value in map(number, mapping(state.get("timings")).values()) if value is not None]
    steps = [event["step"] for event in events if event["event"] == "step"]
    facts = [
        f"task {_name(recipe['task'])}" if recipe.get("task") else "",
        f"base model {_name(model['name'])}" if model.get("name") else "",
        f"step {steps[-1]}" if steps else "",
        f"{sum(seconds) / 60:.1f} minutes" if seconds else "",
    ]
    return " · ".join(fact for fact in facts if fact)


def _faults(fault: UserError | None, environment: Mapping[str, str]) -> list[str]:
    if fault is None:
        return []
    shown = [
        html.escape(short(redact(errors.as_text(problem), environment), LONGEST_FAULT), quote=False)
        for problem in fault.problems[:MOST_FAULTS]
    ]
    more = fault.total - len(shown)
    return ["<pre>" + "\n\n".join(shown) + "</pre>", f"{more} more were found." if more > 0 else ""]


def _scores(evaluation: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, entry in mapping(evaluation.get("metrics")).items():
        entry = mapping(entry)
        both = [_with_interval(entry.get(which), entry.get(f"{which}_interval")) for which in ("base", "adapter")]
        spread = _interval(entry.get("difference_interval"), signed=True)
        verdict = _plain(entry.get("verdict") or "not told")
        rows.append((_name(METRIC_NAMES.get(name, name)), *both, spread, verdict, _figure(entry.get("rows"))))
    head = ("metric", "base model", "adapter", "difference, 95 %", "adapter is", "rows")
    if not rows:
        return []
    return ["### Base model and adapter, on held-out rows", _table(head, rows, "lrrrlr")]


def _curve(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """The loss by step, or the mean reward, as a chart of Mermaid; where there are two points of it."""
    steps = [event for event in events if event["event"] == "step"]
    what = "reward" if any("reward" in event for event in steps) else "loss"
    measured = [(event["step"], value) for event in steps if (value := number(event.get(what))) is not None]
    values = _thinned(measured)
    if len(values) < 2:
        return []
    low, high = min(values), max(values)
    room = (high - low) / 20 or max(abs(high) / 20, 0.01)
    chart = [
        "```mermaid",
        "xychart-beta",
        f'    x-axis "step" {measured[0][0]} --> {measured[-1][0]}',
        f'    y-axis "{what}" {_decimal(low - room)} --> {_decimal(high + room)}',
        f"    line [{', '.join(map(_decimal, values))}]",
        "```",
    ]
    return [f"### {what.capitalize()} in training", "\n".join(chart)]


def _thinned(measured: Sequence[tuple[int, float]]) -> list[float]:
    """The values of steps as evenly spaced means, since a chart spaces its points so. Steps rise."""
    if len(measured) < 2 or measured[0][0] == measured[-1][0]:
        return [value for _, value in measured]
    first, last = measured[0][0], measured[-1][0]
    count = min(MOST_POINTS, len(measured))
    buckets: list[list[float]] = [[] for _ in range(count)]
    for step, value in measured:
        place = (step - first) * count // (last - first)
        buckets[max(0, min(place, count - 1))].append(value)
    means: list[float] = []
    for bucket in buckets:  # the first holds the first step
        means.append(math.fsum(value / len(bucket) for value in bucket) if bucket else means[-1])
    return means


def _rewards(events: Sequence[Mapping[str, Any]], environment: Mapping[str, str]) -> list[str]:
    """The mean of each reward when training began and when it ended."""
    steps = [rewards for event in events if (rewards := mapping(event.get("rewards")))]
    if not steps:
        return []
    names = list(steps[-1])
    rows = [
        (
            _name(redact(name, environment)),
            *(_figure(mapping(rewards.get(name)).get("mean")) for rewards in (steps[0], steps[-1])),
        )
        for name in names
    ]
    return ["### Rewards in training", _table(("reward", "first mean", "last mean"), rows, "lrr")]


def _held_out(events: Sequence[Mapping[str, Any]], environment: Mapping[str, str]) -> list[str]:
    found = [
        (event["step"], {"loss": event.get("evaluation_loss"), **mapping(event.get("measured"))})
        for event in events
        if event["event"] == "evaluation"
    ]
    names = list(dict.fromkeys(name for _, each in found for name, value in each.items() if value is not None))
    stride = math.ceil(len(found) / 12) or 1
    kept = found[::-1][::stride][::-1]  # the last one always
    rows = [(str(step), *(_figure(each.get(name)) for name in names)) for step, each in kept]
    head = ("step", *(_name(redact(name, environment)) for name in names))
    return ["### Held-out rows in training", _table(head, rows, "r" * len(head))] if rows else []


def _places(directory: Path, state: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    rows = [
        (_name(redact(str(directory / name), environment)), what)
        for name, what in PLACES.items()
        if (directory / name).exists()
    ]
    url = mapping(state.get("hub")).get("url")
    if isinstance(url, str) and state.get("status") == "done":
        rows.insert(0, (_name(url), "the adapter on the Hub"))
    return ["### Where things are", _table(("place", "what"), rows, "ll")] if rows else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], justify: str) -> str:
    """A table of cells that are Markdown already, at most `MOST_ROWS` of them; `justify` has `l` or `r` a column."""
    rule = ["---:" if side == "r" else "---" for side in justify]
    kept = list(rows)
    left_out = [[f"and {len(kept) - MOST_ROWS} more", *[""] * (len(head) - 1)]] if len(kept) > MOST_ROWS else []
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *kept[:MOST_ROWS], *left_out])


def _name(text: Any) -> str:
    return f"<code>{_plain(text)}</code>"


def _plain(text: Any) -> str:
    """Text on one line, every character of which but letters, digits and spaces is written as a reference.

    A reference is never Markdown or HTML, by CommonMark 0.31, section 2.5, and so no table, link, mention or tag.
    """
    flat = short(printable(" ".join(str(text).split())), LONGEST_NAME) or "–"
    return re.sub(r"[^A-Za-z0-9 –…]", lambda match: f"&#{ord(match.group())};", flat)


def _figure(value: Any) -> str:
    return "–" if isinstance(value, bool) or not isinstance(value, int | float) else f"{value:.4g}"


def _interval(ends: Any, signed: bool = False) -> str:
    if not isinstance(ends, list) or len(ends) != 2 or any(_figure(end) == "–" for end in ends):
        return "–"
    return " to ".join(f"{end:+.3g}" if signed and end else f"{end:.3g}" for end in ends)


def _with_interval(value: Any, ends: Any) -> str:
    spread = _interval(ends)
    return _figure(value) if spread == "–" else f"{_figure(value)} ({spread})"


def _decimal(value: float) -> str:
    """A number without an exponent, which Mermaid does not read."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
