"""What an evaluation asks for on the command line, laid over the recipe of a run or of an adapter from elsewhere.

All of it is checked as a recipe is, so that faults come at once, each with the option that it stands in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner import secrets, subject
from runner.errors import Place, Problem, RecipeError, listed
from runner.nearest import nearest
from runner.reading import check, overrides, paths, written
from runner.reading.keys import TASKS
from runner.reading.source import Places, Source, Written
from runner.recipe import Recipe
from runner.scores.metrics import SCHEMA
from runner.subject import Named

EXAMPLES = {"evaluation": "samples=100", "dataset": "limit=100"}
BLOCKS = tuple(EXAMPLES)  # whose keys can be laid over
NO_DATA = "name rows with `--data rows.jsonl`: a file, a pattern, a directory or a Hub id"
# What an option of its own says.
OTHERWISE = {
    "dataset.train": NO_DATA,
    "dataset.evaluation": NO_DATA,
    "dataset.format": "write `--format` beside `--data`; a run's own rows are read as it read them",
}


@dataclass(frozen=True)
class Asked:
    """The options of the command line; what is None is as in the run, or as it is by default."""

    subject: str
    data: tuple[str, ...] = ()  # as they are written; relative paths are relative to the working directory
    format: str | None = None
    task: str | None = None
    base: str | None = None
    metrics: str | None = None  # parted by commas
    samples: int | None = None
    max_new_tokens: int | None = None
    baseline: bool = True
    output: str | None = None
    overrides: tuple[str, ...] = ()


def task(asked: Asked, is_run: bool) -> str:
    """The task that an adapter from elsewhere is of. Raises RecipeError for one that it cannot be of."""
    place = Place("--task")
    known = [name for name in TASKS if name != "grpo"]
    if asked.task is not None and is_run:
        hint = "leave `--task` out: it is for adapters from elsewhere"
        raise RecipeError(Problem(f"`{asked.subject}` is a run, which has a task of its own", place, hint))
    if asked.task == "grpo":
        hint = "name a run's directory, such as `outputs/demo`, or score answers with `--set evaluation.rewards=[…]`"
        raise RecipeError(Problem("`--task grpo` needs rewards, and an adapter names none", place, hint))
    if asked.task is not None and asked.task not in known:
        similar = nearest(asked.task, known)
        hint = f"write `{similar}`" if similar else f"the tasks are {listed(known)}"
        raise RecipeError(Problem(f"there is no task `{asked.task}`", place, hint))
    return asked.task or "sft"


def settle(asked: Asked, named: Named) -> Recipe:
    """The recipe that the evaluation goes by: with `--data`, its sources are `dataset.evaluation`, and none is `train`.

    Raises RecipeError with every fault of the options, of paths and of reward files.
    """
    problems = _missing(asked, named)
    if problems:
        raise RecipeError(problems)
    refused = {text: problem for text in asked.overrides if (problem := _refused(text))}
    problems = list(refused.values())
    try:
        changed = overrides.apply(
            _with_options(asked, named), [text for text in asked.overrides if text not in refused]
        )
        if not _measures_schema(changed.values) and ("evaluation", "json_schema") not in changed.places:
            changed.values["evaluation"]["json_schema"] = None  # the metric that looked at it is not asked for
        settled = check.settle(changed, "evaluation.yaml")
    except RecipeError as error:
        found = [*problems, *(_from_here(problem) for problem in error.problems)]
        raise RecipeError(found, len(problems) + error.total) from error
    if problems:
        raise RecipeError(problems)
    dataset = settled.dataset
    if asked.data:
        dataset = replace(dataset, train=(), evaluation=dataset.train, evaluation_fraction=None)
    own = named.recipe
    recipe = subject.to_be_asked(own)
    return replace(
        recipe,
        model=replace(recipe.model, quantization=named.ran.quantization if named.ran else "none"),
        training=replace(recipe.training, seed=own.training.seed, batch_size=own.training.batch_size),
        dataset=dataset,
        evaluation=settled.evaluation,
        rewards=settled.rewards,
    )


def _missing(asked: Asked, named: Named) -> list[Problem]:
    """What is wrong without `--data`."""
    if asked.data:
        return []
    problems = []
    if asked.format is not None:
        hint = "leave it out: the run's own rows are read as the run read them"
        problems.append(
            Problem("`--format` is that of the rows of `--data`, and there are none", Place("--format"), hint)
        )
    if named.ran is None:
        message = f"`{named.name}` is an adapter, which has no held-out rows of its own"
        problems.append(Problem(message, hint=NO_DATA))
    elif named.ran.rows is not None and not named.ran.rows.evaluation:
        problems.append(no_rows(named))
    return problems


def no_rows(named: Named) -> Problem:
    """That there is nothing to score on."""
    return Problem(f"the run in `{named.name}` has no held-out rows", hint=NO_DATA)


def _refused(text: str) -> Problem | None:
    """Why an override cannot be laid over for an evaluation, if it cannot."""
    dotted, equals, _ = text.partition("=")
    keys = [key.strip() for key in dotted.split(".")]
    place = Place(overrides.FILE, 1, 1, max(len(dotted), 1), secrets.hide(text))
    if equals and keys[0] and keys[0] not in BLOCKS:
        hint = f"keys of {listed(BLOCKS)} can be; the adapter is scored as it was trained"
        return Problem(f"`{dotted}` cannot be set for an evaluation", place, hint)
    if equals and len(keys) == 1 and keys[0]:
        return Problem(
            f"`{dotted}` cannot be set as a whole", place, f"set a key of it, such as `{dotted}.{EXAMPLES[keys[0]]}`"
        )
    if (key := ".".join(keys[:2])) in OTHERWISE:
        return Problem(f"`{key}` cannot be set for an evaluation", place, OTHERWISE[key])
    return None


def _with_options(asked: Asked, named: Named) -> Source:
    """The values of the subject's recipe with the options' own laid over them, and where each is from."""
    values = written.values(named.recipe)
    origin = Place(str(Path(named.name) / "plan.json") if named.ran else named.name)
    places: Places = {path: Written(origin, origin) for path in ((), *((block,) for block in values))}

    def lay(option: str, value: Any, *path: str) -> None:
        values[path[0]][path[1]] = value
        places[path] = Written(Place(option), Place(option))

    if asked.data:
        lay("--data", [{"path": path} for path in asked.data], "dataset", "train")
        values["dataset"] |= {"evaluation": None, "limit": None, "format": "auto"}
        if asked.format is not None:
            lay("--format", asked.format, "dataset", "format")
    if asked.metrics is not None:
        names = [name.strip() for name in asked.metrics.split(",") if name.strip()]
        lay("--metrics", names, "evaluation", "metrics")
    if asked.samples is not None:
        lay("--samples", asked.samples, "evaluation", "samples")
    if asked.max_new_tokens is not None:
        lay("--max-new-tokens", asked.max_new_tokens, "evaluation", "max_new_tokens")
    if not asked.baseline:
        lay("--no-baseline", False, "evaluation", "baseline")
    return Source(named.name, values, places, ())


def _measures_schema(values: dict[str, Any]) -> bool:
    """Whether the schema is looked at, as far as sound values tell."""
    metrics = values["evaluation"].get("metrics")
    return not isinstance(metrics, list) or SCHEMA in metrics


def _from_here(problem: Problem) -> Problem:
    """A problem whose hint speaks of the recipe's directory, where there is no recipe file."""
    hint = "paths are relative to the working directory" if problem.hint == paths.RELATIVE else problem.hint
    return replace(problem, hint=hint)
