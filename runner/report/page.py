"""A run's directory in, `report.html` out: one file that loads nothing, of whatever the run has left so far.

A part that cannot be made is left out, and the
page says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runner import checkpoint, runfile
from runner.errors import RecipeError
from runner.report import completions, curves, data, ends, evaluation, html, recipe
from runner.report.reading import Files, is_run, mapping, no_run, number

NAME = "report.html"
MOST_HASHES = 100


def write(
    directory: Path, environment: Mapping[str, str], path: Path | None = None, price: float | None = None
) -> Path:
    """Write the page of the run in `directory`, by default into it, and give its path.

    `price` is that of a device for an hour, from which the page tells what the run has cost. Secrets are those of
    `environment`. Raises RecipeError where there is no run, and RunError where the page cannot be written.
    """
    if not is_run(directory):
        raise no_run(directory)
    target = directory / NAME if path is None else path
    html.write(target, render(directory, environment, price), resolved=path is not None)
    return target


def attempt(directory: Path, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Write the page at the end of a run, which it cannot fail: what goes wrong is said in a line."""
    try:
        write(directory, environment)
    except RecipeError:  # the run ended before it began
        return
    except Exception as error:  # whatever it is, it is no reason to lose a run
        say(f"warning: `{NAME}` is not written: {error}")


def render(
    directory: Path, environment: Mapping[str, str], price: float | None = None, at_work: bool | None = None
) -> str:
    """The page as HTML, far below a browser's limits whatever the run's files hold.

    With `at_work`, whether a process has the run now, it is a page that asks its server for a newer one.
    """
    files = Files(directory, environment)

    def part(name: str, make: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return make()
        except Exception as error:  # files of another make, or changed by hand
            files.notes.append(f"{name} cannot be shown: {type(error).__name__}")
            return otherwise

    state, plan, scored = (files.object(name) for name in (runfile.NAME, "plan.json", "evaluation.json"))
    events = part("what was logged", lambda: list(files.events()), [])
    saved = [int(path.name.removeprefix("step-")) for path in checkpoint.all_of(directory / "checkpoints")]
    settled = mapping(state.get("recipe")) or mapping(plan.get("recipe"))
    written = files.text("recipe.yaml")
    sampled = part("the completions", lambda: completions.read(files), None)
    page: str = html.template("page.html.jinja", files.environment).render(
        name=str(state.get("name") or settled.get("name") or directory.name),
        status=part("the state", lambda: ends.status(state), ""),
        sentence=part("the state", lambda: ends.sentence(state, scored, directory, at_work), ""),
        fault=part("what ended the run", lambda: ends.fault(state), ""),
        facts=part("the facts", lambda: ends.facts(state, plan, events, saved, price), []),
        url=_url(state),
        charts=part("the charts", lambda: curves.charts(events, plan), []),
        warnings=part("the warnings", lambda: curves.warnings(events), []),
        scores=part("the scores", lambda: evaluation.scores(scored), []),
        not_measured=[str(name) for name in _list(scored.get("not_measured"))],
        open_samples=evaluation.OPEN_SAMPLES,
        samples=part("the samples", lambda: evaluation.samples(files), ([], 0)),
        ledger=part(
            "the ledger", lambda: data.ledger(ledger) if (ledger := files.object("ledger.json")) else None, None
        ),
        rejects=part("rows that were left out", lambda: data.rejects(files), ([], 0)),
        lengths=part("the lengths of rows", lambda: data.lengths(plan), None),
        completions=sampled,
        completions_json=html.as_json(sampled.data) if sampled else "",
        said=part("what the rewards said", lambda: completions.said(files), ([], 0)),
        recipe=written,
        overrides=[str(each) for each in _list(state.get("overrides"))],
        settings=part("the settings", lambda: recipe.settings(settled, written), []),
        choices=part("the plan", lambda: recipe.choices(plan), []),
        tables=part("versions and hashes", lambda: _tables(state), []),
        notes=files.notes,  # last: what the parts above have noted
        live=at_work is not None,
        **html.own(("page.css",), script="page.js", live_script="live.js"),
    )
    return page


def _tables(state: Mapping[str, Any]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Caption, head and rows of what tells how the run could be made again."""
    result = mapping(state.get("result"))
    found = [
        ("Versions", "package", list(mapping(state.get("versions")).items())),
        ("Seconds of each stage", "stage", list(mapping(state.get("timings")).items())),
        ("Hashes of the data, SHA-256", "file", list(mapping(state.get("data")).items())[:MOST_HASHES]),
        ("Hashes of the rewards, SHA-256", "reward", list(mapping(state.get("rewards")).items())),
        (
            "The adapter, read back with PEFT",
            "measured",
            [
                (name, result[key])
                for name, key in (("step", "step"), ("loss", "loss"), ("loss in training", "training_loss"))
                if number(result.get(key)) is not None
            ],
        ),
        (
            "Where it comes from",
            "what",
            [
                (name, value)
                for name, value in (
                    ("base model", mapping(state.get("model")).get("name")),
                    ("revision of the base model", mapping(state.get("model")).get("revision")),
                    ("git commit of the recipe", state.get("commit")),
                    ("Hub", json.dumps(mapping(state.get("hub")), ensure_ascii=False) if state.get("hub") else None),
                )
                if value is not None
            ],
        ),
    ]
    return [(title, head, [(str(name), str(value)) for name, value in rows]) for title, head, rows in found if rows]


def _url(state: Mapping[str, Any]) -> str:
    """Where the adapter is on the Hub; a link leads nowhere else."""
    url = mapping(state.get("hub")).get("url")
    return url if isinstance(url, str) and url.startswith("https://") and state.get("status") == "done" else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
