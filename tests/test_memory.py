"""The estimate of memory: it adds up, grows with what makes it grow, and ZeRO divides the right parts."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settled import LLAMA_8B, LLAMA_70B

from runner import memory
from runner.memory import Load, Memory
from runner.reading import names

LOAD = Load(
    precision="bfloat16", quantization="none", zero_stage=1, offload="none", processes=8, optimizer="adamw_torch",
    trainable=41_943_040, rank=16, tokens=4096, checkpointing=False,
)  # fmt: skip
LOADS = st.builds(
    Load,
    precision=st.sampled_from(sorted(memory.BYTES)),
    quantization=st.sampled_from(["none", *memory.QUANTIZED_BYTES]),
    zero_stage=st.integers(0, 3),
    offload=st.sampled_from(["none", "optimizer", "parameters"]),
    processes=st.integers(1, 64),
    optimizer=st.sampled_from(sorted(names.OPTIMIZERS)),
    trainable=st.integers(0, 10**9),
    rank=st.integers(1, 1024),
    tokens=st.integers(1, 10**6),
    checkpointing=st.booleans(),
)


def estimate(load: Load = LOAD, **changes: Any) -> Memory:
    return memory.estimate(LLAMA_8B, replace(load, **changes))


@given(LOADS)
def test_the_parts_add_up(load: Load) -> None:
    found = estimate(load)
    assert found.total == sum(astuple(found))
    assert all(part >= 0 for part in astuple(found))


@given(LOADS, st.integers(0, 10**6))
def test_more_takes_more(load: Load, more: int) -> None:
    total = estimate(load).total
    assert estimate(load, tokens=load.tokens + more).total >= total
    assert estimate(load, rank=load.rank + more).total >= total
    assert estimate(load, trainable=load.trainable + more).total >= total
    assert memory.estimate(LLAMA_70B, load).total >= total


@given(LOADS)
def test_what_saves_memory_takes_less(load: Load) -> None:
    total = estimate(load).total
    assert estimate(load, checkpointing=True).total <= total
    assert estimate(load, processes=load.processes + 1).total <= total
    assert estimate(load, quantization="nf4").total <= estimate(load, quantization="int8").total
    kept, half, most = (estimate(load, offload=moved).total for moved in ("none", "optimizer", "parameters"))
    assert most <= half <= kept
    stages = [estimate(load, zero_stage=stage).total for stage in range(4)]
    assert stages == sorted(stages, reverse=True)


def test_each_stage_shares_out_one_part_more() -> None:
    none, states, gradients, weights = (estimate(zero_stage=stage) for stage in range(4))
    assert states == replace(none, optimizer=none.optimizer // 8)
    assert gradients == replace(states, gradients=none.gradients // 8)
    assert weights == replace(gradients, weights=none.weights // 8)


def test_offloading_takes_parts_away() -> None:
    none = estimate(zero_stage=3)
    assert estimate(zero_stage=3, offload="optimizer") == replace(none, optimizer=0)
    assert estimate(zero_stage=3, offload="parameters") == replace(none, optimizer=0, weights=0)


def test_weights_and_states_by_hand() -> None:
    found = estimate(processes=1)
    assert found.weights == 2 * 8_030_261_248
    assert found.adapter == 2 * LOAD.trainable
    assert found.gradients == 4 * LOAD.trainable
    assert found.optimizer == (2 * 4 + 4) * LOAD.trainable  # Adam's two moments, and a float32 copy
    assert estimate(processes=1, precision="float32").optimizer == 2 * 4 * LOAD.trainable
    assert estimate(processes=1, optimizer="sgd").optimizer == 4 * LOAD.trainable
    assert found.logits == 1024 * 128256 * (2 + 8)
    assert estimate(tokens=1).logits == 128256 * 10


def test_checkpointing_keeps_the_inputs_of_layers_and_one_layer() -> None:
    kept = 32 * 4096 * 2
    whole = memory.activation_bytes(LLAMA_8B, LOAD)
    assert memory.activation_bytes(LLAMA_8B, replace(LOAD, checkpointing=True)) == pytest.approx(kept + whole / 32)


@pytest.mark.parametrize(
    ("changes", "width"),
    [
        ({}, 2 + 2 + 8 + 4),  # the adapter twice, two states, and copies of it
        ({"precision": "float32"}, 4 + 4 + 8 + 4),
        ({"precision": "float32", "zero_stage": 0}, 4 + 4 + 8),
        ({"zero_stage": 3}, 2 + 8 + 4),
        ({"optimizer": "sgd"}, 2 + 2 + 4),
    ],
)
def test_a_checkpoint_holds_what_is_trained_and_the_optimizer(changes: dict[str, Any], width: int) -> None:
    assert memory.checkpoint(replace(LOAD, **changes)) == 41_943_040 * width + memory.BESIDE
