"""Prompts' tokens in, sampled completions' tokens out: what `generate` of transformers does, with less work.

A prompt is read once for all of its copies, and rows that have ended leave the batch. The distribution that tokens
are drawn from is the same. Every draw belongs to a seed, a row and a place, so a result depends on nothing else
that happens in the process.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from runner.decoding import decoding
from runner.drawing import Sampling, choose
from runner.stopping import GivenUp, never

LEAVING = 8  # rows are taken out of the batch once an eighth of them has ended: it copies the cache of the rest


@dataclass(frozen=True)
class Completion:
    """A completion's tokens, its end token included; `cut` where the limit came first."""

    tokens: list[int]
    cut: bool


@torch.no_grad()
def sample(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    copies: int,
    settings: Sampling,
    seed: int,
    told: Callable[[], bool] = never,
) -> list[Completion]:
    """`copies` completions of each prompt, those of one prompt next to each other.

    `model` is a causal language model of transformers or a PEFT model around one, unwrapped and whole on its
    device (not ZeRO-3). Prompts are lists of at least one token and need not be equally long. The same seed gives
    the same completions. A model that keeps more than keys and values between tokens goes through its own `generate`.

    `told` is asked before each token; raises GivenUp where it says so.
    """
    base: PreTrainedModel = model.get_base_model() if hasattr(model, "get_base_model") else model
    with decoding(model):
        if _plain(base):
            generator = torch.Generator().manual_seed(seed)
            rows = len(prompts) * copies
            draws = torch.rand(rows, settings.new_tokens, dtype=torch.float64, generator=generator).to(base.device)
            completions = _decode(base, prompts, copies, settings, draws, told)
            if completions is not None:
                return completions
        return _generate(base, prompts, copies, settings, seed, told)


def _plain(model: PreTrainedModel) -> bool:
    """Whether the model says what the decoder needs: its forward takes a mask and a cache and keeps no other state."""
    stateful = getattr(model, "_is_stateful", False) or model.config.is_encoder_decoder
    return not stateful and {"attention_mask", "past_key_values", "use_cache"} <= _accepted(model)


def _accepted(model: PreTrainedModel) -> frozenset[str]:
    """The arguments that the model's class takes."""
    kind: Any = type(model)
    return _arguments(kind.forward)


@functools.cache
def _arguments(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _divisible(cache: Any) -> bool:
    """Whether rows of the cache can be repeated and taken out: it holds keys and values by row, and nothing else."""
    return isinstance(cache, DynamicCache) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )


def _decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    copies: int,
    settings: Sampling,
    draws: torch.Tensor,
    told: Callable[[], bool],
) -> list[Completion] | None:
    """The completions, or None where the model's cache cannot be divided into rows."""
    ids, mask = _padded(prompts, model.device)
    logits, cache = _forward(model, ids, mask, None)
    if not _divisible(cache):
        return None
    cache.batch_repeat_interleave(copies)
    logits, mask = logits.repeat_interleave(copies, dim=0), mask.repeat_interleave(copies, dim=0)
    seen = _seen(prompts, copies, logits) if settings.repetition_penalty != 1 else None
    tokens: list[list[int]] = [[] for _ in draws]
    rows = list(range(len(draws)))  # which completion each row of the batch is
    for place in range(settings.new_tokens):
        if told():
            raise GivenUp
        chosen = choose(logits, settings, draws[rows, place], seen)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            if not _ended(tokens[row], settings):
                tokens[row].append(token)
        going = [number for number, row in enumerate(rows) if not _ended(tokens[row], settings)]
        if not going or place + 1 == settings.new_tokens:
            break
        if seen is not None:
            seen.scatter_(1, chosen[:, None], True)
        if len(rows) - len(going) >= max(1, len(rows) // LEAVING):
            rows = [rows[number] for number in going]
            kept = torch.tensor(going, device=model.device)
            cache.batch_select_indices(kept)
            chosen, mask = chosen[kept], mask[kept]
            seen = None if seen is None else seen[kept]
        mask = functional.pad(mask, (0, 1), value=1)
        logits, cache = _forward(model, chosen[:, None], mask, cache)
    return [Completion(row, not _ended(row, settings)) for row in tokens]


def _ended(tokens: list[int], settings: Sampling) -> bool:
    return bool(tokens) and tokens[-1] in settings.ends


def _padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers and their mask, (prompts, longest); shorter prompts are filled up on the left."""
    longest = max(len(prompt) for prompt in prompts)
    ids = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _forward(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
    """The logits behind the last token of each row, (rows, vocabulary), and the cache that goes on from there."""
    accepted = _accepted(model)
    named: dict[str, Any] = {}
    if "position_ids" in accepted:
        # A place in the text is counted from the prompt's first token, however much filling stands before it.
        named["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    if "logits_to_keep" in accepted:
        named["logits_to_keep"] = 1
    output = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **named)
    return output.logits[:, -1].float(), output.past_key_values


def _seen(prompts: Sequence[Sequence[int]], copies: int, logits: torch.Tensor) -> torch.Tensor:
    """Which tokens of the vocabulary each row's prompt has, (rows, vocabulary)."""
    seen = torch.zeros_like(logits, dtype=torch.bool)
    for number, prompt in enumerate(prompts):
        seen[number * copies : (number + 1) * copies, list(prompt)] = True
    return seen


def _generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    copies: int,
    settings: Sampling,
    seed: int,
    told: Callable[[], bool],
) -> list[Completion]:
    """The same through the model's own `generate`, every copy computed on its own."""

    def leave(*_: Any, **__: Any) -> bool:
        if told():
            raise GivenUp
        return False

    ids, mask = (part.repeat_interleave(copies, dim=0) for part in _padded(prompts, model.device))
    drawn: dict[str, Any] = {"do_sample": False}
    if settings.temperature > 0:
        limits = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": settings.top_k}
        drawn = {"do_sample": True, "min_p": settings.min_p or None, **limits}
    configuration = GenerationConfig(
        max_new_tokens=settings.new_tokens,
        eos_token_id=sorted(settings.ends),
        pad_token_id=min(settings.ends, default=0),
        repetition_penalty=settings.repetition_penalty,
        disable_compile=True,
        **drawn,
    )
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        whole = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=configuration,
            stopping_criteria=StoppingCriteriaList([leave]),
        )
    completions = []
    for row in whole[:, ids.shape[1] :].tolist():
        end = next((number for number, token in enumerate(row) if token in settings.ends), None)
        completions.append(Completion(row if end is None else row[: end + 1], end is None))
    return completions
