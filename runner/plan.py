"""A recipe and a machine in, a settled run out: every choice made, with its reason, before torch is imported.

`make` is pure. What it needs to know of the world (the machine, the model's shape, how many rows there are) is
passed in; what it decides is not decided again anywhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from runner import memory, microbatch, recipe
from runner.architecture import Architecture
from runner.errors import listed
from runner.machine import Device, Machine
from runner.memory import Load, Memory

DEFAULT_CONTEXT = 2048  # tokens, where neither recipe nor model says how long a row may be
LONGEST_BY_DEFAULT = 8192  # tokens; a longer row has to be asked for with `dataset.max_length`
SHORT_ROW = 384  # tokens; up to here plain attention is faster than fused on a CPU (`benchmarks/micro_batch.py`)
EVALUATIONS = 10  # of a run at most, where the recipe does not say how often
EVALUATION_SHARE = 0.25  # of a run's computation that may go into them; a row costs a third of a row that is learned
CHECKPOINT_STEPS = 50  # between two checkpoints, at most, where the recipe does not say
AMPERE = 8.0  # the CUDA compute capability from which on bfloat16 and flash attention can be computed


@dataclass(frozen=True)
class Choice:
    """A value that the plan settled, and why it is this one."""

    value: str | int | bool
    reason: str


@dataclass(frozen=True)
class Rows:
    """How many rows there are, how many tokens the longest has, and lengths that stand for those of all."""

    train: int
    evaluation: int
    longest: int
    lengths: tuple[int, ...] = ()  # of training rows, ascending


@dataclass(frozen=True)
class Batch:
    """effective = micro × accumulation × processes, in rows an optimiser step."""

    effective: int
    micro: int
    accumulation: int
    processes: int
    reason: str


@dataclass(frozen=True)
class Steps:
    """Optimiser steps."""

    an_epoch: int
    total: int
    warmup: int
    evaluate_every: int | None
    checkpoint_every: int


@dataclass(frozen=True)
class Plan:
    """A settled run. What is None is not known before the model or the data is here."""

    recipe: recipe.Recipe
    directory: str  # where the run writes
    device: str  # cpu | cuda
    device_name: str
    device_memory: int  # bytes a process may use
    processes: int
    batch: Batch
    max_length: Choice
    precision: Choice
    attention: Choice
    packing: Choice
    gradient_checkpointing: Choice
    zero_stage: Choice
    quantization: str
    trainable: int | None  # parameters
    parameters: int | None
    rows: Rows | None
    steps: Steps | None
    memory: Memory | None


class Conflict(Exception):
    """The recipe cannot be carried out on this machine. `path` is the key that has to change."""

    def __init__(self, message: str, path: tuple[str, ...], hint: str | None = None) -> None:
        self.message, self.path, self.hint = message, path, hint
        super().__init__(message)


def make(
    settings: recipe.Recipe, machine: Machine, architecture: Architecture | None = None, rows: Rows | None = None
) -> Plan:
    """Settle the run. Raises `Conflict` where the machine cannot do what the recipe asks for."""
    device = "cuda" if machine.devices else "cpu"
    processes = settings.deepspeed.processes or max(len(machine.devices), 1)
    if machine.devices and processes > len(machine.devices):
        raise Conflict(
            f"`deepspeed.processes` is {processes}, and this machine has {len(machine.devices)} devices",
            ("deepspeed", "processes"),
            "one process takes one device; leave the key out to use them all",
        )
    used = machine.devices[:processes]
    precision = _precision(settings, machine, used)
    attention = _attention(settings, machine, used, str(precision.value), rows)
    quantization = _quantization(settings, machine)
    packing = _packing(settings, str(attention.value))
    length = _max_length(settings, architecture)
    if architecture and not architecture.parameters:
        architecture = None  # its weights are not here: what follows needs their sizes
    trainable = _trainable(settings.adapter, architecture) if architecture else 0
    device_memory = min((device.memory for device in used), default=machine.memory // processes)
    longest = int(length.value)
    if rows is not None and packing.value != "bfd":  # which fills every row up to the longest that may be
        longest = max(min(longest, rows.longest), 1)

    def load(micro: int, stage: int, checkpointing: bool) -> Load:
        return Load(
            precision=str(precision.value),
            quantization=quantization,
            zero_stage=stage,
            offload=settings.deepspeed.offload,
            processes=processes,
            optimizer=settings.training.optimizer,
            trainable=trainable,
            rank=settings.adapter.rank,
            tokens=micro * longest,
            checkpointing=checkpointing,
        )

    def fits(micro: int, stage: int, checkpointing: bool) -> bool:
        if architecture is None:
            return True
        needed = memory.estimate(architecture, load(micro, stage, checkpointing)).total
        return needed <= device_memory * (1 - memory.RESERVE)

    zero_stage = _zero_stage(settings, processes, quantization, fits)
    stage = int(zero_stage.value)
    asked = settings.training.micro_batch_size or 1
    checkpointing = _gradient_checkpointing(settings, architecture, lambda: fits(asked, stage, False))
    batch = _batch(
        settings,
        processes,
        longest,
        rows,
        device,
        str(packing.value),
        lambda micro: fits(micro, stage, bool(checkpointing.value)),
    )
    estimate = (
        memory.estimate(architecture, load(batch.micro, stage, bool(checkpointing.value))) if architecture else None
    )
    return Plan(
        recipe=settings,
        directory=str(Path(settings.output.directory) / settings.name),
        device=device,
        device_name=used[0].name if used else f"CPU, {machine.cores} cores",
        device_memory=device_memory,
        processes=processes,
        batch=batch,
        max_length=length,
        precision=precision,
        attention=attention,
        packing=packing,
        gradient_checkpointing=checkpointing,
        zero_stage=zero_stage,
        quantization=quantization,
        trainable=trainable if architecture else None,
        parameters=architecture.parameters if architecture else None,
        rows=rows,
        steps=count_steps(settings.training, rows.train, rows.evaluation) if rows else None,
        memory=estimate,
    )


def count_steps(training: recipe.Training, rows: int, evaluation_rows: int) -> Steps:
    """The run in optimiser steps, for so many rows to learn from."""
    an_epoch = max(-(-rows // training.batch_size), 1)
    total = training.max_steps or max(math.ceil(an_epoch * _exact(training.epochs or 1.0)), 1)
    every = training.checkpoints.every or max(min(CHECKPOINT_STEPS, math.ceil(total / EVALUATIONS)), 1)
    evaluate = None
    if evaluation_rows:
        affordable = int(3 * EVALUATION_SHARE * total * training.batch_size / evaluation_rows)
        often = max(min(affordable, EVALUATIONS), 1)
        evaluate = min(training.evaluate_every or math.ceil(total / often), total)
    # The learning rate of a step that warms up begins at 0: a run of one step would learn nothing.
    warmup = min(math.ceil(_exact(training.warmup_ratio) * total), total - 1)
    return Steps(an_epoch, total, warmup, evaluate, min(every, total))


def _exact(number: float) -> Fraction:
    """The number as it was written: 0.07 × 100 is 7, and not a little more, which would be rounded up to 8."""
    return Fraction(repr(number))


def _trainable(adapter: recipe.Adapter, architecture: Architecture) -> int:
    """How many parameters the adapter has. Raises `Conflict` where it would go nowhere."""
    matrices = architecture.adapted(adapter.target_modules)
    if architecture.matrices and not matrices:
        known = listed(dict.fromkeys(matrix.name for matrix in architecture.matrices))
        raise Conflict(
            "the model has no layer that `adapter.target_modules` names",
            ("adapter", "target_modules"),
            f"it has {known}",
        )
    per_output = 1 if adapter.type == "dora" else 0  # DoRA learns one magnitude for each output as well
    return sum(
        matrix.count * (adapter.rank * (matrix.inputs + matrix.outputs) + per_output * matrix.outputs)
        for matrix in matrices
    )


def _precision(settings: recipe.Recipe, machine: Machine, used: tuple[Device, ...]) -> Choice:
    asked = settings.model.dtype
    weakest = min(used, key=lambda device: device.capability, default=None)
    if asked != "auto":
        if asked == "float16" and weakest is None:
            raise Conflict("`float16` cannot be trained on a CPU", ("model", "dtype"), "use `bfloat16` or `float32`")
        if asked == "bfloat16" and weakest is not None and weakest.capability < AMPERE:
            raise Conflict(
                f"`{weakest.name}` does not compute bfloat16", ("model", "dtype"), "use `float16` or `float32`"
            )
        return Choice(asked, "the recipe says so")
    if weakest is not None:
        if weakest.capability >= AMPERE:
            return Choice("bfloat16", "every device computes it")
        return Choice("float16", "the device does not compute bfloat16")
    if machine.cpu_bfloat16:
        return Choice("bfloat16", "this processor computes it, faster than float32")
    return Choice("float32", "this processor does not compute bfloat16")


def _attention(
    settings: recipe.Recipe, machine: Machine, used: tuple[Device, ...], precision: str, rows: Rows | None
) -> Choice:
    asked = settings.model.attention
    old = next((device.name for device in used if device.capability < AMPERE), None)
    lacking = None
    if not used:
        lacking = "there is no CUDA device"
    elif not machine.flash_attention:
        lacking = "the package `flash-attn` is not installed"
    elif old is not None:
        lacking = f"`{old}` is too old for it"
    elif precision == "float32":
        lacking = "it does not compute float32"
    if asked == "flash_attention_2" and lacking:
        raise Conflict(
            f"`flash_attention_2` cannot be used: {lacking}", ("model", "attention"), "`auto` takes the best there is"
        )
    if asked != "auto":
        return Choice(asked, "the recipe says so")
    if lacking is None:
        return Choice("flash_attention_2", "the package `flash-attn` is installed")
    if used:
        return Choice("sdpa", f"no flash attention: {lacking}")
    if rows is not None and rows.longest <= SHORT_ROW:
        return Choice("eager", f"on a CPU the fastest for rows of up to {SHORT_ROW} tokens")
    return Choice("sdpa", "on a CPU the fastest for long rows")


def _quantization(settings: recipe.Recipe, machine: Machine) -> str:
    asked = settings.model.quantization
    quantization = "nf4" if settings.adapter.type == "qlora" and asked == "none" else asked
    if quantization == "none":
        return quantization
    path = ("adapter", "type") if settings.adapter.type == "qlora" else ("model", "quantization")
    if not machine.bitsandbytes:
        raise Conflict(
            f"`{quantization}` weights need the package `bitsandbytes`, which is not installed",
            path,
            "install `bitsandbytes`, or use `adapter.type: lora` without `model.quantization`",
        )
    if not machine.devices:
        raise Conflict(
            f"`{quantization}` weights are trained on CUDA devices only, and this machine has none",
            path,
            "use `adapter.type: lora` without `model.quantization`",
        )
    return quantization


def _packing(settings: recipe.Recipe, attention: str) -> Choice:
    asked = settings.training.packing
    if asked != "auto":
        return Choice(asked, "the recipe says so")
    if attention == "flash_attention_2":
        return Choice("padding_free", "flash attention keeps the rows of a micro-batch apart without padding")
    return Choice("none", f"with `{attention}` rows sorted by length in each step are faster than packed ones")


def _max_length(settings: recipe.Recipe, architecture: Architecture | None) -> Choice:
    asked, context = settings.dataset.max_length, architecture.context if architecture else None
    if asked is not None:
        if context is not None and asked > context:
            raise Conflict(
                f"`dataset.max_length` is {asked}, and the model was made for {context} tokens",
                ("dataset", "max_length"),
                f"use {context} or less",
            )
        return Choice(asked, "the recipe says so")
    if context is None:
        return Choice(DEFAULT_CONTEXT, "what the model can take is not known yet")
    if context > LONGEST_BY_DEFAULT:
        return Choice(LONGEST_BY_DEFAULT, f"the model can take {context}; longer rows have to be asked for")
    return Choice(context, "what the model was made for")


def _zero_stage(settings: recipe.Recipe, processes: int, quantization: str, fits: Any) -> Choice:
    asked, offload = settings.deepspeed.zero_stage, settings.deepspeed.offload
    if asked is not None:
        return Choice(asked, "the recipe says so")
    if offload == "parameters" and quantization != "none":
        raise Conflict(
            f"`offload: parameters` needs ZeRO stage 3, which cannot share out `{quantization}` weights",
            ("deepspeed", "offload"),
            "use `offload: optimizer`",
        )
    if offload == "parameters":
        return Choice(3, "parameters can be offloaded at stage 3 only")
    if offload == "optimizer":
        return Choice(2, "the optimiser's state can be offloaded from stage 1 on")
    checkpointing = settings.training.gradient_checkpointing != "false"
    micro = settings.training.micro_batch_size or 1
    if processes == 1:
        return Choice(1, "one process has nothing to share, and gradients are summed in float32")
    if fits(micro, 1, checkpointing):
        return Choice(1, "the model fits on each device, and gradients are summed in float32")
    if fits(micro, 2, checkpointing):
        return Choice(2, "the gradients do not fit on one device")
    if quantization != "none":
        return Choice(2, f"the model does not fit on one device, and `{quantization}` weights cannot be shared out")
    return Choice(3, "the model does not fit on one device")


def _gradient_checkpointing(settings: recipe.Recipe, architecture: Architecture | None, fits: Any) -> Choice:
    asked = settings.training.gradient_checkpointing
    if asked != "auto":
        return Choice(asked == "true", "the recipe says so")
    if architecture is None:
        return Choice(True, "the model's size is not known yet")
    if fits():
        return Choice(False, "a step fits into memory without it, and it costs a second forward pass")
    return Choice(True, "a step does not fit into memory without it")


def _batch(
    settings: recipe.Recipe, processes: int, longest: int, rows: Rows | None, device: str, packing: str, fits: Any
) -> Batch:
    effective, asked = settings.training.batch_size, settings.training.micro_batch_size
    if effective % processes:
        raise Conflict(
            f"`training.batch_size` is {effective}, which {processes} processes cannot share evenly",
            ("training", "batch_size"),
            f"use a multiple of {processes}",
        )
    share = effective // processes
    if asked is not None:
        if share % asked:
            raise Conflict(
                f"a process has {share} rows a step, which is no multiple of `training.micro_batch_size` {asked}",
                ("training", "micro_batch_size"),
                f"use a divisor of {share}",
            )
        return Batch(effective, asked, share // asked, processes, "the recipe says so")
    lengths = rows.lengths if rows and rows.lengths else (longest,)
    padded = packing == "none"
    fitting = microbatch.choose(share, processes, lengths, device, padded, fits)
    if fitting is None:
        return Batch(effective, 1, share, processes, "one row at a time is the least, and may not fit")
    if fitting == share:
        return Batch(effective, share, 1, processes, "all rows of a step at once")
    uneven = padded and lengths[0] != lengths[-1]
    reason = "the least padding that is worth its passes" if uneven else "as many rows at a time as fit"
    return Batch(effective, fitting, share // fitting, processes, reason)
