"""What a person names on the command line -> the model and adapter that it means. Light: no torch.

A run's directory, the directory of any PEFT adapter, or an adapter's Hub id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from runner import fetch, planfile, supervise
from runner.errors import Problem, RecipeError
from runner.machine import Machine
from runner.plan import Plan
from runner.reading import check
from runner.reading.source import Source
from runner.recipe import DeepSpeed, Recipe


@dataclass(frozen=True)
class Subject:
    """A settled plan for this machine, whose directory is not to be written to, and where the adapter lies."""

    plan: Plan
    adapter: str


@dataclass(frozen=True)
class Named:
    """What a name means, before anything is planned: `ran` is the plan of a run, None for an adapter from elsewhere."""

    name: str
    recipe: Recipe
    adapter: str
    ran: Plan | None


def is_run(name: str) -> bool:
    """Whether a name means the directory of a run."""
    return (Path(name) / "plan.json").is_file()


def find(name: str, base: str | None, machine: Machine) -> Subject:
    """The subject by that name; `base` takes the place of the base model that it names.

    Raises UserError where there is none, or where a model cannot be fetched.
    """
    found = named(name, base)
    recipe = to_be_asked(found.recipe)
    fetch.model(recipe.model, "with `--base`")
    return Subject(supervise.settle(recipe, Source(name, {}, {}, ()), machine, None), found.adapter)


def named(name: str, base: str | None, task: str = "sft") -> Named:
    """What a name means, with `base` as its base model where it is given; an adapter from elsewhere is one of `task`.

    Raises UserError where there is none, or where an adapter cannot be fetched.
    """
    found = _run(Path(name)) if is_run(name) else _adapter(name, base, task)
    if base is None:
        return found
    other = replace(found.recipe.model, name=base, revision=None, hub_id=None)
    return replace(found, recipe=replace(found.recipe, model=other))


def _run(directory: Path) -> Named:
    adapter = directory.resolve() / "adapter"
    if not any((adapter / name).is_file() for name in ("adapter_config.json", "config.json")):
        hint = "give the command of its run again, and it goes on to its end"
        raise RecipeError(Problem(f"the run in `{directory}` has no adapter yet", hint=hint))
    try:
        ran = planfile.from_json((directory / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = f"`{adapter}` can be named itself"
        raise RecipeError(Problem(f"`{directory / 'plan.json'}` is of another version", hint=hint)) from error
    return Named(str(directory), ran.recipe, str(adapter), ran)


def to_be_asked(recipe: Recipe) -> Recipe:
    """A run's recipe without what only its training needed, so that another machine may do as well."""
    grpo = replace(recipe.grpo, engine="transformers") if recipe.grpo else None
    kind = "full" if recipe.adapter.type == "full" else "lora"
    return replace(
        recipe,
        model=replace(recipe.model, quantization="none"),
        adapter=replace(recipe.adapter, type=kind, continue_from=None),
        training=check.bare("sft", ".").training,
        deepspeed=DeepSpeed(zero_stage=0, offload="none", processes=1, config=None),
        grpo=grpo,
    )


def _adapter(name: str, base: str | None, task: str) -> Named:
    adapter = fetch.adapter(name)
    path = adapter / "adapter_config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        model = base or found["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "name a run's directory, such as `outputs/demo`, the directory of an adapter, or an adapter's Hub id"
        raise RecipeError(Problem(f"`{name}` is neither a run nor an adapter", hint=hint)) from error
    recipe = check.bare(task, str(model))
    template = adapter / "chat_template.jinja"
    if template.is_file():
        recipe = replace(recipe, model=replace(recipe.model, chat_template=str(template)))
    return Named(name, recipe, str(adapter), None)
