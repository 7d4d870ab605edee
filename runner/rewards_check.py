"""The rewards of a recipe tried before any training: completions in, a report on their scores out. Light: no torch.

What a check writes is in `rewards-check/` below the run's directory, which no run looks into. It stays for its logs,
for what the rewards printed and where they failed, and so that the next check need not prepare the data again.

    completions.jsonl, rewards.jsonl   each completion with its scores; what was printed, and what failed
    report.json                        the numbers of the report
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from runner import fetch, holding, machine, planfile, rollouts, runfile, scoring, spread, supervise, workers
from runner.data import completions
from runner.data.completions import Answer
from runner.errors import Place, Problem, RecipeError, RunError
from runner.plan import Plan
from runner.reading.source import Source, closest
from runner.recipe import Recipe
from runner.rewards import confinement, signature
from runner.rewards.contract import Scores
from runner.rewards.pool import Pool
from runner.show import SECONDS_BETWEEN_LINES, Watcher
from runner.signals import Signals, heard
from runner.spread import Report
from runner.workers import Stage

FOLDER = "rewards-check"  # below the run's directory
PRINTED = 3  # of a reward, that are kept for the report


@dataclass(frozen=True)
class Checked:
    """What a check found, the completions it looked at, and the folder with all of it."""

    report: Report
    answers: tuple[Answer, ...]
    directory: Path


def sampled(recipe: Recipe, places: Source, prompts: int, watcher: Watcher) -> Checked:
    """Sample completions of so many prompts from the model as it is before training, and score them.

    Raises UserError for faults of the recipe, the data or the rewards, and for a stage that failed.
    """
    _require_rewards(recipe, places)
    if not Path(recipe.model.name).exists():
        watcher.say(f"getting {recipe.model.name} from the Hub, unless it is here")
        fetch.needed(recipe)
    plan = supervise.settle(recipe, places, machine.here(), None)
    directory = Path(plan.directory) / FOLDER
    plan = replace(plan, directory=str(directory))

    def sample() -> list[Answer]:
        with heard() as signals:
            return _stages(plan, prompts, signals, watcher)

    return _checked(plan.recipe, directory, sample, plan.batch.effective // plan.processes, watcher)


def given(recipe: Recipe, places: Source, path: str, watcher: Watcher) -> Checked:
    """Score the completions of a file; no model is loaded. Raises UserError for faults of the file and the rewards."""
    _require_rewards(recipe, places)
    answers = completions.read(path)
    directory = Path(recipe.output.directory) / recipe.name / FOLDER
    return _checked(recipe, directory, lambda: answers, recipe.training.batch_size, watcher)


def warnings(report: Report, recipe: Recipe) -> list[str]:
    """What is wrong with the rewards, in the words that a run says it in."""
    assert recipe.grpo is not None
    return scoring.warnings(recipe.grpo.guard, report.shares)


def judge(report: Report, recipe: Recipe, places: Source) -> None:
    """Raise RunError with each limit of `grpo.guard` that is passed, and each failure that would end a run."""
    assert recipe.grpo is not None
    problems = []
    for passed in spread.passed(report, recipe.grpo.guard):
        place, hint = _place(places, ("grpo", "guard", passed.key)), None
        if passed.reward is not None:
            function = next(each for each in report.functions if each.name == passed.reward)
            place, hint = _function_place(recipe, passed.reward), f"the first time, {function.first_fault}"
        problems.append(Problem(passed.sentence, place, hint))
    strict = {reward.name for reward in recipe.rewards if reward.on_error == "fail"}
    for function in report.functions:
        if function.name in strict and function.failed:
            message = f"`{function.name}` failed, and its `on_error: fail` would have ended a run"
            hint = f"the first time, {function.first_fault}"
            problems.append(Problem(message, _function_place(recipe, function.name), hint))
    if problems:
        raise RunError(problems)


def picked(rows: int, prompts: int, seed: int, shuffle: bool) -> list[int]:
    """The numbers of the rows that are asked: the first ones, or some of all where the run shuffles them too."""
    count = min(prompts, rows)
    return sorted(Random(f"{seed} rewards check").sample(range(rows), count)) if shuffle else list(range(count))


def _checked(
    recipe: Recipe, directory: Path, answers_of: Callable[[], list[Answer]], at_once: int, watcher: Watcher
) -> Checked:
    """Score completions, `at_once` of them a step as a run does, in a pool that goes on whatever fails.

    The pool is made before there are completions: what is wrong with a reward is told before anything takes long.
    """
    confinement.protect_from_rewards()
    printed: dict[str, list[str]] = {}
    with holding.alone(directory):
        if any(reward.requirements or reward.requirements_file for reward in recipe.rewards):
            watcher.say("installing what the rewards require, unless it is there")
        for name in (rollouts.COMPLETIONS, rollouts.REWARDS):
            (directory / name).unlink(missing_ok=True)
        with closing(rollouts.Log(directory)) as log:

            def told(event: dict[str, Any]) -> None:
                log.told(event)
                if event["kind"] == "printed":
                    lines = printed.setdefault(event["reward"], [])
                    lines += [line for line in event["text"].splitlines() if line.strip()][: PRINTED - len(lines)]

            with scoring.pool(_patient(recipe), directory, 1, 0, told) as pool:
                answers = answers_of()
                scores = _scores(pool, log, answers, at_once, watcher)
        cut = [each.cut for each in answers]
        report = spread.report([each.group for each in answers], scores, cut, printed)
        runfile.write(directory / "report.json", json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n")
    return Checked(report, tuple(answers), directory)


def _patient(recipe: Recipe) -> Recipe:
    """The recipe with rewards that may fail as often as they like: a check tells of all failures, and ends at none."""
    assert recipe.grpo is not None
    rewards = tuple(
        replace(reward, on_error="skip" if reward.on_error == "fail" else reward.on_error) for reward in recipe.rewards
    )
    return replace(recipe, grpo=replace(recipe.grpo, max_faults_in_a_row=sys.maxsize), rewards=rewards)


def _scores(pool: Pool, log: rollouts.Log, answers: Sequence[Answer], at_once: int, watcher: Watcher) -> Scores:
    parts: list[Scores] = []
    tell = _progress(watcher, "scored")
    for start in range(0, len(answers), at_once):
        some = answers[start : start + at_once]
        rows = [{"asked": each.asked, "columns": each.columns, "prompt": each.prompt} for each in some]
        ids = [each.ids for each in some if each.ids is not None]
        step = len(parts) + 1
        scores = pool.score(scoring.batch(rows, [each.completion for each in some], ids, step, 0.0))
        for number, answer in enumerate(some):
            log.completion(_line(answer, scores, number, step))
        parts.append(scores)
        tell(start + len(some), len(answers))
    return spread.joined(parts)


def _line(answer: Answer, scores: Scores, number: int, step: int) -> dict[str, Any]:
    """A completion as `completions.jsonl` has it: with its row's columns, so that it can be scored again."""
    each = {reward.name: reward.scores[number] for reward in scores.rewards}
    return {
        "step": step,
        "prompt": json.loads(answer.asked) or None,
        "completion": answer.completion,
        "example": json.loads(answer.columns),
        "file": answer.file,
        "line": answer.line,
        "scores": {name: score.value for name, score in each.items()},
        "total": scores.total(number),
        "cut": answer.cut,
        "faults": {name: score.fault for name, score in each.items() if score.fault},
    }


