"""A recipe -> what it needs of its surroundings, so that what it does not need is no fault."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runner.machine import Machine
from runner.optimizers import PACKAGES
from runner.reading.names import OPTIMIZERS
from runner.recipe import Recipe
from runner.trackers import names


@dataclass(frozen=True)
class Needs:
    """What has to be there. Packages go by the names that they are installed under."""

    output: Path  # the run's directory, or the folder that runs are in
    processes: int
    packages: frozenset[str] = frozenset()  # beside those that every training needs
    devices: bool = False  # CUDA devices: a CPU will not do
    reads_hub: bool = False  # the model, the data or an adapter is named by a Hub id
    pushes: bool = False
    gguf: bool = False  # the model is a GGUF file, which is converted once
    rewards: bool = False
    disk: int = 0  # bytes of the run's checkpoints; 0 where it is not known


def without_recipe(folder: Path, machine: Machine) -> Needs:
    """What any training on this machine needs; runs go to `outputs` in a working directory."""
    return Needs(folder / "outputs", max(len(machine.devices), 1))


def of(recipe: Recipe, machine: Machine) -> Needs:
    """What this recipe needs on this machine."""
    quantized = recipe.model.quantization != "none" or recipe.adapter.type == "qlora"
    flash = recipe.model.attention == "flash_attention_2"
    vllm = recipe.grpo is not None and recipe.grpo.engine == "vllm"
    module = OPTIMIZERS[recipe.training.optimizer]
    packages = {
        *(["flash-attn"] if flash else []),
        *(["bitsandbytes"] if quantized else []),
        *(["vllm"] if vllm else []),
        *([PACKAGES.get(module, module)] if module else []),
        *names(recipe.tracking),
    }
    sources = [source.path for source in (*recipe.dataset.train, *recipe.dataset.evaluation)]
    named = [recipe.model.name, *sources, *([recipe.adapter.continue_from] if recipe.adapter.continue_from else [])]
    return Needs(
        output=Path(recipe.output.directory) / recipe.name,
        processes=recipe.deepspeed.processes or max(len(machine.devices), 1),
        packages=frozenset(packages),
        devices=quantized or flash,
        reads_hub=any(not name.startswith("/") and not Path(name).exists() for name in named),
        pushes=recipe.output.hub is not None,
        gguf=recipe.model.name.endswith(".gguf"),
        rewards=bool(recipe.rewards or recipe.evaluation.rewards),
    )
