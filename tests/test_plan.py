"""Plans: the arithmetic of batches and steps, each choice and each conflict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settled import CPU, LLAMA_8B, LLAMA_70B, machine_without, plan_of, recipe_of

from runner import machine, memory, microbatch, plan, recipe
from runner.architecture import Architecture
from runner.choices import Conflict, Rows
from runner.machine import GIB, Device, Machine
from runner.steps import Steps, count

TRAINING = recipe_of().training


def gpus(*kinds: str, flash: bool = False) -> Machine:
    devices = tuple(machine.named(kind).devices[0] for kind in kinds)
    return Machine(devices, 16, 256 * GIB, True, flash, False)


def conflict(*overrides: str, where: Machine | str = CPU, shape: Architecture | None = None) -> Conflict:
    with pytest.raises(Conflict) as caught:
        plan_of(*overrides, where=where, shape=shape)
    assert caught.value.hint
    return caught.value


# batches and steps


@given(
    st.integers(1, 8), st.integers(1, 4096), st.none() | st.integers(1, 64), st.sampled_from([None, LLAMA_8B]),
    st.integers(1, 20_000), st.sampled_from(["h100", "t4"]),
)  # fmt: skip
def test_a_batch_is_shared_out_evenly_or_refused(
    devices: int, size: int, micro: int | None, shape: Architecture | None, longest: int, kind: str
) -> None:
    base = recipe_of()
    changed = replace(base, training=replace(base.training, batch_size=size, micro_batch_size=micro))
    where = machine.named(f"{kind}:{devices}")
    fits = size % devices == 0 and (micro is None or (size // devices) % micro == 0)
    try:
        settled = plan.make(changed, where, shape, Rows(100, 0, longest))
    except Conflict as error:
        assert not fits and error.path[0] == "training"
        return
    batch = settled.batch
    assert fits
    assert batch.effective == size == batch.micro * batch.accumulation * batch.processes
    assert batch.processes == settled.processes == devices
    assert batch.micro == micro if micro else batch.micro * min(longest, 1024) <= 8 * microbatch.UNKNOWN


def test_a_batch_that_cannot_be_shared() -> None:
    error = conflict("training.batch_size=12", where="h100:8")
    assert (error.path, error.hint) == (("training", "batch_size"), "use a multiple of 8")
    error = conflict("training.batch_size=16", "training.micro_batch_size=4", where="h100:8")
    assert (error.path, error.hint) == (("training", "micro_batch_size"), "use a divisor of 2")


@pytest.mark.timeout(20)
def test_the_largest_batch_is_planned_at_once() -> None:
    batch = plan_of(f"training.batch_size={2**63 - 1}").batch
    assert batch.effective == batch.micro * batch.accumulation == 2**63 - 1
    assert batch.micro > 1


def test_rows_set_the_micro_batch() -> None:
    overrides = ("training.batch_size=64", "dataset.max_length=8192")
    short, unknown, empty = (
        plan_of(*overrides, where="h100", shape=LLAMA_8B, rows=rows)
        for rows in (Rows(100, 0, 128), None, Rows(1, 0, 0))
    )
    assert (short.batch.micro, unknown.batch.micro) == (64, 1)
    assert short.memory and unknown.memory and short.memory.total < 80 * GIB
    assert empty.batch.micro == 64


def test_a_row_longer_than_a_micro_batch_may_be_is_taken_alone() -> None:
    batch = plan_of("dataset.max_length=100000").batch
    assert (batch.micro, batch.reason) == (1, "as many rows at a time as fit")


def test_packed_rows_are_as_long_as_rows_may_be() -> None:
    rows = Rows(1000, 0, 64)
    packed = plan_of("training.packing=bfd", "training.batch_size=64", shape=LLAMA_8B, where="h100", rows=rows)
    loose = plan_of("training.packing=none", "training.batch_size=64", shape=LLAMA_8B, where="h100", rows=rows)
    assert packed.batch.micro < loose.batch.micro == 64


@pytest.mark.parametrize(
    ("rows", "size", "epochs", "an_epoch", "total"),
    [(256, 8, 1.0, 32, 32), (257, 8, 1.0, 33, 33), (3, 8, 3.0, 1, 3), (100, 1, 0.07, 100, 7), (10, 1, 1.1, 10, 11),
     (1, 1, 0.01, 1, 1), (0, 8, 1.0, 1, 1), (2, 1, 1e308, 2, 2 * 10**308)],
)  # fmt: skip
def test_steps_of_epochs(rows: int, size: int, epochs: float, an_epoch: int, total: int) -> None:
    steps = count(replace(TRAINING, batch_size=size, epochs=epochs), rows, 0)
    assert (steps.an_epoch, steps.total) == (an_epoch, total)


@given(
    st.integers(0, 10**6), st.integers(1, 512), st.none() | st.integers(1, 10**6), st.floats(1e-3, 100.0),
    st.floats(0.0, 0.999), st.integers(0, 100), st.none() | st.integers(1, 10**6), st.none() | st.integers(1, 10**6),
)  # fmt: skip
def test_counted_steps_are_in_order(
    rows: int,
    size: int,
    most: int | None,
    epochs: float,
    warmup: float,
    held_out: int,
    every: int | None,
    save: int | None,
) -> None:
    checkpoints = recipe.Checkpoints(save, 2, None)
    training = replace(TRAINING, batch_size=size, max_steps=most, epochs=None if most else epochs, warmup_ratio=warmup,
                       evaluate_every=every, checkpoints=checkpoints)  # fmt: skip
    steps = count(training, rows, held_out)
    assert steps.total == most if most else steps.total >= 1
    assert 0 <= steps.warmup < steps.total
    assert 1 <= steps.checkpoint_every <= steps.total
    assert (steps.evaluate_every is None) == (held_out == 0)
    assert steps.evaluate_every is None or 1 <= steps.evaluate_every <= steps.total


def test_warm_up_is_exact_and_leaves_a_step_to_learn() -> None:
    def warmup(ratio: float, total: int) -> int:
        return count(replace(TRAINING, max_steps=total, epochs=None, warmup_ratio=ratio), 10, 0).warmup

    assert [warmup(0.07, 100), warmup(0.03, 10), warmup(0.0, 10), warmup(0.03, 1), warmup(0.99, 2)] == [7, 1, 0, 0, 1]


def test_steps_are_counted_once_the_rows_are() -> None:
    settled = plan_of("training.epochs=2", rows=Rows(100, 10, 50))
    assert settled.steps == Steps(an_epoch=7, total=14, warmup=1, evaluate_every=2, checkpoint_every=2)
    assert plan_of().steps is None


# conflicts


def test_float16_on_a_cpu() -> None:
    assert conflict("model.dtype=float16").path == ("model", "dtype")


def test_bfloat16_on_an_old_device() -> None:
    error = conflict("model.dtype=bfloat16", where="t4")
    assert (error.message, error.path) == ("`t4` does not compute bfloat16", ("model", "dtype"))


@pytest.mark.parametrize(
    ("where", "overrides", "why"),
    [
        (CPU, (), "there is no CUDA device"),
        (gpus("h100"), (), "the package `flash-attn` is not installed"),
        (gpus("h100", "t4", flash=True), (), "`t4` is too old for it"),
        (gpus("h100", flash=True), ("model.dtype=float32",), "it does not compute float32"),
    ],
)
def test_flash_attention_that_cannot_be_used(where: Machine, overrides: tuple[str, ...], why: str) -> None:
    error = conflict("model.attention=flash_attention_2", *overrides, where=where)
    assert (error.message, error.path) == (f"`flash_attention_2` cannot be used: {why}", ("model", "attention"))
    assert plan_of(*overrides, where=where).attention.value == "sdpa"


@pytest.mark.parametrize(
    ("override", "kind", "path"),
    [
        ("adapter.type=qlora", "nf4", ("adapter", "type")),
        ("model.quantization=int8", "int8", ("model", "quantization")),
    ],
)
def test_quantized_weights_need_bitsandbytes_and_a_device(override: str, kind: str, path: tuple[str, ...]) -> None:
    error = conflict(override, where=gpus("h100"))
    assert error.path == path and f"`{kind}` weights need the package `bitsandbytes`" in error.message
    error = conflict(override, where=replace(CPU, bitsandbytes=True))
    assert error.path == path and "CUDA devices only" in error.message
    assert plan_of(override, where="h100").quantization == kind


def test_offloaded_quantized_weights() -> None:
    error = conflict("adapter.type=qlora", "deepspeed.offload=parameters", where="h100")
    assert error.path == ("deepspeed", "offload")


def test_more_processes_than_devices() -> None:
    assert conflict("deepspeed.processes=8", where="h100:4").path == ("deepspeed", "processes")
    assert plan_of("deepspeed.processes=2", where="h100:4").processes == 2
    assert plan_of("deepspeed.processes=2").processes == 2


def test_rows_longer_than_the_model_was_made_for() -> None:
    error = conflict("dataset.max_length=8193", shape=LLAMA_8B)
    assert (error.path, error.hint) == (("dataset", "max_length"), "use 8192 or less")
    assert plan_of("dataset.max_length=8192", shape=LLAMA_8B).max_length.value == 8192


@pytest.mark.parametrize("names", ["[nothing]", "[proj]", "[q_proj.weight]", "[self_attn]"])
def test_targets_that_name_nothing(names: str) -> None:
    error = conflict(f"adapter.target_modules={names}", shape=LLAMA_8B)
    assert error.path == ("adapter", "target_modules")
    assert error.hint is not None and "`self_attn.q_proj`" in error.hint


# choices


def chosen(*overrides: str, where: Machine | str = CPU) -> tuple[Any, ...]:
    settled = plan_of(*overrides, where=where)
    return settled.device, settled.precision.value, settled.attention.value, settled.packing.value


def test_what_a_machine_is_given() -> None:
    assert chosen() == ("cpu", "bfloat16", "sdpa", "none")
    assert chosen(where=replace(CPU, cpu_bfloat16=False)) == ("cpu", "float32", "sdpa", "none")
    assert chosen(where="t4") == ("cuda", "float16", "sdpa", "none")
    assert chosen(where="h100:8") == ("cuda", "bfloat16", "flash_attention_2", "padding_free")
    assert chosen("model.dtype=float32", where="h100") == ("cuda", "float32", "sdpa", "none")


def test_the_weakest_device_in_use_decides() -> None:
    mixed = gpus("h100", "t4", flash=True)
    both, first = plan_of(where=mixed), plan_of("deepspeed.processes=1", where=mixed)
    assert (both.precision.value, both.device_memory) == ("float16", 16 * GIB)
    assert (first.precision.value, first.device_memory, first.attention.value) == (
        "bfloat16", 80 * GIB, "flash_attention_2",
    )  # fmt: skip


def test_what_the_recipe_says_is_done() -> None:
    settled = plan_of(
        "model.dtype=float32", "model.attention=eager", "training.packing=bfd", "training.gradient_checkpointing=false",
        "training.micro_batch_size=2", "deepspeed.zero_stage=0", "dataset.max_length=77",
    )  # fmt: skip
    choices = (settled.precision, settled.attention, settled.packing, settled.gradient_checkpointing,
               settled.zero_stage, settled.max_length)  # fmt: skip
    assert [choice.value for choice in choices] == ["float32", "eager", "bfd", False, 0, 77]
    assert {choice.reason for choice in choices} == {settled.batch.reason} == {"the recipe says so"}


def test_processes_of_a_cpu_share_its_memory() -> None:
    assert plan_of("deepspeed.processes=4", where="cpu:8:32").device_memory == 8 * GIB


@pytest.mark.parametrize(("context", "value"), [(None, 2048), (512, 512), (131072, 8192)])
def test_how_long_a_row_may_be(context: int | None, value: int) -> None:
    settled = plan_of("dataset.max_length=null", shape=replace(LLAMA_8B, context=context), where="h100")
    assert settled.max_length.value == value
    assert plan_of("dataset.max_length=null").max_length.value == 2048


@pytest.mark.parametrize(
    ("shape", "where", "overrides", "stage", "checkpointing"),
    [
        (LLAMA_8B, "h100", (), 1, False),
        (LLAMA_8B, "h100:8", (), 1, False),
        (LLAMA_8B, "t4", (), 1, True),
        (LLAMA_8B, "t4:8", (), 3, False),
        (LLAMA_8B, "t4", ("adapter.type=qlora",), 1, False),
        (LLAMA_70B, "h100", (), 1, True),
        (LLAMA_70B, "h100:8", ("dataset.max_length=8192",), 3, True),
        (LLAMA_70B, "h100:8", ("adapter.type=qlora",), 1, True),
        (LLAMA_70B, "t4:8", ("adapter.type=qlora",), 2, True),
        (None, "h100:8", (), 1, True),
        (LLAMA_8B, "h100", ("training.micro_batch_size=16",), 1, True),
        (LLAMA_8B, "h100", ("deepspeed.offload=parameters",), 3, False),
        (LLAMA_8B, "h100", ("deepspeed.offload=optimizer",), 2, False),
    ],
)
def test_memory_drives_the_stage_and_gradient_checkpointing(
    shape: Architecture | None, where: str, overrides: tuple[str, ...], stage: int, checkpointing: bool
) -> None:
    settled = plan_of(*overrides, where=where, shape=shape)
    assert (settled.zero_stage.value, settled.gradient_checkpointing.value) == (stage, checkpointing)


def test_the_micro_batch_is_the_largest_that_fits() -> None:
    settled = plan_of("training.batch_size=64", where="h100", shape=LLAMA_8B)
    larger = plan_of(
        "training.batch_size=64", f"training.micro_batch_size={2 * settled.batch.micro}",
        "training.gradient_checkpointing=false", where="h100", shape=LLAMA_8B,
    )  # fmt: skip
    room = settled.device_memory * (1 - memory.RESERVE)
    assert settled.memory and larger.memory
    assert settled.memory.total <= room < larger.memory.total


def test_what_does_not_fit_is_said() -> None:
    settled = plan_of(where="h100", shape=LLAMA_70B)
    assert settled.memory and settled.memory.total > settled.device_memory
    assert "may not fit" in settled.batch.reason


def test_the_adapters_parameters() -> None:
    def trainable(*overrides: str) -> int | None:
        return plan_of("adapter.rank=16", *overrides, where="h100", shape=LLAMA_8B).trainable

    # The counts that PEFT gives for Llama-3-8B.
    assert trainable() == 41_943_040
    assert trainable("adapter.target_modules=attention") == 13_631_488
    assert trainable("adapter.target_modules=[q_proj, v_proj]") == 6_815_744
    assert trainable("adapter.target_modules=[self_attn.q_proj, v_proj]") == 6_815_744
    assert trainable("adapter.target_modules=[model.layers.3.self_attn.q_proj]") == 16 * 8192
    assert trainable("adapter.type=dora") == 41_943_040 + 32 * (4096 * 3 + 1024 * 2 + 14336 * 2)


def test_a_model_whose_weights_are_not_here_has_a_context_and_no_size() -> None:
    header_only = Architecture("llama", 0, 4096, 128256, 4096, 0, ())
    settled = plan_of("dataset.max_length=null", shape=header_only, where="h100")
    assert settled.max_length.value == 4096
    assert (settled.parameters, settled.trainable, settled.memory) == (None, None, None)
    assert settled.gradient_checkpointing.value is True


def test_the_hardware_is_named_for_people() -> None:
    assert plan_of(where="h100").device_name == "h100"
    assert plan_of(where="cpu:8:32").device_name == "CPU, 8 cores"
    assert Device("x", 1, 9.0).name == "x"


# optimizers and trackers that cannot work


@pytest.mark.parametrize(
    ("optimizer", "module", "package"),
    [("paged_adamw_8bit", "bitsandbytes", "bitsandbytes"), ("stable_adamw", "optimi", "torch-optimi")],
)
def test_an_optimizer_whose_package_is_missing(optimizer: str, module: str, package: str) -> None:
    assert plan_of(f"training.optimizer={optimizer}").recipe.training.optimizer == optimizer
    with pytest.raises(Conflict, match=f"`{optimizer}` needs the package `{module}`") as caught:
        plan_of(f"training.optimizer={optimizer}", where=machine_without(module))
    assert f"pip install {package}" in str(caught.value.hint)
    assert caught.value.path == ("training", "optimizer")


def test_a_tracker_whose_package_is_missing() -> None:
    with pytest.raises(Conflict, match="`wandb` is not installed") as caught:
        plan_of("tracking.wandb=project", where=machine_without("wandb"))
    assert caught.value.path == ("tracking", "wandb")


def test_an_optimizer_that_needs_parameters_whole() -> None:
    assert plan_of("training.optimizer=galore_adamw").zero_stage.value == 0
    with pytest.raises(Conflict, match="ZeRO lays them end to end"):
        plan_of("training.optimizer=galore_adamw", "deepspeed.zero_stage=2")
    with pytest.raises(Conflict, match="ZeRO lays them end to end"):
        plan_of("training.optimizer=galore_adamw", "deepspeed.offload=optimizer")


@pytest.mark.parametrize("optimizer", ["adagrad", "apollo_adamw"])
def test_an_optimizer_that_needs_float32(optimizer: str) -> None:
    assert plan_of(f"training.optimizer={optimizer}", "model.dtype=float32").zero_stage.value == 0
    with pytest.raises(Conflict, match="DeepSpeed copies bfloat16 ones"):
        plan_of(f"training.optimizer={optimizer}", "model.dtype=bfloat16")


def test_the_devices_of_all_nodes_train() -> None:
    two = replace(machine.named("h100:8"), nodes=2)
    settled = plan_of("training.batch_size=64", where=two, shape=LLAMA_8B)
    assert (settled.nodes, settled.processes, settled.processes_here, settled.batch.processes) == (2, 16, 8, 16)
    assert settled.batch.micro * settled.batch.accumulation * 16 == 64
    some = plan_of("training.batch_size=64", "deepspeed.processes=4", where=two, shape=LLAMA_8B)
    assert (some.processes, some.processes_here) == (4, 2)


@pytest.mark.parametrize(
    ("processes", "message"),
    [(3, "`deepspeed.processes` is 3, which 2 nodes cannot share"), (18, "is 18, and 2 nodes have 16 devices")],
)
def test_processes_that_nodes_cannot_have(processes: int, message: str) -> None:
    with pytest.raises(Conflict, match=message):
        plan_of(
            "training.batch_size=36",
            f"deepspeed.processes={processes}",
            where=replace(machine.named("h100:8"), nodes=2),
        )
