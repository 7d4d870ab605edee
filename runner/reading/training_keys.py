"""The keys of `training`, in the words of `keys.py`."""

from __future__ import annotations

from runner.reading.kinds import (
    UNSET,
    Keys,
    choice,
    choice_or,
    key,
    number,
    section,
    switch_or_auto,
    whole,
    whole_or_auto,
)
from runner.reading.names import OPTIMIZERS, SCHEDULERS
from runner.scores.metrics import BY_LOSS, BY_REWARDS, GENERATED, OF_A_REWARD

CURVES = ("linear", "cosine", "1-sqrt")
PACKINGS = ("auto", "none", "padding_free", "bfd", "wrapped", "document")

EARLY_STOPPING: Keys = {
    "metric": choice_or(
        "What has to get better: `loss`, one of `evaluation.metrics`, or `reward/NAME` for one of the rewards.",
        OF_A_REWARD,
        *BY_LOSS,
        *GENERATED,
        BY_REWARDS,
        default="loss",
    ),
    "patience": whole("Evaluations without a better value before the run stops.", 1, default=3),
    "min_delta": number("How much better a value has to be to count as such.", min=0, default=0.0),
}

SCHEDULER_SETTINGS: Keys = {
    "num_cycles": number("The waves of a cosine, or how often it restarts.", above=0, max=10_000, **UNSET),
    "lr_end": number("The learning rate that `polynomial` ends at.", min=0, max=1, **UNSET),
    "power": number("The power of `polynomial`.", above=0, max=100, **UNSET),
    "timescale": whole(
        "The steps in which `inverse_sqrt` falls by the root of two; the warmup's by default.", 1, **UNSET
    ),
    "min_lr": number("The lowest learning rate.", min=0, max=1, **UNSET),
    "min_lr_rate": number(
        "The lowest learning rate, as a share of the highest; 0.1 by default.", min=0, max=1, **UNSET
    ),
    "min_lr_ratio": number("The learning rate that a decay ends at, as a share of the highest.", min=0, max=1, **UNSET),
    "warmup_lr_rate": number("Where the warmup begins, as a share of the highest rate.", min=0, max=1, **UNSET),
    "num_decay_steps": whole("The steps at the end that decay; a fifth of the run by default.", 1, **UNSET),
    "warmup_type": choice("The form of the warmup.", *CURVES, **UNSET),
    "decay_type": choice("The form of the decay.", *CURVES, **UNSET),
    "factor": number(
        "What the learning rate is multiplied by when the loss gets no better.", above=0, below=1, **UNSET
    ),
    "patience": whole("Evaluations without a better loss before the rate changes.", 0, **UNSET),
    "threshold": number("How much lower a loss has to be to count as better.", min=0, **UNSET),
    "threshold_mode": choice("Whether `threshold` is a share of the loss or a difference.", "rel", "abs", **UNSET),
    "cooldown": whole("Evaluations to wait after the rate was lowered.", 0, **UNSET),
    "warmup": whole("Evaluations to wait after `greedy` raised the rate.", 0, **UNSET),
    "max_lr": number("The highest rate that `greedy` may choose; `learning_rate` by default.", above=0, max=1, **UNSET),
    "eps": number("Changes of the rate that are smaller are not made.", min=0, **UNSET),
    "smooth": key("boolean", "Let `greedy` look at the mean of the latest losses.", **UNSET),
    "window_size": whole("How many losses that mean is taken of.", 1, **UNSET),
    "reset_start": whole("Evaluations at the lowest rate before `greedy` begins anew; 0 is never.", 0, **UNSET),
}

CHECKPOINTS: Keys = {
    "every": whole("Optimizer steps from one checkpoint to the next.", 1, nullable=True, default=None),
    "keep": whole("How many of the newest checkpoints stay.", 1, default=2),
    "minutes": number("Also save when so many minutes have gone by.", above=0, nullable=True, default=None),
}

TRAINING: Keys = {
    "epochs": number(
        "How many times each row is seen; 3 unless `max_steps` is set.", above=0, max=100_000, default_setter="epochs"
    ),
    "max_steps": whole(
        "Stop after so many optimizer steps, in place of `epochs`.", 1, 1_000_000_000, nullable=True, default=None
    ),
    "learning_rate": number("The highest learning rate.", above=0, max=1, default=2e-4),
    "embedding_learning_rate": number(
        "The rate of `train_embeddings`; a tenth of the other by default.", above=0, max=1, **UNSET
    ),
    "scheduler": choice("How the learning rate changes over the run.", *SCHEDULERS, default="cosine"),
    "scheduler_settings": section(
        "What the scheduler takes beside the length of the run, by its names in transformers.",
        SCHEDULER_SETTINGS,
        default={},
    ),
    "warmup_ratio": number("The share of the steps that warm up.", min=0, below=1, default=0.03),
    "optimizer": choice("The optimizer, by its name in transformers.", *OPTIMIZERS, default="adamw_torch"),
    "weight_decay": number("The weight decay.", min=0, default=0.0),
    "max_grad_norm": number("Gradients are scaled down to this norm; 0 leaves them alone.", min=0, default=1.0),
    "batch_size": whole("Rows an optimizer step, over all devices.", 1, default=16),
    "micro_batch_size": whole_or_auto("Rows a device takes at a time.", 1),
    "packing": choice("How short rows share a pass, and documents a row.", *PACKINGS, default="auto"),
    "gradient_checkpointing": switch_or_auto("Compute activations twice to save memory."),
    "seed": whole("The seed of everything random.", 0, 2**32 - 1, default=42),
    "log_every": whole("Optimizer steps from one logged step to the next.", 1, default=1),
    "evaluate_every": whole("Optimizer steps from one evaluation to the next.", 1, nullable=True, default=None),
    "early_stopping": section(
        "Stop when a metric of the evaluation rows gets no better; the best checkpoint is the result.",
        EARLY_STOPPING,
        nullable=True,
        default=None,
    ),
    "checkpoints": section("When checkpoints are saved, and how many stay.", CHECKPOINTS, default={}),
    "non_finite": choice(
        "What a step is met with whose loss or gradient is not a number.", "stop", "skip", default="stop"
    ),
    "stall_timeout": number(
        "Minutes after which a training is ended in which no process gets on; `null` waits for ever.",
        above=0,
        nullable=True,
        default=30,
    ),
}
