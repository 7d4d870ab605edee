"""The installed transformers and TRL -> `names.py`: the schedulers, optimizers and losses that a recipe can name.

Run `python -m runner.reading.names_export` after a change of version.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path

FILE = Path(__file__).with_name("names.py")
# What the run itself knows: the optimizer, the steps of the run and of its warmup, and that a lower loss is better.
OURS = ("optimizer", "num_warmup_steps", "num_training_steps", "num_stable_steps", "last_epoch", "mode", "verbose")


def schedulers() -> dict[str, list[str]]:
    """Every scheduler, with the names of the settings that it takes."""
    from torch.optim.lr_scheduler import ReduceLROnPlateau
    from transformers import SchedulerType
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, GreedyLR

    passed_on = {SchedulerType.REDUCE_ON_PLATEAU: ReduceLROnPlateau, SchedulerType.GREEDY: GreedyLR}
    makers = {name: passed_on.get(name, maker) for name, maker in TYPE_TO_SCHEDULER_FUNCTION.items()}
    return {
        name.value: [setting for setting in inspect.signature(makers[name]).parameters if setting not in OURS]
        for name in SchedulerType
    }


def optimizers() -> dict[str, str | None]:
    """Every optimizer, with the module that it is imported from where that is none of torch or transformers."""
    from transformers import trainer_optimizer as makers
    from transformers.training_args import OptimizerNames

    modules = {
        "bitsandbytes": makers._BITSANDBYTES_OPTIMIZERS,
        "torchao": makers._TORCHAO_OPTIMIZERS,
        "galore_torch": makers._GALORE_OPTIMIZERS,
        "apollo_torch": makers._APOLLO_OPTIMIZERS,
        "schedulefree": makers._SCHEDULE_FREE_OPTIMIZERS,
        "lomo_optim": ["lomo", "adalomo"],
        "grokadamw": ["grokadamw"],
        "optimi": ["stable_adamw"],
        "torchdistx": ["adamw_anyprecision"],
        "torch_xla": ["adamw_torch_xla"],
        "torch_npu": ["adamw_torch_npu_fused"],
    }
    needed = {str(getattr(name, "value", name)): module for module, names in modules.items() for name in names}
    return {name.value: needed.get(name.value) for name in OptimizerNames}


def losses() -> list[str]:
    """Every GRPO loss: what TRL's trainer compares its `loss_type` with."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    names: set[str] = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(GRPOTrainer._compute_loss)))):
        if isinstance(node, ast.Compare) and ast.unparse(node.left) == "self.loss_type":
            constants = (each for each in ast.walk(node.comparators[0]) if isinstance(each, ast.Constant))
            names.update(str(constant.value) for constant in constants)
    return sorted(names)


def text() -> str:
    """The whole of `names.py`."""
    parts = ['"""The schedulers and optimizers of transformers, and the losses of TRL. Made by `names_export.py`."""\n']
    lines = "".join(f'    "{name}": {_words(settings)},\n' for name, settings in schedulers().items())
    parts.append(f"SCHEDULERS: dict[str, tuple[str, ...]] = {{\n{lines}}}\n")
    lines = "".join(f'    "{name}": {_word(module)},\n' for name, module in optimizers().items())
    parts.append(f"OPTIMIZERS: dict[str, str | None] = {{\n{lines}}}\n")
    parts.append("LOSSES = (\n" + "".join(f'    "{name}",\n' for name in losses()) + ")\n")
    return "\n".join(parts)


def _word(word: str | None) -> str:
    return "None" if word is None else f'"{word}"'


def _words(words: list[str]) -> str:
    """The words as a tuple, in the form that the formatter gives one."""
    quoted = [f'"{word}"' for word in words]
    short = f"({', '.join(quoted)}{',' if len(quoted) == 1 else ''})"
    return short if len(short) < 80 else "(\n" + "".join(f"        {word},\n" for word in quoted) + "    )"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
