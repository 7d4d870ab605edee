"""A run or an adapter, and held-out rows, in; an evaluation in a folder of its own out. Light: no torch.

Nothing is trained, and no file of a run is written. The folder is `<run>/evaluations/<name>`, for an adapter from
elsewhere `outputs/evaluations/<adapter>-<name>`; the same evaluation again takes the place of the earlier one, and
another one of the same name gets a number. One that came to no result leaves its name free.

    evaluation.json, samples.jsonl, ledger.json   as those of a run
    evaluating.json                               the adapter, its training step, and the recipe it was scored by
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from runner import (
    evaluation_recipe,
    fetch,
    holding,
    machine,
    planfile,
    rollouts,
    runfile,
    scoring,
    subject,
    supervise,
    workers,
)
from runner.choices import Rows
from runner.data.rows import shown
from runner.errors import OutOfMemory, Place, Problem, RecipeError
from runner.evaluation_recipe import Asked
from runner.machine import Machine
from runner.plan import Plan
from runner.reading.source import Source
from runner.recipe import Recipe
from runner.rewards import confinement
from runner.show import Watcher
from runner.signals import Signals
from runner.subject import Named
from runner.workers import Stage

SETTINGS = "evaluating.json"
RESULTS = ("evaluation.json", "samples.jsonl", "losses.jsonl", rollouts.REWARDS)
OWN_ROWS = "held-out"  # the name of an evaluation on the run's own rows
ELSEWHERE = "name another folder with `--output`"


def run(asked: Asked, watcher: Watcher) -> Path:
    """Score what is asked for; gives the folder of the results.

    Raises UserError for faults of the options, the data and the rewards, and for a stage that failed.
    """
    task = evaluation_recipe.task(asked, subject.is_run(asked.subject))
    with _held_still(asked):
        named = subject.named(asked.subject, asked.base, task)
        here = machine.here()
        recipe = _as_held_here(evaluation_recipe.settle(asked, named), here, watcher)
        settings = _settings(named, recipe)
        directory = _directory(asked, named, settings)
        if not Path(recipe.model.name).exists():
            watcher.say(f"getting {recipe.model.name} from the Hub, unless it is here")
        fetch.model(recipe.model, "with `--base`")
        plan = replace(_plan(recipe, named, here, None), directory=str(directory.resolve()))
        with holding.alone(directory, elsewhere=ELSEWHERE):
            if _read(directory / SETTINGS) != _as_read(settings):
                _forget_results(directory)
            runfile.write(directory / SETTINGS, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
            try:
                _stages(plan, asked, named, here, watcher)
            except OutOfMemory as error:
                hint = "leave long rows out with `--set dataset.max_length=512 --set dataset.overflow=drop`, or use a "
                hint += "device with more memory"
                raise OutOfMemory(Problem(error.problems[0].message, error.problems[0].place, hint)) from error
    return directory


@contextmanager
def _held_still(asked: Asked) -> Iterator[None]:
    """Keep a run as it is while something is written below it. Raises RunError where another process is at work."""
    if asked.output is not None or not subject.is_run(asked.subject):
        yield
        return
    with holding.alone(Path(asked.subject), shared=True, elsewhere=ELSEWHERE):
        yield


def _as_held_here(recipe: Recipe, here: Machine, watcher: Watcher) -> Recipe:
    """The recipe with the base model's weights as this machine can hold them."""
    quantization = recipe.model.quantization
    if quantization == "none" or (here.bitsandbytes and here.devices):
        return recipe
    watcher.say(f"warning: `{quantization}` weights cannot be held here; both models are scored with plain ones")
    return replace(recipe, model=replace(recipe.model, quantization="none"))


def _settings(named: Named, recipe: Recipe) -> dict[str, Any]:
    """What is scored, and by what: two evaluations that agree in this are the same one."""
    state = runfile.read(Path(named.name)) if named.ran else {}
    blocks = ("task", "model", "dataset", "grpo", "rewards", "evaluation")
    return {
        "adapter": named.adapter,
        "step": int((state.get("result") or {}).get("step") or 0),
        "recipe": {name: value for name, value in asdict(recipe).items() if name in blocks},
    }


