"""A plan in, DeepSpeed's settings out (https://www.deepspeed.ai/docs/config-json/)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runner.choices import Conflict
from runner.data import strict_json
from runner.plan import Plan

# What the plan settles by the recipe's own keys, and what else depends on.
SETTLED = {
    "train_batch_size": "training.batch_size",
    "train_micro_batch_size_per_gpu": "training.micro_batch_size",
    "gradient_accumulation_steps": "training.micro_batch_size",
    "gradient_clipping": "training.max_grad_norm",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "optimizer": "training.optimizer",
    "scheduler": "training.scheduler",
    "zero_optimization.stage": "deepspeed.zero_stage",
    "zero_optimization.offload_optimizer": "deepspeed.offload",
    "zero_optimization.offload_param": "deepspeed.offload",
}

LARGEST_BUCKET = 500_000_000  # numbers whose gradients are gathered in one buffer: DeepSpeed's own default

Settings = dict[str, Any]


def settings(plan: Plan) -> Settings:
    """The dictionary that DeepSpeed is initialised with; `deepspeed.config` of the recipe is laid over ours.

    In bfloat16 and float16 DeepSpeed keeps float32 copies of what is trained, so an adapter does not lose small
    updates. From stage 1 on gradients are summed in float32 as well; stage 0 refuses that.
    """
    recipe, stage, precision = plan.recipe, plan.zero_stage.value, plan.precision.value
    ours: Settings = {
        "train_batch_size": plan.batch.effective,
        "train_micro_batch_size_per_gpu": plan.batch.micro,
        "gradient_accumulation_steps": plan.batch.accumulation,
        "gradient_clipping": recipe.training.max_grad_norm,
        "steps_per_print": 2**31,
        "bf16": {"enabled": precision == "bfloat16"},
        "fp16": {"enabled": precision == "float16"},
        "data_types": {"grad_accum_dtype": "fp32" if stage != 0 else None},
        "zero_optimization": {"stage": stage},
        # transformers' own optimisers are used, on a CPU as well: DeepSpeed's would compile C++ at the first step.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    if plan.trainable:
        # DeepSpeed allocates the whole buffer before training: a gigabyte or two, however small an adapter is.
        ours["zero_optimization"]["reduce_bucket_size"] = min(plan.trainable, LARGEST_BUCKET)
    if recipe.adapter.type == "full" and stage == 3:
        ours["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True  # or no weights are saved
    offload = recipe.deepspeed.offload
    if offload in ("optimizer", "parameters"):
        ours["zero_optimization"]["offload_optimizer"] = {"device": "cpu", "pin_memory": plan.device == "cuda"}
    if offload == "parameters":
        ours["zero_optimization"]["offload_param"] = {"device": "cpu", "pin_memory": plan.device == "cuda"}
    if recipe.deepspeed.config is None:
        return ours
    theirs: Settings = json.loads(Path(recipe.deepspeed.config).read_text(encoding="utf-8"))
    return merge(ours, theirs)


def check(config: str | None) -> None:
    """Raise Conflict where a DeepSpeed file sets what the recipe has keys for, which would be two answers to one
    question."""
    if config is None:
        return
    theirs = json.loads(Path(config).read_text(encoding="utf-8"))
    zero = theirs.get("zero_optimization", {})
    if not isinstance(zero, dict):
        raise Conflict(
            f"`zero_optimization` in `{Path(config).name}` is {strict_json.kind(zero)}, not an object",
            ("deepspeed", "config"),
        )
    flat = {*theirs, *(f"zero_optimization.{key}" for key in zero)}
    found = sorted(flat & set(SETTLED))
    if found:
        keys = ", ".join(f"`{SETTLED[name]}` for `{name}`" for name in found)
        raise Conflict(
            f"`{Path(config).name}` sets {', '.join(f'`{name}`' for name in found)}, which the recipe settles",
            ("deepspeed", "config"),
            f"use {keys}",
        )


def merge(ours: Settings, theirs: Settings) -> Settings:
    """Theirs over ours, block by block."""
    merged = dict(ours)
    for key, value in theirs.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged
