"""What is said of a training that ran out of memory."""

from __future__ import annotations

from settled import LLAMA_8B, recipe_of

from runner import machine, plan, remedies
from runner.choices import Conflict, Rows
from runner.errors import OutOfMemory, Problem, RecipeError
from runner.plan import Plan
from runner.recipe import Recipe

LARGE = ("training.batch_size=32", "training.gradient_checkpointing=false")
ROWS = Rows(1000, 0, 2000, (2000,))


def settle(recipe: Recipe, where: str = "h100:2") -> Plan:
    try:
        return plan.make(recipe, machine.named(where), LLAMA_8B, ROWS)
    except Conflict as conflict:
        raise RecipeError(Problem(conflict.message)) from conflict


def test_each_setting_has_the_memory_that_its_own_plan_has() -> None:
    before = settle(recipe_of(*LARGE, "training.micro_batch_size=4"))
    found = {remedy.setting: remedy.memory for remedy in remedies.smaller(before, settle)}
    assert list(found)[:2] == ["training.micro_batch_size: 2", "training.gradient_checkpointing: true"]
    after = settle(recipe_of(*LARGE, "training.micro_batch_size=2"))
    assert before.memory and after.memory
    assert found["training.micro_batch_size: 2"] == after.memory.total < before.memory.total
    assert all(total < before.memory.total for total in found.values())


def test_what_saves_nothing_is_not_said() -> None:
    before = settle(
        recipe_of("training.batch_size=2", "training.micro_batch_size=1", "training.gradient_checkpointing=true")
    )
    names = [remedy.setting for remedy in remedies.smaller(before, settle)]
    assert "deepspeed.zero_stage: 3" in names and "adapter.type: qlora" in names
    assert not any("micro_batch" in name or "checkpointing" in name or name.endswith("stage: 2") for name in names)


def test_the_fault_says_by_how_much() -> None:
    before = settle(recipe_of(*LARGE, "training.micro_batch_size=4"))
    fault = remedies.told(OutOfMemory([Problem("the device ran out of memory", hint="h")], 1), before, settle)
    (problem,) = fault.problems
    assert fault.exit_code == 4 and problem.message == "the device ran out of memory"
    assert problem.hint and before.memory
    assert f"estimated at {before.memory.total / 2**30:.1f} GiB of 80.0 GiB; with `training.micro" in problem.hint


def test_without_an_estimate_the_fault_stays_as_it_is() -> None:
    fault = OutOfMemory([Problem("out", hint="h")])
    assert remedies.told(fault, plan.make(recipe_of(), machine.named("h100")), settle) is fault
