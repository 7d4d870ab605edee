"""Every metric by its name: what it is computed from, and which way is better. The recipe's choice is made of these."""

from __future__ import annotations

from collections.abc import Callable

from runner.scores.read_answers import numeric_match
from runner.scores.texts import exact_match, json_match, json_valid
from runner.scores.words import rouge_l, token_f1

# An answer and the wanted one -> 0 to 1; None where the wanted one has nothing that the metric could compare.
OF_TEXTS: dict[str, Callable[[str, str], float | None]] = {
    "exact_match": exact_match,
    "json_valid": json_valid,
    "json_match": json_match,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
    "numeric_match": numeric_match,
}
CHOICE = "choice_accuracy"  # looks at the prompt too
SCHEMA = "json_schema"  # looks at a schema, and at no wanted answer
OF_CALLS = ("call_parsed", "call_name", "call_arguments", "call_match", "no_call_precision", "no_call_recall")
BY_LOSS = ("loss", "perplexity")  # computed from the held-out rows' tokens, without generating
BY_REWARDS = "reward"
OF_A_REWARD = f"{BY_REWARDS}/"  # before the name of a reward, whose mean score is a metric too
GENERATED = (*OF_TEXTS, CHOICE, SCHEMA, *OF_CALLS)
METRICS = (*BY_LOSS, *GENERATED, BY_REWARDS)
LOWER_IS_BETTER = BY_LOSS


def of_reward(name: str) -> str:
    """What the score of a reward is called among the metrics."""
    return f"{OF_A_REWARD}{name}"


def needs_answers(metric: str) -> bool:
    """Whether a model has to write answers before the metric can be told."""
    return metric not in BY_LOSS
