"""The language-model head for learned tokens only, on a CPU.

TRL's fused head scores every position where there is no Triton, so on a CPU the prompt's tokens cost as much as the
answer's although their loss is thrown away. Here the head sees the learned positions alone: the same loss, less work.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from runner.memory import LOGIT_CHUNK

# A model whose configuration sets one of these changes its logits behind the head; TRL's own head knows how.
SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")


def fits(model: PreTrainedModel) -> bool:
    """Whether the model's logits are its head's output and nothing more."""
    text = model.config.get_text_config()
    plain = all(getattr(text, name, None) is None for name in SCALED_LOGITS)
    return plain and not getattr(text, "output_router_logits", False)


def add(model: PreTrainedModel) -> None:
    """Teach the model's forward the argument `learned_only`: with it, the summed loss (a scalar) is returned.

    `labels` are (batch, tokens) with -100 where nothing is learned; they are shifted here, as transformers does.
    """
    original = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: Any, *positional: Any, learned_only: bool = False, **named: Any) -> Any:
        if not learned_only:
            return original(*positional, **named)
        labels = named.pop("labels")[:, 1:]
        hidden = self.base_model(*positional, use_cache=False, **named).last_hidden_state[:, :-1]
        learned = labels != -100
        return summed_loss(self.get_output_embeddings(), hidden[learned], labels[learned])

    model.forward = types.MethodType(forward, model)


def summed_loss(head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The sum of the tokens' cross entropies; `hidden` is (tokens, size), `labels` is (tokens,).

    Many tokens are taken in chunks whose logits are computed again for the backward pass, so that never more than
    LOGIT_CHUNK rows of the vocabulary's size are held.
    """
    if len(labels) <= LOGIT_CHUNK:
        return _chunk(head, hidden, labels)
    total = hidden.new_zeros((), dtype=torch.float32)
    for start in range(0, len(labels), LOGIT_CHUNK):
        part = slice(start, start + LOGIT_CHUNK)
        total = total + checkpoint(_chunk, head, hidden[part], labels[part], use_reentrant=False)
    return total


@torch.no_grad()
def token_losses(head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The cross entropy of each token, (tokens,), in float32 and without a gradient; in the same chunks."""
    parts = [hidden.new_zeros(0, dtype=torch.float32)]
    for start in range(0, len(labels), LOGIT_CHUNK):
        part = slice(start, start + LOGIT_CHUNK)
        parts.append(functional.cross_entropy(head(hidden[part]).float(), labels[part], reduction="none"))
    return torch.cat(parts)


def add_scores(model: PreTrainedModel, temperature: float) -> None:
    """Teach the model's forward the argument `scored`: with it, what TRL asks of the tokens that it marks is returned.

    `scored` is (batch, tokens), true for tokens whose log-probability is wanted; none of them is the first of a row.
    Two vectors come back, in the order of the marked tokens: log-probabilities, of logits over `temperature` as they
    were sampled, and the entropies of the distributions that they were drawn from, without a gradient.
    """
    original = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: Any, *positional: Any, scored: torch.Tensor | None = None, **named: Any) -> Any:
        if scored is None:
            return original(*positional, **named)
        hidden = self.base_model(*positional, use_cache=False, **named).last_hidden_state[:, :-1][scored[:, 1:]]
        labels = named["input_ids"][:, 1:][scored[:, 1:]]
        head, parts = self.get_output_embeddings(), []
        for start in range(0, max(len(labels), 1), LOGIT_CHUNK):
            part = slice(start, start + LOGIT_CHUNK)
            chunk = (head, hidden[part], labels[part], temperature)
            many = len(labels) > LOGIT_CHUNK and torch.is_grad_enabled()
            parts.append(checkpoint(_scores, *chunk, use_reentrant=False) if many else _scores(*chunk))
        return tuple(torch.cat(values) for values in zip(*parts, strict=True))

    model.forward = types.MethodType(forward, model)


def _scores(
    head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = head(hidden).float() / temperature
    chances = -functional.cross_entropy(logits, labels, reduction="none")
    with torch.no_grad():
        entropies = logits.logsumexp(-1) - (logits.softmax(-1) * logits).sum(-1)
    return chances, entropies


def _chunk(head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(head(hidden).float(), labels, reduction="sum")
