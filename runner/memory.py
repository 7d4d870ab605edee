"""How much memory a device needs at its peak, by part, before anything is loaded.

An estimate from the model's shape and the plan's numbers, in bytes. It counts what must be held; a library's
own buffers and the fragmentation of an allocator come on top, which is what `RESERVE` is for.
"""

from __future__ import annotations

from dataclasses import dataclass

from runner.architecture import Architecture

RESERVE = 0.15  # share of a device's memory that is left to the libraries and the allocator
VLLM_SHARE = 0.3  # that vLLM takes where it samples: its own weights, and what it keeps of prompts and completions
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTIZED_BYTES = {"int8": 1.05, "nf4": 0.56}  # a weight, with its share of the scales
OPTIMIZER_STATES = {"sgd": 0, "rmsprop": 1, "adagrad": 1, "adafactor": 1, "lion_32bit": 1, "lomo": 0}
BESIDE = 16 * 1024**2  # bytes of a checkpoint for a tokenizer, the state of a run, and names
LOGIT_CHUNK = 1024  # learned tokens whose logits are held at a time
NORM_AND_ROPE = 8  # vectors of the hidden size that a layer keeps for its backward pass, beside its matrices'


@dataclass(frozen=True)
class Load:
    """What the estimate depends on, beside the model."""

    precision: str
    quantization: str
    zero_stage: int
    offload: str
    processes: int
    optimizer: str
    trainable: int  # parameters
    rank: int
    tokens: int  # of one micro-batch, padding included
    checkpointing: bool
    full: bool = False  # whether the model's own weights are trained, and there is no adapter


@dataclass(frozen=True)
class Memory:
    """Bytes a device holds at the peak of a training step, by part."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.gradients + self.optimizer + self.activations + self.logits


def estimate(architecture: Architecture, load: Load) -> Memory:
    """The peak of one training step on one device."""
    width = BYTES[load.precision]
    stage, processes = load.zero_stage, load.processes
    weight = QUANTIZED_BYTES.get(load.quantization, width)
    weights = architecture.parameters * weight / (processes if stage == 3 else 1)
    if load.offload == "parameters":
        weights = 0.0
    states = OPTIMIZER_STATES.get(load.optimizer, 2)
    master = 4 if width < 4 else 0  # DeepSpeed steps on float32 copies of lower precision parameters
    optimizer = load.trainable * (4 * states + master) / (processes if stage >= 1 else 1)
    if load.offload != "none":
        optimizer = 0.0
    return Memory(
        weights=int(weights),
        adapter=0 if load.full else load.trainable * width,
        gradients=int(load.trainable * 4 / (processes if stage >= 2 else 1)),
        optimizer=int(optimizer),
        activations=int(load.tokens * activation_bytes(architecture, load)),
        logits=int(min(load.tokens, LOGIT_CHUNK) * architecture.vocabulary * (width + 2 * 4)),
    )


def checkpoint(load: Load) -> int:
    """The bytes of a checkpoint on the disk: what is trained, once for the adapter and once for DeepSpeed, and the
    optimizer's state of all processes. The frozen weights are not in it."""
    width = BYTES[load.precision]
    states = 4 * OPTIMIZER_STATES.get(load.optimizer, 2)
    copies = 4 if load.zero_stage or width < 4 else 0  # float32 copies that DeepSpeed steps on
    whole = width if load.zero_stage < 3 else 0
    return load.trainable * (width + whole + states + copies) + BESIDE


def activation_bytes(architecture: Architecture, load: Load) -> float:
    """Bytes that one token keeps for the backward pass through all layers.

    A frozen linear layer keeps nothing for itself; its adapter keeps its input and the `rank` numbers between its
    two matrices, and the attention and the gate keep what they multiply. With checkpointing a layer keeps its
    input alone, and one layer at a time is computed again.
    """
    width = BYTES[load.precision]
    layers = max(architecture.layers, 1)
    outputs = sum(matrix.outputs * matrix.count for matrix in architecture.matrices) / layers
    inputs = sum(matrix.inputs * matrix.count for matrix in architecture.matrices) / layers
    # What is multiplied with a trained matrix is kept; behind a norm it is one input of several matrices.
    kept = inputs * 3 / 4 if load.full else inputs / 2
    ranks = 0 if load.full else load.rank * sum(matrix.count for matrix in architecture.matrices) / layers
    layer = (NORM_AND_ROPE * architecture.hidden + outputs + kept + ranks) * width
    if load.checkpointing:
        return layers * architecture.hidden * width + layer
    return layers * layer
