"""Which settings a run may be gone on with in another form, where the person who runs it says so."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from runner.errors import Place, Problem, RecipeError, RunError, listed

# By the names that a checkpoint's settings have. What is not among them would give a mixture of two runs, or is held by
# the checkpoint in the old form. A name stands for all below it.
MAY_CHANGE = (
    "adapter.dropout",
    "grpo.beta",
    "grpo.delta",
    "grpo.epsilon",
    "grpo.epsilon_high",
    "grpo.importance_sampling_level",
    "grpo.loss_type",
    "grpo.mask_truncated_completions",
    "grpo.min_p",
    "grpo.repetition_penalty",
    "grpo.scale_rewards",
    "grpo.temperature",
    "grpo.top_entropy_quantile",
    "grpo.top_k",
    "grpo.top_p",
    "rewards",
    "total_steps",
    "training.gradient_checkpointing",
    "training.learning_rate",
    "training.micro_batch_size",
    "training.warmup_ratio",
)
# What a recipe calls what a checkpoint knows by another name.
AS_WRITTEN = {"training.max_steps": "total_steps", "training.epochs": "total_steps"}


def check(asked: Sequence[str]) -> None:
    """Raise RecipeError for names that may not change."""
    wrong = [name for name in asked if not _is_among(name, MAY_CHANGE)]
    if wrong:
        raise RecipeError(
            [Problem(f"`{name}` cannot change in the middle of a run", Place("--allow-change")) for name in wrong[:-1]]
            + [
                Problem(
                    f"`{wrong[-1]}` cannot change in the middle of a run",
                    Place("--allow-change"),
                    f"these can: {listed(MAY_CHANGE)}",
                )
            ]
        )


def judge(what: str, changed: Sequence[str], allowed: Collection[str]) -> None:
    """Raise RunError where more than what is allowed has changed; `what` it belongs to begins the sentence."""
    refused = [name for name in changed if not _is_among(name, allowed)]
    if not refused:
        return
    hint = "give this run another `name`, or delete its output directory to start again"
    if all(_is_among(name, MAY_CHANGE) for name in refused):
        options = " ".join(
            f"--allow-change {name}" for name in sorted({AS_WRITTEN.get(name, name) for name in changed})
        )
        hint += f"; `{options}` goes on from there all the same"
    raise RunError(Problem(f"{what}: {listed(refused)}", hint=hint))


def _is_among(name: str, names: Collection[str]) -> bool:
    known = AS_WRITTEN.get(name, name)
    return any(known == AS_WRITTEN.get(each, each) or known.startswith(f"{each}.") for each in names)
