"""One run from its recipe to its adapter: settle, check, start the workers, watch, push, and say how it ended.

This process never imports torch. What it knows of a run is in the output directory, so that the same command after any
end goes on from there, or says that nothing is left to do.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import runner
from runner import (
    architecture,
    checkpoint,
    continued,
    errors,
    fetch,
    image,
    machine,
    microbatch,
    planfile,
    runfile,
    scoring,
    sharding,
    trackers,
    workers,
)
from runner import plan as plans
from runner.choices import Conflict, Rows, max_length
from runner.data import dataset, documents
from runner.data.examples import Document, Example, Instruction, Question
from runner.doctor import examination, finding, needs
from runner.errors import (
    DONE,
    Interrupted,
    Place,
    Problem,
    PushError,
    RecipeError,
    RunError,
    UserError,
    listed,
)
from runner.hub import repository, result_card
from runner.plan import Plan
from runner.reading.source import Source, closest
from runner.recipe import Hub, Recipe
from runner.rewards import confinement
from runner.show import Watcher
from runner.workers import Signals, Stage

CHARACTERS_A_TOKEN = 3.0  # before the tokenizer has been loaded; English has about four
TEMPLATE_TOKENS = 32  # that a chat template adds to a row, where nobody has counted them yet
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
TRAINED = ("done", "pushing", "not_pushed")  # what `run.json` says of a run that only has to be pushed, if anything
PACKAGES = ("torch", "transformers", "trl", "peft", "deepspeed", "accelerate", "datasets", "huggingface-hub")


def settle(recipe: Recipe, places: Source, where: machine.Machine, rows: Rows | None) -> Plan:
    """The plan for a recipe on a machine. Raises RecipeError, with its place, for what cannot be done there."""
    try:
        shape = architecture.read(recipe.model.name, recipe.model.revision)
    except architecture.UnreadableModel as error:
        raise RecipeError(Problem(str(error), _place(places, ("model", "name")))) from error
    try:
        recipe = replace(recipe, adapter=continued.settings(recipe.adapter))
        sharding.check(recipe.deepspeed.config)
        return plans.make(recipe, where, shape, rows)
    except Conflict as conflict:
        raise RecipeError(Problem(conflict.message, _place(places, conflict.path), conflict.hint)) from conflict


def guess_rows(recipe: Recipe) -> Rows:
    """How many rows the data has, and a cautious guess at the tokens of the longest. Raises DataError."""
    if recipe.task == "continued_pretraining":
        return _guess_rows_of_text(recipe)
    data = dataset.read(recipe.dataset, recipe.training.seed)
    lengths = [_guessed_tokens(sample.example) for sample in data.train]
    longest = max((*lengths, *(_guessed_tokens(sample.example) for sample in data.evaluation)), default=0)
    return Rows(len(data.train), len(data.evaluation), longest, microbatch.quantiles(lengths))


def _guess_rows_of_text(recipe: Recipe) -> Rows:
    """The rows that documents make when they are laid end to end, by the length that the recipe or the model says."""
    found = documents.survey(recipe.dataset, recipe.training.seed)
    shape = architecture.read(recipe.model.name, recipe.model.revision)
    length = int(max_length(recipe, shape).value)
    rows = {
        split: math.ceil(characters / CHARACTERS_A_TOKEN / length) for split, characters in found.characters.items()
    }
    longest = min(length, math.ceil(sum(found.characters.values()) / CHARACTERS_A_TOKEN))
    if recipe.training.packing == "document":
        rows = {split: max(rows[split], found.documents[split]) for split in rows}
        longest = min(length, math.ceil(found.longest / CHARACTERS_A_TOKEN))
    return Rows(rows["train"], rows["evaluation"], longest, (longest,))


def train(recipe: Recipe, places: Source, watcher: Watcher) -> int:
    """Carry a recipe out, from wherever an earlier run of it ended. Raises UserError with its own exit code."""
    signals = Signals()
    with signals.ending(_leave):
        if not Path(recipe.model.name).exists():
            watcher.say(f"getting {recipe.model.name} from the Hub, unless it is here")
        fetch.model(recipe.model)
    where = machine.here()
    plan = settle(recipe, places, where, None)
    trackers.check(recipe.tracking, os.environ, Path.cwd(), machine.importable, lambda path: _place(places, path))
    directory = Path(plan.directory)
    confinement.protect_from_rewards()
    with alone(directory):
        before = runfile.read(directory)
        _check_same(before, plan.recipe, directory)
        target = asdict(recipe.output.hub) if recipe.output.hub else None
        if before.get("status") == "done" and target in (None, before.get("pushed_to")):
            watcher.say(f"{directory} holds the finished run of this recipe: nothing to do")
            return DONE
        if recipe.output.hub:
            with signals.ending(_leave):
                repository.preflight(recipe.output.hub, os.environ)
        if before.get("status") not in TRAINED:
            for line in _surroundings(plan, where):
                watcher.say(line)
            _run(plan, places, directory, signals, watcher)
        if recipe.output.hub:
            result_card.write(plan, directory, os.environ)  # it names the repository
            with signals.ending(lambda error: _leave(error, directory)):
                _push(recipe.output.hub, directory, watcher)
        runfile.update(directory, status="done", exit_code=DONE)
    return DONE


def _leave(error: Interrupted, directory: Path | None = None) -> NoReturn:
    """End this process here; `directory` is that of a run which is trained and not pushed.

    Nothing is raised: what is under way would wait for its threads, longer than a container is given.
    """
    if directory is not None:
        _note_end(directory, "not_pushed", error)
    os.write(sys.stderr.fileno(), f"{errors.report(error)}\n".encode())
    os._exit(error.exit_code)


def _note_end(directory: Path, status: str, error: UserError) -> None:
    problems = [problem.message for problem in error.problems]
    runfile.update(directory, status=status, exit_code=error.exit_code, problems=problems)


def _surroundings(plan: Plan, where: machine.Machine) -> list[str]:
    """Where the run takes place in three lines, and a warning for each thing there that it will suffer from."""
    wanted = replace(needs.of(plan.recipe, where), processes=plan.processes)
    lines, suffered = examination.at_start(finding.here(), where, wanted)
    return lines + [
        f"warning: {each.name}: {each.found}" + (f"; {each.hint}" if each.hint else "") for each in suffered
    ]


def push(directory: Path, recipe_of: Mapping[str, Any], watcher: Watcher) -> None:
    """Push a finished run's adapter again. Raises PushError."""
    hub_settings = recipe_of["output"]["hub"]
    if hub_settings is None:
        raise RecipeError(
            Problem(f"the recipe of `{directory}` names no repository", hint="set `output.hub.repository` and run it")
        )
    with alone(directory):
        pushed = repository.push(directory, Hub(**hub_settings), os.environ, watcher.say)
        runfile.update(directory, status="done", exit_code=DONE, hub=asdict(pushed), pushed_to=hub_settings)
    watcher.say(f"{'nothing new to push' if pushed.unchanged else 'pushed'}: {pushed.url}")


