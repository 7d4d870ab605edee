"""Optimizers that no run can use, or none on this machine: the plan says why."""

from __future__ import annotations

import pytest
from settled import machine_without, plan_of

from runner.choices import Conflict


@pytest.mark.parametrize("optimizer", ["lomo", "adalomo", "galore_adamw_layerwise"])
def test_an_optimizer_that_steps_while_deepspeed_does(optimizer: str) -> None:
    with pytest.raises(Conflict, match="in the middle of the backward pass"):
        plan_of(f"training.optimizer={optimizer}")


@pytest.mark.parametrize(
    ("optimizer", "why"),
    [("schedule_free_sgd", "other weights than it evaluates with"), ("grokadamw", "where no checkpoint finds it")],
)
def test_an_optimizer_that_would_lose_what_it_learned(optimizer: str, why: str) -> None:
    with pytest.raises(Conflict, match=f"^`{optimizer}` .*{why}") as caught:
        plan_of(f"training.optimizer={optimizer}", where=machine_without())
    assert caught.value.path == ("training", "optimizer")


def test_an_optimizer_that_steps_on_a_gpu_alone() -> None:
    with pytest.raises(Conflict, match="^`galore_adamw_8bit` steps on a GPU alone") as caught:
        plan_of("training.optimizer=galore_adamw_8bit", where=machine_without())
    assert caught.value.path == ("training", "optimizer")
