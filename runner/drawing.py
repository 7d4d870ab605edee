"""Logits and evenly spread numbers in, tokens out: temperature, top_k, top_p, min_p and a penalty, as transformers
understands them, without sorting a whole vocabulary for every token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

CANDIDATES = 1024  # likeliest tokens that are looked at first where `top_p` or `top_k` is set
BLOCK = 256  # tokens of the vocabulary whose likelihoods are summed before a place among them is looked for
BELOW_ONE = 1 - 2**-53


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Defaults change nothing about the model's own distribution.

    `new_tokens` is the most that a completion may have, `ends` are the tokens that finish one. A temperature of 0
    takes the likeliest token. A penalty above 1 makes tokens less likely that are in the prompt or the completion.
    """

    new_tokens: int
    ends: frozenset[int]
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


def choose(
    logits: torch.Tensor, settings: Sampling, draws: torch.Tensor, seen: torch.Tensor | None = None
) -> torch.Tensor:
    """One token per row, (rows,).

    `logits` are (rows, vocabulary) in float32, `draws` are (rows,) evenly spread over [0, 1), `seen` marks the
    tokens that the penalty is for. As transformers does: the penalty first, then temperature, top_k, top_p, min_p.
    """
    if seen is not None:
        penalty = settings.repetition_penalty
        logits = torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
    if settings.temperature == 0:
        return logits.argmax(-1)
    logits = logits / settings.temperature
    vocabulary = logits.shape[-1]
    if settings.top_k <= 0 and settings.top_p >= 1:
        return _place(_likely_enough(logits.softmax(-1), settings), draws)
    chosen, sure = _among(min(vocabulary, max(CANDIDATES, 2 * settings.top_k)), logits, settings, draws)
    if not sure.all():
        chosen[~sure] = _among(vocabulary, logits[~sure], settings, draws[~sure])[0]
    return chosen


def _among(
    many: int, logits: torch.Tensor, settings: Sampling, draws: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A token of each row drawn among its `many` likeliest, and whether top_k and top_p leave no more than those."""
    values, tokens = logits.topk(many, dim=-1)
    sure = torch.full_like(draws, many == logits.shape[-1], dtype=torch.bool)
    if settings.top_k > 0:
        # Tokens as likely as the last one stay too, and there may be more of them than were looked at.
        least = values[:, min(settings.top_k, many) - 1, None]
        sure |= values[:, -1] < least[:, 0]
        likelihoods = values.masked_fill(values < least, -torch.inf).softmax(-1)
    else:
        likelihoods = (values - logits.logsumexp(-1, keepdim=True)).exp()
    if settings.top_p < 1:
        reached = likelihoods.cumsum(-1)
        if settings.top_k <= 0:
            sure |= reached[:, -1] >= settings.top_p
        likelihoods = likelihoods.masked_fill(reached - likelihoods >= settings.top_p, 0)
    place = _place(_likely_enough(likelihoods, settings), draws)
    return tokens.gather(-1, place[:, None]).squeeze(-1), sure


def _likely_enough(likelihoods: torch.Tensor, settings: Sampling) -> torch.Tensor:
    if settings.min_p <= 0:
        return likelihoods
    return likelihoods.masked_fill(likelihoods < settings.min_p * likelihoods.amax(-1, keepdim=True), 0)


def _place(likelihoods: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Where in its row of likelihoods, which need not sum to 1, each draw falls.

    First a block is found and then the place in it: a running sum over a whole vocabulary is the slowest part in
    64 bits, and not exact in 32.
    """
    blocks = functional.pad(likelihoods, (0, -likelihoods.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
    sums = blocks.sum(-1).double()
    reached = sums.cumsum(-1)
    target = draws[:, None] * reached[:, -1:]
    # The clamps are for rows that are not numbers: what is drawn then is of no use, and the loss will tell.
    number = torch.searchsorted(reached, target, right=True).clamp(max=sums.shape[-1] - 1)
    size = sums.gather(-1, number)
    share = (target - (reached.gather(-1, number) - size)) / size
    block = blocks[torch.arange(len(blocks), device=blocks.device), number.squeeze(-1)].double().cumsum(-1)
    within = torch.searchsorted(block, share.clamp(0, BELOW_ONE) * block[:, -1:], right=True)
    return (number * BLOCK + within).squeeze(-1).clamp(max=likelihoods.shape[-1] - 1)
