"""A recipe and a machine in, a settled run out: every choice made, with its reason, before torch is imported.

`make` is pure. What it needs to know of the world (the machine, the model's shape, how many rows there are) is
passed in; what it decides is not decided again anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runner import choices, memory, microbatch, recipe, steps
from runner.architecture import Architecture
from runner.choices import Batch, Choice, Rows
from runner.machine import Machine
from runner.memory import Load, Memory


@dataclass(frozen=True)
class Plan:
    """A settled run. What is None is not known before the model or the data is here."""

    recipe: recipe.Recipe
    directory: str  # where the run writes
    device: str  # cpu | cuda
    device_name: str
    device_memory: int  # bytes a process may use
    nodes: int  # machines that train together
    processes: int  # on all nodes
    batch: Batch
    max_length: Choice
    precision: Choice
    attention: Choice
    packing: Choice
    engine: Choice | None  # of GRPO: what writes the completions
    gradient_checkpointing: Choice
    zero_stage: Choice
    quantization: str
    trainable: int | None  # parameters
    parameters: int | None
    rows: Rows | None
    steps: steps.Steps | None
    memory: Memory | None
    checkpoint: int | None  # bytes on the disk
    allowed: tuple[str, ...] = ()  # settings that may be others than those of the checkpoint which a run goes on from

    @property
    def processes_here(self) -> int:
        """How many of the processes each node starts."""
        return self.processes // self.nodes

    @property
    def checkpoints(self) -> int:
        """How many checkpoints there are at once at most: those that stay, the best one, and one that is written."""
        evaluates = self.steps is not None and self.steps.evaluate_every is not None
        return self.recipe.training.checkpoints.keep + int(evaluates) + 1


def make(
    settings: recipe.Recipe, machine: Machine, architecture: Architecture | None = None, rows: Rows | None = None
) -> Plan:
    """Settle the run. Raises `Conflict` where the machine cannot do what the recipe asks for."""
    device = "cuda" if machine.devices else "cpu"
    processes = settings.deepspeed.processes or max(len(machine.devices), 1) * machine.nodes
    here = choices.processes_here(processes, machine)
    used = machine.devices[:here]
    sizes = choices.with_completions(settings.grpo, rows)
    choices.check_packages(settings, machine)
    precision = choices.precision(settings, machine, used)
    choices.check_optimizer(settings, device, str(precision.value))
    attention = choices.attention(settings, machine, used, str(precision.value), sizes)
    quantization = choices.quantization(settings, machine)
    packing = choices.packing(settings, str(attention.value))
    length = choices.max_length(settings, architecture)
    if architecture and not architecture.parameters:
        architecture = None  # its weights are not here: what follows needs their sizes
    if architecture and settings.model.add_tokens:
        architecture = choices.with_tokens(architecture, len(settings.model.add_tokens))
    trainable = choices.trainable(settings.adapter, architecture) if architecture else 0
    device_memory = min((device.memory for device in used), default=machine.memory // here)
    engine = choices.engine(settings, machine)
    taken = memory.VLLM_SHARE if engine is not None and engine.value == "vllm" else 0.0
    longest = int(length.value)
    if sizes is not None and packing.value != "bfd":  # which fills every row up to the longest that may be
        longest = max(min(longest, sizes.longest), 1)

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
            full=settings.adapter.type == "full",
        )

    def fits(micro: int, stage: int, checkpointing: bool) -> bool:
        if architecture is None:
            return True
        needed = memory.estimate(architecture, load(micro, stage, checkpointing)).total
        return needed <= device_memory * (1 - memory.RESERVE - taken)

    zero_stage = choices.zero_stage(settings, processes, quantization, fits)
    stage = int(zero_stage.value)
    choices.check_skipping(settings, str(precision.value), stage)
    asked = settings.training.micro_batch_size or 1
    checkpointing = choices.gradient_checkpointing(settings, architecture, lambda: fits(asked, stage, False))
    batch = choices.batch(
        settings,
        processes,
        longest,
        sizes,
        microbatch.overhead(device, *((architecture.layers, architecture.parameters) if architecture else (0, 0))),
        str(packing.value),
        lambda micro: (
            fits(micro, stage, bool(checkpointing.value))
            and (micro == 1 or choices.is_quick(settings.grpo, device, micro * longest))
        ),
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
        nodes=machine.nodes,
        processes=processes,
        batch=batch,
        max_length=length,
        precision=precision,
        attention=attention,
        packing=packing,
        engine=engine,
        gradient_checkpointing=checkpointing,
        zero_stage=zero_stage,
        quantization=quantization,
        trainable=trainable if architecture else None,
        parameters=architecture.parameters if architecture else None,
        rows=rows,
        steps=steps.count(settings.training, rows.train, _evaluated(settings, rows), settings.grpo) if rows else None,
        memory=estimate,
        checkpoint=memory.checkpoint(load(batch.micro, stage, bool(checkpointing.value))) if architecture else None,
    )


def _evaluated(settings: recipe.Recipe, rows: Rows) -> int:
    """The held-out rows that an evaluation during training takes."""
    return rows.evaluation if settings.grpo is None else min(rows.evaluation, settings.evaluation.samples)
