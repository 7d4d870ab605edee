"""A plan whose training ran out of memory in, the settings that take less of it out, each with its estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from runner.errors import OutOfMemory, Problem, RecipeError
from runner.plan import Plan
from runner.recipe import Recipe

GIB = 1024**3
LESS = 0.95  # of what a step took at most, for a setting to be worth its name


@dataclass(frozen=True)
class Remedy:
    """A line of the recipe, and the bytes that a step takes with it by the estimate."""

    setting: str
    memory: int


def smaller(plan: Plan, settle: Callable[[Recipe], Plan]) -> list[Remedy]:
    """What could be set, the setting that costs least first. `settle` gives the plan of another recipe."""
    if plan.memory is None:
        return []
    found = []
    for setting, recipe in _changes(plan):
        try:
            other = settle(recipe)
        except RecipeError:  # what this machine or another setting does not allow
            continue
        if other.memory is not None and other.memory.total <= LESS * plan.memory.total:
            found.append(Remedy(setting, other.memory.total))
    return found


def told(error: OutOfMemory, plan: Plan, settle: Callable[[Recipe], Plan]) -> OutOfMemory:
    """The fault with what to change, and by how much."""
    remedies = smaller(plan, settle)
    if not remedies or plan.memory is None:
        return error
    each = ", ".join(f"with `{remedy.setting}` {_size(remedy.memory)}" for remedy in remedies)
    hint = f"a step is estimated at {_size(plan.memory.total)} of {_size(plan.device_memory)}; {each}"
    return OutOfMemory([Problem(problem.message, problem.place, hint) for problem in error.problems], error.total)


def _changes(plan: Plan) -> Iterator[tuple[str, Recipe]]:
    recipe, micro = plan.recipe, plan.batch.micro
    training, deepspeed = recipe.training, recipe.deepspeed
    half = max((size for size in range(1, micro // 2 + 1) if micro % size == 0), default=0)
    if half:
        changed = replace(training, micro_batch_size=half)
        yield f"training.micro_batch_size: {half}", replace(recipe, training=changed)
    if not plan.gradient_checkpointing.value:
        changed = replace(training, gradient_checkpointing="true")
        yield "training.gradient_checkpointing: true", replace(recipe, training=changed)
    for stage in range(int(plan.zero_stage.value) + 1, 4) if plan.processes > 1 else ():
        yield f"deepspeed.zero_stage: {stage}", replace(recipe, deepspeed=replace(deepspeed, zero_stage=stage))
    if deepspeed.offload == "none":
        yield "deepspeed.offload: optimizer", replace(recipe, deepspeed=replace(deepspeed, offload="optimizer"))
    if recipe.adapter.type == "lora" and recipe.model.quantization == "none":
        yield "adapter.type: qlora", replace(recipe, adapter=replace(recipe.adapter, type="qlora"))


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
