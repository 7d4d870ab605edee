"""The single choices of a plan, each with its reason: what the recipe says, or the best that the machine can do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from runner import image, microbatch, optimizers, recipe
from runner.architecture import Architecture
from runner.errors import listed
from runner.machine import TRACKERS, Device, Machine
from runner.reading.names import OPTIMIZERS
from runner.scores.metrics import needs_answers

DEFAULT_CONTEXT = 2048  # tokens, where neither recipe nor model says how long a row may be
LONGEST_BY_DEFAULT = 8192  # tokens; a longer row has to be asked for with `dataset.max_length`
LONGEST_OF_TEXT = 2048  # tokens, likewise where text is cut into rows that are all of this length
SHORT_ROW = 384  # tokens; up to here plain attention is faster than fused on a CPU (`benchmarks/micro_batch.py`)
LAID_TOGETHER = ("padding_free", "bfd")  # ways of packing in which rows stand behind each other in one pass
QUICK_TOKENS = 1800  # of one micro-batch of completions on a CPU: past its caches, a token costs 15 to 35 % more
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


class Conflict(Exception):
    """The recipe cannot be carried out on this machine. `path` is the key that has to change."""

    def __init__(self, message: str, path: tuple[str, ...], hint: str | None = None) -> None:
        self.message, self.path, self.hint = message, path, hint
        super().__init__(message)


def check_packages(settings: recipe.Recipe, machine: Machine) -> None:
    """Raises `Conflict` where a tracker or the optimizer cannot work here, or comes from a package that is missing."""
    for name in TRACKERS:
        if getattr(settings.tracking, name) and name in machine.missing:
            raise Conflict(
                f"the package `{name}` is not installed",
                ("tracking", name),
                f"{image.package(f'pip install {name}')}, or leave it out",
            )
    optimizer = settings.training.optimizer
    if (refused := optimizers.unusable(optimizer)) is not None:
        raise Conflict(f"`{optimizer}` {refused[0]}", ("training", "optimizer"), refused[1])
    module = OPTIMIZERS[optimizer]
    if module in machine.missing:
        package = optimizers.PACKAGES.get(module, module)
        raise Conflict(
            f"the optimizer `{optimizer}` needs the package `{module}`, which is not installed",
            ("training", "optimizer"),
            f"install it ({image.package(f'pip install {package}')}), or use `adamw_torch`",
        )


def processes_here(processes: int, machine: Machine) -> int:
    """How many of a run's processes each node starts. Raises `Conflict` where its nodes or devices cannot have them."""
    here, uneven = divmod(processes, machine.nodes)
    if uneven:
        raise Conflict(
            f"`deepspeed.processes` is {processes}, which {machine.nodes} nodes cannot share evenly",
            ("deepspeed", "processes"),
            "it counts the processes of all nodes; leave the key out to use every device of each",
        )
    if machine.devices and here > len(machine.devices):
        where = "this machine has" if machine.nodes == 1 else f"{machine.nodes} nodes have"
        raise Conflict(
            f"`deepspeed.processes` is {processes}, and {where} {len(machine.devices) * machine.nodes} devices",
            ("deepspeed", "processes"),
            "one process takes one device; leave the key out to use them all",
        )
    return here


def with_tokens(architecture: Architecture, tokens: int) -> Architecture:
    """The model's shape with so many new tokens."""
    matrices = 1 if architecture.tied else 2
    return replace(
        architecture,
        vocabulary=architecture.vocabulary + tokens,
        parameters=architecture.parameters + tokens * architecture.hidden * matrices,
    )


def trainable(adapter: recipe.Adapter, architecture: Architecture) -> int:
    """How many parameters are trained. Raises `Conflict` where an adapter would go nowhere."""
    if adapter.type == "full":
        return architecture.parameters
    matrices = architecture.adapted(adapter.target_modules)
    if architecture.matrices and not matrices:
        known = listed(dict.fromkeys(matrix.name for matrix in architecture.matrices))
        raise Conflict(
            "the model has no layer that `adapter.target_modules` names",
            ("adapter", "target_modules"),
            f"it has {known}",
        )
    per_output = 1 if adapter.type == "dora" else 0  # DoRA learns one magnitude for each output as well
    embeddings = architecture.vocabulary * architecture.hidden * (1 if architecture.tied else 2)
    return embeddings * adapter.train_embeddings + sum(
        matrix.count * (adapter.rank * (matrix.inputs + matrix.outputs) + per_output * matrix.outputs)
        for matrix in matrices
    )


