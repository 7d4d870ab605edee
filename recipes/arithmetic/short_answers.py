"""Rewards of one's own: what `recipes/grpo_own_rewards.yaml` names. One function of each convention."""

from __future__ import annotations

import re
from typing import Any


def right(prompt: str, completion: str, example: dict[str, Any], *, exact: float = 1.0) -> float:
    """One completion a call. Full marks for the sum itself, a fifth for any number at all."""
    numbers = re.findall(r"-?\d+", completion)
    if not numbers:
        return 0.0
    return exact if int(numbers[-1]) == example["answer"] else 0.2


def brief(prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
    """All completions of a step in one call, as TRL passes them. Every character costs a little."""
    return [max(0.0, 1.0 - len(completion) / 40) for completion in completions]
