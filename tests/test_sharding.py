"""DeepSpeed's settings: the plan's numbers, stages and offloading, and a person's own laid over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settled import plan_of

from runner import sharding
from runner.choices import Conflict


def settings(*overrides: str, where: str = "h100:4") -> dict[str, Any]:
    return sharding.settings(plan_of("training.batch_size=32", *overrides, where=where))


@pytest.mark.parametrize("stage", range(4))
def test_stages(stage: int) -> None:
    found = settings(f"deepspeed.zero_stage={stage}")
    assert found["zero_optimization"] == {"stage": stage}
    assert found["data_types"]["grad_accum_dtype"] == ("fp32" if stage else None)


def test_the_batch_is_the_plans() -> None:
    found = settings("training.micro_batch_size=2", "training.max_grad_norm=0.3")
    assert found["train_batch_size"] == 32
    assert (found["train_micro_batch_size_per_gpu"], found["gradient_accumulation_steps"]) == (2, 4)
    assert found["gradient_clipping"] == 0.3


@pytest.mark.parametrize(
    ("where", "overrides", "bf16", "fp16"),
    [("h100", (), True, False), ("t4", (), False, True), ("h100", ("model.dtype=float32",), False, False)],
)
def test_precision(where: str, overrides: tuple[str, ...], bf16: bool, fp16: bool) -> None:
    found = settings(*overrides, where=where)
    assert (found["bf16"]["enabled"], found["fp16"]["enabled"]) == (bf16, fp16)


def test_offloading() -> None:
    pinned = {"device": "cpu", "pin_memory": True}
    assert settings("deepspeed.offload=optimizer")["zero_optimization"] == {"stage": 2, "offload_optimizer": pinned}
    assert settings("deepspeed.offload=parameters")["zero_optimization"] == {
        "stage": 3, "offload_optimizer": pinned, "offload_param": pinned,
    }  # fmt: skip
    on_cpu = settings("deepspeed.offload=optimizer", where="cpu:4:16")["zero_optimization"]
    assert on_cpu["offload_optimizer"] == {"device": "cpu", "pin_memory": False}


def test_a_persons_settings_are_laid_over_ours(tmp_path: Path) -> None:
    theirs = {"gradient_clipping": 5, "zero_optimization": {"overlap_comm": False}, "comms_logger": {"enabled": True}}
    (tmp_path / "ds.json").write_text(json.dumps(theirs))
    ours = settings("deepspeed.zero_stage=2")
    found = settings("deepspeed.zero_stage=2", f"deepspeed.config={tmp_path / 'ds.json'}")
    assert found == ours | {
        "gradient_clipping": 5,
        "zero_optimization": {"stage": 2, "overlap_comm": False},
        "comms_logger": {"enabled": True},
    }


NESTED = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=5)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), NESTED)


@given(MAPPINGS, MAPPINGS)
def test_what_is_laid_over_wins_and_the_rest_stays(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    merged = sharding.merge(ours, theirs)
    assert sharding.merge(merged, theirs) == merged
    assert sharding.merge(ours, {}) == sharding.merge({}, ours) == ours
    assert merged.keys() == ours.keys() | theirs.keys()
    for key, value in merged.items():
        if key not in theirs:
            assert value == ours[key]
        elif not (isinstance(theirs[key], dict) and isinstance(ours.get(key), dict)):
            assert value == theirs[key]


def test_deepspeed_takes_the_settings() -> None:
    from deepspeed.runtime.config import DeepSpeedConfig

    for overrides in ((), ("deepspeed.zero_stage=3",), ("deepspeed.offload=parameters",)):
        found = settings(*overrides, where="cpu:4:16")
        taken = DeepSpeedConfig(found | {"train_micro_batch_size_per_gpu": 32, "gradient_accumulation_steps": 1})
        assert taken.zero_config.stage == found["zero_optimization"]["stage"]
        assert taken.gradient_clipping == 1.0


@pytest.mark.parametrize("block", [5, None, [1], "auto"])
def test_a_block_of_settings_that_is_none(tmp_path: Path, block: Any) -> None:
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": block}))
    with pytest.raises(Conflict, match=r"`zero_optimization` in `ds\.json` is .*, not an object"):
        sharding.check(str(tmp_path / "ds.json"))