def precision(settings: recipe.Recipe, machine: Machine, used: tuple[Device, ...]) -> Choice:
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


def check_optimizer(settings: recipe.Recipe, device: str, precision: str) -> None:
    """Raises `Conflict` where the optimizer does not step on that device, or not on DeepSpeed's float32 copies."""
    optimizer = settings.training.optimizer
    if optimizer in optimizers.ON_CUDA and device != "cuda":
        raise Conflict(
            f"`{optimizer}` steps on a GPU alone, and there is none",
            ("training", "optimizer"),
            "use `galore_adamw`, or `adamw_8bit`, which a processor takes too",
        )
    if optimizer.startswith(optimizers.OWN_PARAMETERS) and precision != "float32":
        raise Conflict(
            f"`{optimizer}` keeps its state with the parameters, and DeepSpeed copies {precision} ones",
            ("training", "optimizer"),
            "set `model.dtype: float32`, or use another optimizer",
        )


def check_skipping(settings: recipe.Recipe, precision: str, stage: int) -> None:
    """Raises `Conflict` where a step would be taken though its gradient is not a number."""
    if settings.training.non_finite == "skip" and (precision, stage) == ("float32", 0):
        message = "at ZeRO stage 0 in float32 no step can be passed over"
        raise Conflict(message, ("training", "non_finite"), "set `deepspeed.zero_stage: 1`, or `non_finite: stop`")