def _guessed_tokens(example: Example) -> int:
    if isinstance(example, Instruction):
        characters = len(example.prompt) + len(example.completion)
    elif isinstance(example, Question):
        turns = [example.prompt] if isinstance(example.prompt, str) else [turn.content for turn in example.prompt]
        characters = sum(map(len, turns))
    elif isinstance(example, Document):
        characters = len(example.text)
    else:
        characters = sum(len(message.content) for message in example.messages)
    return math.ceil(characters / CHARACTERS_A_TOKEN) + TEMPLATE_TOKENS


def _run(plan: Plan, places: Source, directory: Path, signals: Signals, watcher: Watcher) -> None:
    """Prepare, train, evaluate. Every end is written to `run.json` before it is raised."""
    runfile.update(
        directory,
        status="preparing",
        exit_code=None,
        name=plan.recipe.name,
        started=runfile.read(directory).get("started") or _now(),
        recipe=asdict(plan.recipe),
        versions=_versions(),
        commit=_commit(Path(plan.recipe.file)),
        model={"name": plan.recipe.model.name, "revision": plan.recipe.model.revision},
    )
    runfile.write(directory / "recipe.yaml", "\n".join(places.lines))
    try:
        plan = _stages(plan, places, directory, signals, watcher)
    except UserError as error:
        _note_end(directory, "interrupted" if isinstance(error, Interrupted) else "failed", error)
        raise
    finally:
        watcher.close()
    result_card.write(plan, directory, os.environ)


