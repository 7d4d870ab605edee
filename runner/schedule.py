"""A recipe's scheduler and the length of its run -> the settings that transformers makes the scheduler with.

Some of transformers' schedulers cannot be made by their name alone; what they demand is filled in here.
"""

from __future__ import annotations

from runner.recipe import Training

Setting = tuple[str, float | int | str | bool]

BY_EVALUATION = ("reduce_lr_on_plateau", "greedy")  # change the rate after an evaluation, by its loss
WITHOUT_WARMUP = ("constant", *BY_EVALUATION)
LOWEST_SHARE = 0.1  # of the highest rate, where a scheduler asks for its lowest
DECAY_SHARE = 0.2  # of a run's steps, where a scheduler asks how many decay


def settings(training: Training, total: int, warmup: int) -> tuple[Setting, ...]:
    """The scheduler's settings for a run of `total` optimizer steps, of which `warmup` warm up, sorted by name."""
    chosen = dict(training.scheduler_settings)
    highest = training.learning_rate
    if training.scheduler in ("cosine_with_min_lr", "cosine_warmup_with_min_lr"):
        if "min_lr" not in chosen:
            chosen.setdefault("min_lr_rate", LOWEST_SHARE)
    elif training.scheduler == "warmup_stable_decay":
        chosen.setdefault("num_decay_steps", max(round(DECAY_SHARE * total), 1))
        chosen["num_decay_steps"] = min(int(chosen["num_decay_steps"]), max(total - warmup, 1))
    elif training.scheduler == "greedy":
        # its own bounds, 0.001 to 1, are for training from nothing; they would lift an adapter's rate
        chosen.setdefault("max_lr", highest)
        chosen.setdefault("min_lr", LOWEST_SHARE * highest)
    return tuple(sorted(chosen.items()))