def _stages(plan: Plan, prompts: int, signals: Signals, watcher: Watcher) -> list[Answer]:
    """Prepare the data as a run does, and sample in a process of its own."""
    directory = Path(plan.directory)
    sampled_so_far = _progress(watcher, "sampled")
    seen: dict[str, Any] = {}

    def note(event: dict[str, Any]) -> None:
        seen[event["event"]] = event
        watcher(event)
        if event["event"] == "sampled":
            sampled_so_far(event["done"], event["of"])

    runfile.write(directory / "plan.json", planfile.to_json(plan))
    watcher.say("preparing: reading the data, loading the tokenizer")
    workers.run(Stage("prepare", 1, plan.device, directory), signals, note)
    settings = plan.recipe
    rows = picked(seen["prepared"]["train"]["rows"], prompts, settings.training.seed, settings.dataset.shuffle)
    runfile.write(directory / "prompts.json", json.dumps(rows))
    watcher.say("sampling: loading the model")
    workers.run(Stage("rehearse", 1, plan.device, directory), signals, note)
    with (directory / "sampled.jsonl").open(encoding="utf-8") as file:
        return [Answer(**json.loads(line)) for line in file]


def _progress(watcher: Watcher, done: str) -> Callable[[int, int], None]:
    """A function that says how far it has come, now and then."""
    said = time.monotonic()

    def tell(number: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said > SECONDS_BETWEEN_LINES and number < of:
            said = time.monotonic()
            watcher.say(f"{done}: {number} of {of} completions")

    return tell


def _require_rewards(recipe: Recipe, places: Source) -> None:
    if recipe.task != "grpo":
        message = f"only recipes for `task: grpo` have rewards, and this one's task is `{recipe.task}`"
        raise RecipeError(Problem(message, _place(places, ("task",))))


def _place(places: Source, path: tuple[str, ...]) -> Place:
    written = closest(places.places, path)
    return written.value if written else Place(places.file)


def _function_place(recipe: Recipe, name: str) -> Place:
    reward = next(reward for reward in recipe.rewards if reward.name == name)
    return signature.read(Path(reward.file), reward.function).place
