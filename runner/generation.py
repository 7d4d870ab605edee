"""Prompts to sampled completions, with the weights that are being trained.

A loop of our own around the model's forward pass, because three things make it faster and change nothing that is
sampled: a prompt is read once for all of its completions, rows that have ended leave the batch, and an adapter is
applied with two small products in the weights' own precision, without PEFT's casts in between. A model that keeps
another state than keys and values is decoded by transformers' `generate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch.nn import functional
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

PAD = 0  # stands where a prompt is shorter than the longest; the mask hides it
LEAVING = 8  # rows leave the batch once this part of it has ended: fewer rows are faster, and leaving copies the cache


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. A temperature of 0 takes the likeliest token; a completion ends with one of `ends`."""

    max_new_tokens: int
    ends: tuple[int, ...]
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all tokens
    min_p: float = 0.0
    repetition_penalty: float = 1.0


def sample(
    model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator
) -> list[list[int]]:
    """One completion a prompt, as token ids, the one that ends it included; cut ones have `max_new_tokens`.

    Equal prompts that follow each other are read once. The same model, prompts and generator give the same completions.
    Weights, gradients, mode and the random state outside of `generator` are left as they were.
    """
    was_training = model.training
    model.eval()  # without dropout: what is sampled is the policy that is learned
    try:
        with torch.no_grad(), _lean_adapters(model):
            cache = _cache(model)
            if cache is None:
                return _by_transformers(model, prompts, sampling, generator)
            return _decode(model, cache, prompts, sampling, generator)
    finally:
        model.train(was_training)


def _decode(
    model: Any, cache: DynamicCache, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator
) -> list[list[int]]:
    device = next(model.parameters()).device
    groups = [(list(prompt), len(list(copies))) for prompt, copies in groupby(map(list, prompts))]
    ids, mask = _padded([prompt for prompt, _ in groups], device)
    logits = _forward(model, ids, mask, (mask.cumsum(1) - 1).clamp(min=0), cache)
    copies = torch.tensor([number for number, (_, times) in enumerate(groups) for _ in range(times)], device=device)
    cache.batch_select_indices(copies)
    ids, mask, logits = ids[copies], mask[copies], logits[copies]
    processors, ends = _processors(sampling), torch.tensor(sampling.ends, device=device)

    completions: list[list[int]] = [[] for _ in prompts]
    rows = torch.arange(len(prompts), device=device)  # of the batch, in the order of the prompts
    running = torch.ones(len(prompts), dtype=torch.bool, device=device)
    for left in range(sampling.max_new_tokens, 0, -1):
        tokens = _drawn(processors(ids, logits), sampling, generator)
        for row, token, goes_on in zip(rows.tolist(), tokens.tolist(), running.tolist(), strict=True):
            if goes_on:
                completions[row].append(token)
        running = running & ~torch.isin(tokens, ends)
        if left == 1 or not running.any():
            break
        ids = torch.cat([ids, tokens[:, None]], 1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        if int((~running).sum()) * LEAVING >= len(running):
            kept = running.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            ids, mask, rows, running = ids[kept], mask[kept], rows[kept], running[kept]
        logits = _forward(model, ids[:, -1:], mask, mask.sum(1, keepdim=True) - 1, cache)
    return completions


def _forward(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """The logits of the token that follows, in float32; (rows, vocabulary)."""
    answer = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: torch.Tensor = answer.logits[:, -1].float()
    return logits


def _drawn(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> torch.Tensor:
    if sampling.temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


def _processors(sampling: Sampling) -> LogitsProcessorList:
    """What transformers' `generate` would do to the logits, in its order."""
    chosen = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        chosen.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature == 0:
        return chosen
    if sampling.temperature != 1.0:
        chosen.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        chosen.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        chosen.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        chosen.append(MinPLogitsWarper(sampling.min_p))
    return chosen


def _cache(model: Any) -> DynamicCache | None:
    """An empty cache of keys and values; None for a model whose state is something else as well."""
    if getattr(model, "_is_stateful", False) or not getattr(model, "_supports_default_dynamic_cache", lambda: True)():
        return None
    cache = DynamicCache(config=model.config.get_text_config())
    known = (DynamicLayer, DynamicSlidingWindowLayer)
    return cache if all(type(layer) in known for layer in cache.layers) else None


def _by_transformers(
    model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling, generator: torch.Generator
) -> list[list[int]]:
    """As `sample`, by `generate`. It draws from the global random state, which is put back afterwards."""
    ids, mask = _padded(prompts, next(model.parameters()).device)
    devices = [ids.device] if ids.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator, device=generator.device)))
        found = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=sampling.max_new_tokens,
            do_sample=sampling.temperature > 0,
            **({"temperature": sampling.temperature} if sampling.temperature > 0 else {}),
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p or None,
            repetition_penalty=sampling.repetition_penalty,
            eos_token_id=list(sampling.ends),
            pad_token_id=PAD,
        )
    return [_until_its_end(row, sampling.ends) for row in found[:, ids.shape[1] :].tolist()]


def _until_its_end(row: list[int], ends: Sequence[int]) -> list[int]:
    last = next((position for position, token in enumerate(row) if token in ends), len(row) - 1)
    return row[: last + 1]


def _padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts padded on the left, and the mask that hides the padding; both (prompts, longest)."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids.to(device), mask.to(device)


@contextmanager
def _lean_adapters(model: Any) -> Iterator[None]:
    """Apply plain LoRA adapters in the precision of the weights, as autocast would, with no more than two products."""
    patched: list[Linear] = []
    try:
        for layer in model.modules():
            if type(layer) is Linear and _is_plain(layer):
                layer.forward = _lean(layer)
                patched.append(layer)
        yield
    finally:
        for layer in patched:
            del layer.forward  # the class's own comes through again


def _is_plain(layer: Linear) -> bool:
    """Whether the layer adds one low-rank product to a dense one, and nothing else."""
    return (
        not (layer.disable_adapters or layer.merged or layer.lora_variant)
        and len(layer.active_adapters) == 1
        and layer.active_adapters[0] in layer.lora_A
        and type(layer.base_layer) is torch.nn.Linear
        and layer.lora_B[layer.active_adapters[0]].bias is None
    )


def _lean(layer: Linear) -> Any:
    (name,) = layer.active_adapters
    weight, bias = layer.base_layer.weight, layer.base_layer.bias
    inner = layer.lora_A[name].weight.to(weight.dtype)
    outer = (layer.lora_B[name].weight.float() * layer.scaling[name]).to(weight.dtype).t().contiguous()

    def forward(x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        dense = functional.linear(x, weight, bias)
        flat = torch.addmm(dense.view(-1, dense.shape[-1]), functional.linear(x, inner).view(-1, inner.shape[0]), outer)
        return flat.view(dense.shape)

    return forward