def _stages(plan: Plan, places: Source, directory: Path, signals: Signals, watcher: Watcher) -> Plan:
    """The three stages, each in processes of its own; gives the plan as it was carried out."""
    seen: dict[str, Any] = {}

    def note(event: dict[str, Any]) -> None:
        seen[event["event"]] = event
        watcher(event)

    def stage(name: str, settled: Plan, processes: int) -> None:
        runfile.write(directory / "plan.json", planfile.to_json(settled))
        started = time.monotonic()
        try:
            workers.run(Stage(name, processes, settled.device, directory), signals, note)
        finally:
            timings = runfile.read(directory).get("timings", {})
            timings[name] = round(timings.get(name, 0.0) + time.monotonic() - started, 2)
            runfile.update(directory, timings=timings)

    rewards = (*plan.recipe.rewards, *plan.recipe.evaluation.rewards)
    if any(reward.requirements or reward.requirements_file for reward in rewards):
        watcher.say("preparing: installing what the rewards require, unless it is there")
        with signals.ending(_stop):
            scoring.install(plan.recipe, directory)
    watcher.say("preparing: reading the data, loading the tokenizer")
    stage("prepare", plan, 1)
    facts = seen["prepared"]
    longest = max(facts["train"]["longest"], facts["evaluation"]["longest"])
    rows = Rows(facts["train"]["rows"], facts["evaluation"]["rows"], longest, tuple(facts["lengths"]))
    plan = settle(plan.recipe, places, machine.here(), rows)
    if plan.recipe.training.early_stopping and not rows.evaluation:
        raise RecipeError(
            Problem(
                "`training.early_stopping` needs held-out rows, and there are none",
                _place(places, ("training", "early_stopping")),
                "set `dataset.evaluation`, or give rows the `split` `evaluation`",
            )
        )
    runfile.update(directory, status="training", data=facts["data"])
    watcher.say("training: loading the model")
    stage("train", plan, plan.processes)
    runfile.update(directory, status="evaluating", rewards=scoring.hashes(plan.recipe))
    watcher.say("evaluating: reading the adapter back")
    stage("evaluate", plan, 1)
    runfile.update(directory, result=seen["reloaded"] | {"event": None})
    return plan


def _stop(error: Interrupted) -> NoReturn:
    raise error


def _push(target: Hub, directory: Path, watcher: Watcher) -> None:
    runfile.update(directory, status="pushing")
    try:
        pushed = repository.push(directory, target, os.environ, watcher.say, check_status=False)
    except PushError as error:
        _note_end(directory, "not_pushed", error)
        raise
    runfile.update(directory, hub=asdict(pushed), pushed_to=asdict(target))
    watcher.say(f"pushed: {pushed.url}")


def _check_same(before: Mapping[str, Any], recipe: Recipe, directory: Path) -> None:
    """Refuse to write another recipe's run over a finished one."""
    if before.get("status") not in TRAINED:
        return
    ours = _comparable(asdict(recipe))
    changed = checkpoint.differences(_comparable(before["recipe"]), ours)
    if changed:
        raise RunError(
            Problem(
                f"`{directory}` holds the finished run of another recipe; these differ: {listed(changed)}",
                hint="give this run another `name`, or delete that directory",
            )
        )


def _comparable(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values as JSON gives them back, less what does not change the adapter."""
    values: dict[str, Any] = json.loads(json.dumps(recipe))
    for key in ("file", "output", "tracking"):
        values.pop(key, None)
    return values


@contextmanager
def alone(directory: Path, shared: bool = False, elsewhere: str | None = None) -> Iterator[None]:
    """Hold a run's directory: two processes must not write to it. Those that hold it `shared` may do so together.

    `elsewhere` is what to do where it cannot be written to. Raises RunError where it cannot be had, and where its disk
    turns out to be full while it is held.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / ".lock").open("w")
    except OSError as error:
        raise RunError(
            Problem(
                f"cannot write to `{directory}`: {error.strerror}",
                hint=elsewhere
                or image.unwritable(str(directory))
                or "set `output.directory` to a folder that this user may write to",
            )
        ) from error
    with lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            hint = f"wait for it, or {elsewhere or 'give this run a `name`'}"
            raise RunError(Problem(f"another process is running in `{directory}`", hint=hint)) from error
        try:
            yield
        except OSError as error:
            if error.errno not in DISK_FAULTS:
                raise
            raise RunError(
                Problem(f"cannot write to `{directory}`: {error.strerror}", hint=workers.DISK_FULL_HINT)
            ) from error


def _place(places: Source, path: tuple[str, ...]) -> Place | None:
    written = closest(places.places, path)
    return written.value if written else Place(places.file)


def _versions() -> dict[str, str]:
    found = {"tunesmith": runner.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit(recipe: Path) -> str | None:
    """The git commit that the recipe's folder is at, if it is in a repository and git is installed."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(recipe.resolve().parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
