"""A recipe file -> a Recipe, or a RecipeError with every problem that can be found without torch or a network.

The order is: form of the file, keys and values, rules between keys, paths. Settings that are wrong are left out of
what comes after, so that one run tells all there is to put right.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from runner import recipe, secrets
from runner.data.calling.formats import AUTO
from runner.errors import Place, Problem, RecipeError
from runner.reading import overrides as laid_over
from runner.reading import paths, rewards, rules, schema, sentences, source
from runner.reading.source import Path, Places, closest

# What `format: auto` means to a task: a `completion` beside a prompt to sample for is a column for the rewards
AUTOMATIC_FORMATS = {"grpo": "prompt", "function_calling": AUTO, "continued_pretraining": "text"}
# May be written as whole numbers.
REAL = (
    "epochs", "learning_rate", "embedding_learning_rate", "warmup_ratio", "weight_decay", "max_grad_norm",
)  # fmt: skip


def read(path: str, overrides: Sequence[str] = ()) -> recipe.Recipe:
    """The recipe in a file (`-` is standard input) with overrides such as `training.epochs=2` laid over it.

    Relative paths are relative to the recipe's directory, those of overrides too. Raises RecipeError.
    """
    return settle(laid_over.apply(source.read(path), overrides), path)


def settle(written: source.Source, path: str) -> recipe.Recipe:
    """The Recipe of a source that was read from `path`. Raises RecipeError."""
    failures = schema.failures(written.values)
    problems = [sentences.problem(failure, written.places) for failure in failures[: source.MOST_SHOWN]]
    problems.extend(rules.secret_problems(written.values, written.places))

    sound, wrong = _sound(written.values, failures)
    values = schema.normalized(sound)
    directory = os.path.abspath(os.path.dirname(path))
    problems.extend(rules.problems(values, written.places, wrong))
    problems.extend(_settle_paths(values, written.places, directory))
    problems.extend(rewards.problems(values, written.places, directory, wrong))
    if problems:
        problems = sorted((_masked(problem) for problem in problems), key=lambda problem: _order(problem, written.file))
        raise source.gathered(problems, untold=len(failures[source.MOST_SHOWN :]))
    return _build(values, path)


def bare(task: str, model: str) -> recipe.Recipe:
    """A recipe of nothing but defaults around a model, without data: by which an adapter from elsewhere is loaded.

    Raises RecipeError for a model that cannot be named so.
    """
    values = schema.normalized({"task": task, "model": {"name": model}, "dataset": {"train": []}})
    if problems := _settle_paths(values, {}, os.getcwd()):
        raise source.gathered(problems, untold=0)
    return _build(values, "adapter.yaml")


def _sound(values: dict[str, Any], failures: list[schema.Failure]) -> tuple[dict[str, Any], set[Path]]:
    """The values without those at fault, and the paths at fault. An item at fault takes its whole list with it."""
    wrong: set[Path] = set()
    unknown: set[Path] = set()
    for failure in failures:
        if failure.rule == "unknown":
            unknown.add(failure.path)
        else:
            at = next((index for index, part in enumerate(failure.path) if isinstance(part, int)), None)
            wrong.add(failure.path[:at])

    def copied(value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            kept = {key: (*path, key) for key in value if (*path, key) not in wrong and (*path, key) not in unknown}
            return {key: copied(value[key], below) for key, below in kept.items()}
        if isinstance(value, list):
            return [copied(item, (*path, index)) for index, item in enumerate(value)]
        return value

    return copied(values, ()), wrong


def _settle_paths(values: dict[str, Any], places: Places, directory: str) -> list[Problem]:
    """Put absolute paths in the place of those that the recipe says, and give a problem for each that is not there."""
    problems: list[Problem] = []

    def settle(path: Path, act: Callable[..., str], *more: Any) -> None:
        block: Any = values
        for part in path[:-1]:
            block = block[part] if isinstance(part, int) else (block or {}).get(part)
        if not block or not isinstance(block.get(path[-1]), str):
            return
        written = closest(places, path)
        place = written.value if written else Place("")
        try:
            block[path[-1]] = act(block[path[-1]], *more, directory, place)
        except RecipeError as error:
            problems.extend(error.problems)

    settle(("model", "name"), paths.model)
    model_found = not problems
    settle(("model", "chat_template"), paths.template)
    settle(("adapter", "continue_from"), paths.adapter)
    settle(("deepspeed", "config"), paths.deepspeed)
    settle(("evaluation", "json_schema"), paths.json_schema)
    settle(("output", "directory"), paths.output)
    dataset = values.get("dataset") or {}
    if dataset.get("split") and len(dataset.get("train") or ()) == 1:
        dataset["train"][0]["split"] = dataset["train"][0]["split"] or dataset["split"]
    for key in ("train", "evaluation"):
        items = dataset.get(key)
        for index, item in enumerate(items if isinstance(items, list) else []):
            settle(("dataset", key, index, "path"), paths.data, item["split"])

    model = values.get("model") or {}
    if model.get("revision") and paths.is_local(model.get("name", "")):
        message = "`model.revision` is for models on the Hub, and `model.name` is on this disk"
        problems.append(Problem(message, places[("model", "revision")].key, "take `revision` away"))
    if model_found and model.get("hub_id") and not paths.is_local(model.get("name", "")):
        message = "`model.hub_id` is for models on this disk, and `model.name` is a Hub id itself"
        problems.append(Problem(message, places[("model", "hub_id")].key, "take `hub_id` away"))
    return problems


def _masked(problem: Problem) -> Problem:
    """The problem without any secret that a value in its sentence may hold; the lines have none already."""
    return Problem(secrets.hide(problem.message), problem.place, secrets.hide(problem.hint) if problem.hint else None)


def _order(problem: Problem, file: str) -> tuple[bool, int, int]:
    place = problem.place or Place(file)
    return place.file != file, place.line, place.column


def _build(values: dict[str, Any], path: str) -> recipe.Recipe:
    """The dataclasses, whose fields are the keys."""
    output, training, tracking = values["output"], values["training"], values["tracking"]
    stopping = training["early_stopping"]
    return recipe.Recipe(
        version=values["version"],
        name=values.get("name") or _name_of(path),
        task=values["task"],
        model=recipe.Model(**{**values["model"], "add_tokens": tuple(values["model"]["add_tokens"])}),
        dataset=_dataset(values["dataset"], values["task"]),
        adapter=recipe.Adapter(
            **{
                **values["adapter"],
                "alpha": float(values["adapter"]["alpha"]),
                "dropout": float(values["adapter"]["dropout"]),
                "target_modules": _names(values["adapter"]["target_modules"]),
            }
        ),
        training=recipe.Training(
            **{
                **{
                    key: float(value) if key in REAL and value is not None else value for key, value in training.items()
                },
                "scheduler_settings": tuple(
                    (key, value) for key, value in training["scheduler_settings"].items() if value is not None
                ),
                "micro_batch_size": _unless_auto(training["micro_batch_size"]),
                "gradient_checkpointing": _said(training["gradient_checkpointing"]),
                "early_stopping": recipe.EarlyStopping(**{**stopping, "min_delta": float(stopping["min_delta"])})
                if stopping is not None
                else None,
                "checkpoints": _checkpoints(training["checkpoints"]),
            }
        ),
        grpo=_grpo(values["grpo"]) if values["task"] == "grpo" else None,
        rewards=rewards.settle(values["rewards"] or []) if values["task"] == "grpo" else (),
        deepspeed=recipe.DeepSpeed(
            **{
                **values["deepspeed"],
                "zero_stage": _unless_auto(values["deepspeed"]["zero_stage"]),
                "processes": _unless_auto(values["deepspeed"]["processes"]),
            }
        ),
        evaluation=_evaluation(values["evaluation"]),
        output=recipe.Output(output["directory"], recipe.Hub(**output["hub"]) if output["hub"] is not None else None),
        tracking=recipe.Tracking(**tracking),
        file=path,
    )


def _evaluation(values: dict[str, Any]) -> recipe.Evaluation:
    paid = rewards.settle(values["rewards"] or [])
    return recipe.Evaluation(**{**values, "metrics": tuple(values["metrics"]), "rewards": paid})


def _grpo(values: dict[str, Any]) -> recipe.Grpo:
    real = ("beta", "temperature", "top_p", "repetition_penalty", "epsilon", "top_entropy_quantile")
    return recipe.Grpo(
        **{
            **values,
            **{key: float(values[key]) for key in real},
            "max_prompt_length": _unless_auto(values["max_prompt_length"]),
            "reward_workers": _unless_auto(values["reward_workers"]),
            "guard": recipe.Guard(**{key: float(share) for key, share in values["guard"].items()}),
        }
    )


def _dataset(values: dict[str, Any], task: str) -> recipe.Dataset:
    evaluation = values["evaluation"]
    return recipe.Dataset(
        train=_sources(values["train"], values, task),
        evaluation=_sources(evaluation, values, task) if isinstance(evaluation, list) else (),
        evaluation_fraction=float(evaluation) if isinstance(evaluation, int | float) else None,
        apply_chat_template=_said(values["apply_chat_template"]),
        learn=values["learn"],
        max_length=_unless_auto(values["max_length"]),
        overflow=values["overflow"],
        on_bad_row=values["on_bad_row"],
        shuffle=values["shuffle"],
        limit=values["limit"],
    )


def _sources(items: list[dict[str, Any]], dataset: dict[str, Any], task: str) -> tuple[recipe.Source, ...]:
    def format_of(item: dict[str, Any]) -> str:
        said: str = item["format"] or dataset["format"]
        return AUTOMATIC_FORMATS.get(task, said) if said == "auto" else said

    return tuple(
        recipe.Source(
            path=item["path"],
            weight=float(item["weight"]),
            split=item["split"],
            columns=tuple((dataset["columns"] if item["columns"] is None else item["columns"]).items()),
            templates=tuple((dataset["templates"] if item["templates"] is None else item["templates"]).items()),
            format=format_of(item),
        )
        for item in items
    )


def _checkpoints(values: dict[str, Any]) -> recipe.Checkpoints:
    minutes = values["minutes"]
    return recipe.Checkpoints(values["every"], values["keep"], None if minutes is None else float(minutes))


def _names(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _said(value: str | bool) -> str:
    """`auto`, `true` or `false`."""
    return value if isinstance(value, str) else str(value).lower()


def _unless_auto(value: Any) -> Any:
    return None if value == "auto" else value


def _name_of(path: str) -> str:
    """A run's name from its recipe's file name."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:96] or "recipe"
