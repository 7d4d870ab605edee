"""What may be drawn, against what transformers' own rules leave."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from runner import drawing
from runner.drawing import Sampling

NO_END: frozenset[int] = frozenset()
LIMITS = [{}, {"top_p": 0.8}, {"top_k": 7}, {"top_k": 5, "top_p": 0.7}, {"min_p": 0.1}]
LIMITS += [{"top_p": 0.95, "min_p": 0.2}, {"top_k": 1}, {"top_p": 1e-6}, {"top_k": 10**6}]


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("vocabulary", [30, 3000])
def test_what_may_be_drawn_is_what_transformers_leaves(limits: dict[str, Any], vocabulary: int) -> None:
    """Flat rows, where more tokens are needed than are looked at first, peaked rows, and rows with ties."""
    torch.manual_seed(1)
    logits = torch.randn(4, vocabulary) * torch.tensor([[0.01], [1.0], [4.0], [2.0]])
    logits[3, : vocabulary // 2] = 9
    rules = LogitsProcessorList([TemperatureLogitsWarper(1.3)])
    if "top_k" in limits:
        rules.append(TopKLogitsWarper(limits["top_k"]))
    if "top_p" in limits:
        rules.append(TopPLogitsWarper(limits["top_p"]))
    if "min_p" in limits:
        rules.append(MinPLogitsWarper(limits["min_p"]))
    expected = rules(torch.zeros(4, 1, dtype=torch.long), logits).double().softmax(-1)

    even = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    settings = Sampling(1, NO_END, temperature=1.3, **limits)
    for row in range(4):
        if row == 3 and "top_p" in limits:
            continue  # which of several equally likely tokens top_p leaves is left open
        chosen = drawing.choose(logits[row].expand(len(even), -1), settings, even)
        shares = torch.bincount(chosen, minlength=vocabulary).double() / len(even)
        assert (shares - expected[row]).abs().max() < 1.1 / len(even)


def test_what_cannot_be_drawn_is_not_drawn_at_the_edges_either() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]]).expand(2, -1)
    draws = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert drawing.choose(logits, Sampling(1, NO_END), draws).tolist() == [1, 2]


@pytest.mark.parametrize("limits", [{}, {"top_p": 0.9}, {"top_k": 3}, {"min_p": 0.1}])
def test_a_model_that_has_broken_down_still_names_tokens(limits: dict[str, Any]) -> None:
    """The loss will be no number either, and that is said where the loss is looked at."""
    logits = torch.tensor([[torch.nan] * 5, [0.0, torch.nan, 1.0, 2.0, 3.0]])
    chosen = drawing.choose(logits, Sampling(1, NO_END, **limits), torch.tensor([0.3, 0.9], dtype=torch.float64))
    assert ((chosen >= 0) & (chosen < 5)).all()
