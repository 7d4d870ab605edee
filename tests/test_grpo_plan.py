"""Plans of `task: grpo`: what writes completions, how long a row may be, how many steps there are, what fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settled import CPU, LLAMA_8B, LLAMA_70B

from runner import choices, machine, plan, planfile, recipe
from runner.architecture import Architecture
from runner.choices import Conflict, Rows
from runner.machine import GIB, Machine
from runner.plan import Plan
from runner.reading import check
from runner.steps import Steps, count

RECIPE = Path(__file__).parent.parent / "recipes" / "grpo.yaml"


def recipe_of(*overrides: str) -> recipe.Recipe:
    base = ["model.name=owner/model", "dataset.evaluation=null", "training.batch_size=32", "training.max_steps=null"]
    return check.read(str(RECIPE), [*base, "training.epochs=2", *overrides])


def plan_of(
    *overrides: str, where: Machine | str = CPU, shape: Architecture | None = None, rows: Rows | None = None
) -> Plan:
    found = machine.named(where) if isinstance(where, str) else where
    return plan.make(recipe_of(*overrides), found, shape, rows)


def conflict(*overrides: str, where: Machine | str = CPU, shape: Architecture | None = None) -> Conflict:
    with pytest.raises(Conflict) as caught:
        plan_of(*overrides, where=where, shape=shape)
    assert caught.value.hint
    return caught.value


def steps_of(rows: int, *overrides: str, held_out: int = 0) -> Steps:
    settings = recipe_of(*overrides)
    return count(settings.training, rows, held_out, settings.grpo)


# what writes completions


def test_the_engine_is_what_there_is() -> None:
    found = plan_of().engine
    assert found is not None and found.value == "transformers" and "no vLLM: " in found.reason
    with_vllm = replace(machine.named("h100"), missing=frozenset())
    found = plan_of(where=with_vllm).engine
    assert found == choices.Choice("transformers", "the weights are where they are trained")
    assert plan_of("grpo.engine=transformers").engine == choices.Choice("transformers", "the recipe says so")
    assert plan_of("grpo.engine=vllm", where=with_vllm).engine == choices.Choice("vllm", "the recipe says so")


def test_an_engine_that_is_not_here_is_refused() -> None:
    without = replace(machine.named("h100"), missing=frozenset({"vllm"}))
    error = conflict("grpo.engine=vllm", where=without)
    assert (error.path, error.message) == (
        ("grpo", "engine"), "vLLM cannot be used: the package `vllm` is not installed",
    )  # fmt: skip
    error = conflict("grpo.engine=vllm", where=replace(CPU, missing=frozenset()))
    assert error.message == "vLLM cannot be used: there is no CUDA device, and `vllm` is not its build for CPUs"


def test_its_build_for_cpus_needs_no_device() -> None:
    found = plan_of("grpo.engine=vllm", where=replace(CPU, missing=frozenset(), vllm_for_cpus=True)).engine
    assert found == choices.Choice("vllm", "the recipe says so")


def test_vllm_leaves_less_memory_for_training() -> None:
    with_vllm = replace(machine.named("a100-40"), missing=frozenset())
    asked = ("training.batch_size=256", "training.gradient_checkpointing=true")
    rows = Rows(100, 0, 2000, (2000,))
    batches = [
        plan_of(*asked, f"grpo.engine={engine}", where=with_vllm, shape=LLAMA_8B, rows=rows).batch
        for engine in ("transformers", "vllm")
    ]
    assert batches[0].micro > batches[1].micro


def test_other_tasks_have_none() -> None:
    instruction = RECIPE.with_name("sft_instruction.yaml")
    settings = check.read(str(instruction), ["model.name=owner/model", "dataset.evaluation=null"])
    assert plan.make(settings, CPU).engine is None


def test_completions_are_not_packed() -> None:
    found = plan_of(where=replace(machine.named("h100"), flash_attention=True)).packing
    assert found == choices.Choice("none", "completions are not packed")


# lengths


def test_a_prompt_and_its_completion_share_the_context() -> None:
    small = replace(LLAMA_8B, context=512)
    found = plan_of("grpo.max_completion_length=100", shape=small).max_length
    assert found == choices.Choice(512, "with 100 of the completion, what the model can take")
    found = plan_of("grpo.max_completion_length=100", "grpo.max_prompt_length=50", shape=small).max_length
    assert found == choices.Choice(150, "50 of the prompt and 100 of the completion")
    assert plan_of("grpo.max_completion_length=100").max_length.value == choices.DEFAULT_CONTEXT
    long = replace(LLAMA_8B, context=131072)
    assert plan_of("grpo.max_completion_length=100", shape=long).max_length.value == choices.LONGEST_BY_DEFAULT
    longer = plan_of("grpo.max_completion_length=100000", shape=long).max_length
    assert longer.value == 100001


@pytest.mark.parametrize(
    ("prompt", "completion", "path"),
    [("auto", 512, "max_completion_length"), ("auto", 600, "max_completion_length"), ("13", 500, "max_prompt_length")],
)
def test_a_context_that_is_too_small(prompt: str, completion: int, path: str) -> None:
    lengths = (f"grpo.max_completion_length={completion}", f"grpo.max_prompt_length={prompt}")
    error = conflict(*lengths, shape=replace(LLAMA_8B, context=512))
    assert error.path == ("grpo", path)
    assert "the model was made for 512" in error.message
    assert error.hint == "use 512 or less for `max_prompt_length` and `max_completion_length` together"
    assert plan_of(*lengths, shape=replace(LLAMA_8B, context=1024))
    together = completion + (1 if prompt == "auto" else int(prompt))
    assert plan_of(*lengths, shape=replace(LLAMA_8B, context=together)).max_length.value == together


@given(st.none() | st.integers(1, 4000), st.integers(1, 4000), st.none() | st.integers(2, 5000))
def test_lengths_leave_room_for_both(prompt: int | None, completion: int, context: int | None) -> None:
    base = recipe_of()
    assert base.grpo is not None
    grpo = replace(base.grpo, max_prompt_length=prompt, max_completion_length=completion)
    shape = None if context is None else replace(LLAMA_8B, context=context)
    try:
        found = int(plan.make(replace(base, grpo=grpo), CPU, shape).max_length.value)
    except Conflict:
        assert context is not None and completion + (prompt or 1) > context
        return
    assert found - completion >= (prompt or 1)
    assert context is None or found <= context


# steps


@pytest.mark.parametrize(
    ("rows", "overrides", "an_epoch", "total"),
    [
        (100, (), 25, 50),  # four prompts a step, eight completions of each
        (101, (), 26, 52),
        (3, (), 1, 2),
        (100, ("grpo.num_generations=32",), 100, 200),
        (100, ("grpo.num_generations=16", "training.epochs=0.5"), 50, 25),
        (100, ("grpo.num_iterations=3",), 75, 150),
        (100, ("training.epochs=null", "training.max_steps=7"), 25, 7),
    ],
)
def test_a_step_takes_completions(rows: int, overrides: tuple[str, ...], an_epoch: int, total: int) -> None:
    steps = steps_of(rows, *overrides)
    assert (steps.an_epoch, steps.total, steps.evaluate_every) == (an_epoch, total, None)
    assert steps_of(rows, *overrides, held_out=50).evaluate_every is None


def test_a_run_without_a_length_has_predibases() -> None:
    settings = check.read(str(RECIPE), ["model.name=owner/model", "training.max_steps=null"])
    assert settings.training.max_steps == 1000 and settings.training.epochs is None


@given(st.integers(1, 7), st.none() | st.integers(1, 100), st.integers(1, 300))
def test_checkpoints_stand_between_two_samplings(times: int, every: int | None, total: int) -> None:
    settings = recipe_of()
    assert settings.grpo is not None
    training = replace(settings.training, max_steps=total, epochs=None, checkpoints=recipe.Checkpoints(every, 2, None))
    steps = count(training, 1000, 0, replace(settings.grpo, num_iterations=times))
    assert steps.checkpoint_every % times == 0 or steps.checkpoint_every == total
    assert 1 <= steps.checkpoint_every <= total
    assert every is None or steps.checkpoint_every >= min(every, total)


def test_a_scheduler_that_goes_by_an_evaluation_has_none() -> None:
    with pytest.raises(Conflict) as caught:
        steps_of(100, "training.scheduler=reduce_lr_on_plateau", held_out=10)
    assert caught.value.path == ("training", "scheduler")


# batches and memory


def test_micro_batches_count_completions() -> None:
    overrides = ("training.batch_size=64", "grpo.max_completion_length=2000")
    rows = Rows(100, 0, 100, (90, 100))
    sampled = plan_of(*overrides, where="h100", shape=LLAMA_8B, rows=rows)
    batch = sampled.batch
    assert batch.effective == 64 == batch.micro * batch.accumulation * batch.processes
    assert batch.micro * 2100 <= 16384 < 64 * 2100
    brief = plan_of(overrides[0], "grpo.max_completion_length=10", where="h100", shape=LLAMA_8B, rows=rows)
    assert brief.batch.micro == 64
    assert sampled.memory and brief.memory and sampled.memory.total < 80 * GIB
    asked = plan_of(*overrides, "training.micro_batch_size=4", where="h100", shape=LLAMA_8B, rows=rows)
    assert asked.batch.micro == 4


def test_memory_counts_the_longest_completion() -> None:
    one = ("training.micro_batch_size=1", "training.gradient_checkpointing=false")
    rows = Rows(100, 0, 100, (100,))
    needed = []
    for most in (100, 1000):
        found = plan_of(*one, f"grpo.max_completion_length={most}", where="h100", shape=LLAMA_8B, rows=rows).memory
        assert found is not None
        needed.append(found.activations)
    assert needed[1] == pytest.approx(needed[0] * 1100 / 200, rel=1e-6)


def test_attention_goes_by_the_whole_row() -> None:
    rows = Rows(10, 0, 100, (100,))
    assert plan_of("grpo.max_completion_length=100", rows=rows).attention.value == "eager"
    assert plan_of("grpo.max_completion_length=300", rows=rows).attention.value == "sdpa"


def test_stage_3_is_not_chosen() -> None:
    large = plan_of(where="a100:4", shape=LLAMA_70B, rows=Rows(100, 0, 100, (100,)))
    assert large.zero_stage.value == 2
    assert "too slow to sample" in large.zero_stage.reason
    assert plan_of(where="h100:2", shape=LLAMA_8B, rows=Rows(100, 0, 100, (100,))).zero_stage.value == 1


def test_processes_share_completions() -> None:
    found = plan_of("training.batch_size=32", where="h100:4", shape=LLAMA_8B, rows=Rows(10, 0, 10, (10,)))
    assert (found.processes, found.batch.micro, found.batch.accumulation) == (4, 8, 1)
    error = conflict("training.batch_size=24", where="h100:5")
    assert error.path == ("training", "batch_size")


@given(st.integers(1, 8), st.integers(2, 32), st.integers(1, 32), st.none() | st.integers(1, 64))
def test_any_batch_is_shared_out_or_refused(devices: int, group: int, prompts: int, micro: int | None) -> None:
    base = recipe_of()
    assert base.grpo is not None
    size = group * prompts
    training = replace(base.training, batch_size=size, micro_batch_size=micro)
    changed = replace(base, training=training, grpo=replace(base.grpo, num_generations=group))
    fits = size % devices == 0 and (micro is None or (size // devices) % micro == 0)
    try:
        batch = plan.make(changed, machine.named(f"h100:{devices}"), LLAMA_8B, Rows(100, 0, 50, (50,))).batch
    except Conflict:
        assert not fits
        return
    assert fits and batch.effective == size == batch.micro * batch.accumulation * batch.processes


def test_a_plan_comes_back_from_its_file() -> None:
    settings: dict[str, Any] = {"where": "h100", "shape": LLAMA_8B, "rows": Rows(100, 10, 50, (20, 50))}
    settled = plan_of("grpo.delta=2.0", "grpo.epsilon_high=0.3", "rewards.0.secrets=[JUDGE]", **settings)
    assert planfile.from_json(planfile.to_json(settled)) == settled