def attention(
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


def quantization(settings: recipe.Recipe, machine: Machine) -> str:
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


def engine(settings: recipe.Recipe, machine: Machine) -> Choice | None:
    """What writes the completions of GRPO; None for other tasks."""
    if settings.grpo is None:
        return None
    asked, lacking = settings.grpo.engine, None
    if "vllm" in machine.missing:
        lacking = "the package `vllm` is not installed"
    elif not machine.devices and not machine.vllm_for_cpus:
        lacking = "there is no CUDA device, and `vllm` is not its build for CPUs"
    if asked == "vllm" and lacking:
        raise Conflict(f"vLLM cannot be used: {lacking}", ("grpo", "engine"), "`auto` takes what there is")
    if asked != "auto":
        return Choice(asked, "the recipe says so")
    return Choice("transformers", f"no vLLM: {lacking}" if lacking else "the weights are where they are trained")


def with_completions(grpo: recipe.Grpo | None, rows: Rows | None) -> Rows | None:
    """The rows as long as they are once every prompt has the longest completion behind it."""
    if grpo is None or rows is None:
        return rows
    most = grpo.max_completion_length
    return replace(rows, longest=rows.longest + most, lengths=tuple(length + most for length in rows.lengths))


def is_quick(grpo: recipe.Grpo | None, device: str, tokens: int) -> bool:
    """Whether a micro-batch of completions is not past the size from which a CPU takes longer for each token."""
    return grpo is None or device != "cpu" or tokens <= QUICK_TOKENS


def packing(settings: recipe.Recipe, attention: str) -> Choice:
    if settings.grpo is not None:
        return Choice("none", "completions are not packed")
    asked = settings.training.packing
    if settings.task == "continued_pretraining" and asked != "document":
        reason = "the recipe says so" if asked == "wrapped" else "documents are joined and cut into full rows"
        return Choice("wrapped", reason)
    if asked == "document" and attention == "flash_attention_2":
        return Choice("padding_free", "flash attention keeps the documents of a micro-batch apart without padding")
    if asked == "document":
        return Choice("none", f"with `{attention}` a document has a row of its own, or several where it is long")
    if asked != "auto":
        return Choice(asked, "the recipe says so")
    if attention == "flash_attention_2":
        return Choice("padding_free", "flash attention keeps the rows of a micro-batch apart without padding")
    return Choice("none", f"with `{attention}` rows sorted by length in each step are faster than packed ones")


def max_length(settings: recipe.Recipe, architecture: Architecture | None) -> Choice:
    asked, context = settings.dataset.max_length, architecture.context if architecture else None
    if settings.grpo is not None:
        return _prompt_and_completion(settings.grpo, context)
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
    if settings.task == "continued_pretraining" and context > LONGEST_OF_TEXT:
        reason = f"the model can take {context}, but every row is this long, and a step holds a batch of them"
        return Choice(LONGEST_OF_TEXT, f"{reason}; longer ones have to be asked for")
    if context > LONGEST_BY_DEFAULT:
        return Choice(LONGEST_BY_DEFAULT, f"the model can take {context}; longer rows have to be asked for")
    return Choice(context, "what the model was made for")


def _prompt_and_completion(grpo: recipe.Grpo, context: int | None) -> Choice:
    """The tokens that the longest prompt and the longest completion have together."""
    completion, prompt = grpo.max_completion_length, grpo.max_prompt_length
    together = completion + (prompt or 1)
    if context is not None and together > context:
        raise Conflict(
            f"the longest prompt and completion have {together} tokens together, and the model was made for {context}",
            ("grpo", "max_completion_length" if prompt is None else "max_prompt_length"),
            f"use {context} or less for `max_prompt_length` and `max_completion_length` together",
        )
    if prompt is not None:
        return Choice(together, f"{prompt} of the prompt and {completion} of the completion")
    limit = min(context or DEFAULT_CONTEXT, LONGEST_BY_DEFAULT)
    return Choice(max(limit, completion + 1), f"with {completion} of the completion, what the model can take")


def zero_stage(settings: recipe.Recipe, processes: int, quantization: str, fits: Any) -> Choice:
    asked, offload = settings.deepspeed.zero_stage, settings.deepspeed.offload
    optimizer = settings.training.optimizer
    if optimizer.startswith(optimizers.WHOLE_PARAMETERS):
        if asked or offload != "none":
            raise Conflict(
                f"`{optimizer}` needs every parameter whole, and ZeRO lays them end to end",
                ("deepspeed", "zero_stage" if asked else "offload"),
                "set `deepspeed.zero_stage: 0` and no `offload`, or use another optimizer",
            )
        return Choice(0, f"`{optimizer}` needs every parameter whole")
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
    stopping = settings.training.early_stopping
    if settings.grpo is not None or (stopping is not None and needs_answers(stopping.metric)):
        return Choice(2, "the gradients do not fit on one device, and stage 3 is too slow to sample at")
    if fits(micro, 2, checkpointing):
        return Choice(2, "the gradients do not fit on one device")
    if quantization != "none":
        return Choice(2, f"the model does not fit on one device, and `{quantization}` weights cannot be shared out")
    return Choice(3, "the model does not fit on one device")


def gradient_checkpointing(settings: recipe.Recipe, architecture: Architecture | None, fits: Any) -> Choice:
    asked = settings.training.gradient_checkpointing
    if asked != "auto":
        return Choice(asked == "true", "the recipe says so")
    if architecture is None:
        return Choice(True, "the model's size is not known yet")
    if fits():
        return Choice(False, "a step fits into memory without it, and it costs a second forward pass")
    return Choice(True, "a step does not fit into memory without it")


def batch(
    settings: recipe.Recipe, processes: int, longest: int, rows: Rows | None, overhead: int, packing: str, fits: Any
) -> Batch:
    """How the rows of a step are computed; `overhead` is the fixed share of a micro-batch in tokens."""
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
    fitting = microbatch.choose(share, processes, lengths, overhead, padded, fits)
    if fitting is None:
        return Batch(effective, 1, share, processes, "one row at a time is the least, and may not fit")
    if fitting == share:
        return Batch(effective, share, 1, processes, "all rows of a step at once")
    uneven = padded and lengths[0] != lengths[-1]
    reason = "the least padding that is worth its passes" if uneven else "as many rows at a time as fit"
    return Batch(effective, fitting, share // fitting, processes, reason)
