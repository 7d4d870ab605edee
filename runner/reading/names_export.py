"""The installed transformers -> `names.py`, the schedulers and optimizers that a recipe can name.

Run `python -m runner.reading.names_export` after a change of version. What cannot be used by its name alone is left
out.
"""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).with_name("names.py")
LOW_RANK = ("galore_", "apollo_")  # project whole weight matrices, which a LoRA adapter does not train; need a list


def schedulers() -> list[str]:
    """Schedulers that take nothing but the number of steps, and no score at each one."""
    import torch
    from transformers import SchedulerType, get_scheduler

    usable = []
    for name in SchedulerType:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        try:
            scheduler = get_scheduler(name, optimizer, num_warmup_steps=1, num_training_steps=4)
            optimizer.step()
            scheduler.step()
        except (TypeError, ValueError):
            continue
        usable.append(name.value)
    return usable


def optimizers() -> list[str]:
    """Optimizers that need no list of modules beside their name. Some of them need a package of their own."""
    from transformers.training_args import OptimizerNames

    return [name.value for name in OptimizerNames if not name.value.startswith(LOW_RANK)]


def text() -> str:
    """The whole of `names.py`."""
    parts = ['"""What transformers calls its schedulers and optimizers. Made by `names_export.py` beside it."""\n']
    for title, names in (("SCHEDULERS", schedulers()), ("OPTIMIZERS", optimizers())):
        parts.append(f"{title} = (\n" + "".join(f'    "{name}",\n' for name in names) + ")\n")
    return "\n".join(parts)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