def _directory(asked: Asked, named: Named, settings: Mapping[str, Any]) -> Path:
    """The folder for the results. Raises RecipeError for one of `--output` that holds something else."""
    if asked.output is not None:
        directory = Path(asked.output)
        if directory.is_dir() and any(directory.iterdir()) and not (directory / SETTINGS).is_file():
            hint = "name a folder that is new or empty, or that of an earlier evaluation, which is replaced"
            message = f"`{asked.output}` holds other files than those of an evaluation"
            raise RecipeError(Problem(message, Place("--output"), hint))
        return directory
    name = _name([_stem(path) for path in asked.data]) if asked.data else OWN_ROWS
    if named.ran:
        above = Path(asked.subject) / "evaluations"
    else:
        above, name = Path("outputs") / "evaluations", f"{_name([_adapter_name(asked.subject)])}-{name}"
    ours = _as_read(settings)
    numbered = (above / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return next(each for each in numbered if not (each / RESULTS[0]).exists() or _read(each / SETTINGS) == ours)


def _as_read(settings: Mapping[str, Any]) -> Any:
    """The settings as JSON gives them back."""
    return json.loads(json.dumps(settings))


def _forget_results(directory: Path) -> None:
    for name in RESULTS:
        (directory / name).unlink(missing_ok=True)


def _stem(path: str) -> str:
    """What the rows of a path are called: the file's name without its type, a directory's or a Hub data set's name."""
    whole = os.path.abspath(os.path.expanduser(path))
    stem = os.path.basename(whole) if os.path.isdir(whole) else os.path.splitext(os.path.basename(whole))[0]
    return stem if re.search(r"\w", stem) else os.path.basename(os.path.dirname(whole))


def _adapter_name(name: str) -> str:
    """The name of a directory or of a repository; `x/adapter`, as runs call theirs, is `x-adapter`."""
    parts = [part for part in os.path.abspath(name).split(os.sep) if part]
    return "-".join(parts[-2:]) if parts[-1:] == ["adapter"] else parts[-1] if parts else "adapter"


def _name(stems: Sequence[str]) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(stems)).strip("._-")[:96] or "rows"


def _plan(recipe: Recipe, named: Named, here: Machine, rows: Rows | None) -> Plan:
    return supervise.settle(recipe, Source(named.name, {}, {}, ()), here, rows)


def _stages(plan: Plan, asked: Asked, named: Named, here: Machine, watcher: Watcher) -> None:
    """Read and encode the rows, and score, each in a process of its own."""
    directory = Path(plan.directory)
    seen: dict[str, Any] = {}
    signals = Signals()
    confinement.protect_from_rewards()

    def note(event: dict[str, Any]) -> None:
        seen[event["event"]] = event
        watcher(event)

    def stage(name: str, settled: Plan) -> None:
        runfile.write(directory / "plan.json", planfile.to_json(settled))
        workers.run(Stage(name, 1, settled.device, directory), signals, note)

    if any(
        each.requirements or each.requirements_file for each in (*plan.recipe.rewards, *plan.recipe.evaluation.rewards)
    ):
        watcher.say("preparing: installing what the rewards require, unless it is there")
        scoring.install(plan.recipe, directory)
    watcher.say("preparing: reading the data, loading the tokenizer")
    stage("hold_out", plan)
    facts = seen["prepared"]
    held_out = facts["evaluation"]
    if not held_out["rows"]:
        hint = "`rejects.jsonl` says why each was left out"
        raise RecipeError(
            Problem(f"no row of {_listed(asked.data)} is left", hint=hint)
            if asked.data
            else evaluation_recipe.no_rows(named)
        )
    for line in _changes(plan.recipe, facts["data"], asked, named):
        watcher.say(f"warning: {line}")
    _forget_results(directory)
    rows = Rows(held_out["rows"], held_out["rows"], held_out["longest"], tuple(facts["lengths"]))
    settled = replace(_plan(plan.recipe, named, here, rows), directory=plan.directory)
    watcher.say("scoring: loading the model")
    stage("score", settled if asked.data else _as_it_ran(settled, named))


def _as_it_ran(settled: Plan, named: Named) -> Plan:
    """The plan with the run's own choices where it ran on such a device: other ones would round otherwise."""
    ran = named.ran
    if ran is None or ran.device_name != settled.device_name:
        return settled
    batch = replace(settled.batch, micro=ran.batch.micro)
    return replace(settled, batch=batch, precision=ran.precision, attention=ran.attention)


def _changes(recipe: Recipe, data: Mapping[str, str], asked: Asked, named: Named) -> Iterator[str]:
    """What is no more as it was when the run was scored."""
    if named.ran is None:
        return
    state = runfile.read(Path(named.name))
    rewards = state.get("rewards") or {}
    for file, digest in scoring.hashes(recipe).items():
        if rewards.get(file, digest) != digest:
            yield f"`{shown(file)}` has changed since the run: answers are scored by it as it is now"
    known = set((state.get("data") or {}).values())
    for file, digest in data.items() if known and not asked.data else ():
        if digest not in known:
            yield f"`{file}` has changed since the run, so its held-out rows may be others"


def _listed(data: Sequence[str]) -> str:
    return ", ".join(f"`{path}`" for path in data)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
