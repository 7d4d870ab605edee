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


def find(name: str, base: str | None, machine: Machine) -> Subject:
    """The subject by that name; `base` takes the place of the base model that it names.

    Raises UserError where there is none, or where a model cannot be fetched.
    """
    directory = Path(name)
    if (directory / "plan.json").is_file():
        return _run(directory, base, machine)
    return _adapter(name, base, machine)


def _run(directory: Path, base: str | None, machine: Machine) -> Subject:
    adapter = directory.resolve() / "adapter"
    if not any((adapter / name).is_file() for name in ("adapter_config.json", "config.json")):
        hint = "give the command of its run again, and it goes on to its end"
        raise RecipeError(Problem(f"the run in `{directory}` has no adapter yet", hint=hint))
    try:
        recipe = planfile.from_json((directory / "plan.json").read_text(encoding="utf-8")).recipe
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = f"`{adapter}` can be named itself"
        raise RecipeError(Problem(f"`{directory / 'plan.json'}` is of another version", hint=hint)) from error
    recipe = _to_be_asked(recipe, base)
    fetch.model(recipe.model)
    return Subject(supervise.settle(recipe, Source(str(directory), {}, {}, ()), machine, None), str(adapter))


def _to_be_asked(recipe: Recipe, base: str | None) -> Recipe:
    """A run's recipe without what only its training needed, so that another machine may do as well."""
    grpo = replace(recipe.grpo, engine="transformers") if recipe.grpo else None
    kind = "full" if recipe.adapter.type == "full" else "lora"
    return replace(
        recipe,
        model=replace(recipe.model, name=base or recipe.model.name, quantization="none"),
        adapter=replace(recipe.adapter, type=kind, continue_from=None),
        training=check.bare("sft", ".").training,
        deepspeed=DeepSpeed(zero_stage=0, offload="none", processes=1, config=None),
        grpo=grpo,
    )


def _adapter(name: str, base: str | None, machine: Machine) -> Subject:
    adapter = fetch.adapter(name)
    path = adapter / "adapter_config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        named = base or found["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "name a run's directory, such as `outputs/demo`, the directory of an adapter, or an adapter's Hub id"
        raise RecipeError(Problem(f"`{name}` is neither a run nor an adapter", hint=hint)) from error
    recipe = check.bare("sft", str(named))
    template = adapter / "chat_template.jinja"
    if template.is_file():
        recipe = replace(recipe, model=replace(recipe.model, chat_template=str(template)))
    fetch.model(recipe.model)
    return Subject(supervise.settle(recipe, Source(name, {}, {}, ()), machine, None), str(adapter))
