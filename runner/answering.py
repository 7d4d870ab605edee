"""Questions' tokens in, a model's greedy answers out: what differs between two models is what was learned.

The likeliest token is taken at each place, whatever sampling or penalty a model's own generation settings name.
Questions are asked together with others of like length, as many as the memory has room for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from runner import generation
from runner.drawing import Sampling
from runner.stopping import never

MOST_AT_ONCE = 64
ON_A_CPU = 4 * 2**30  # bytes that are taken to be free: more rows at a time are no faster there
SHARE_OF_FREE = 0.5  # of the memory that is free; what a forward pass needs beside the cache is in the rest


@dataclass(frozen=True)
class Answer:
    """`text` without special tokens, `marked` with them, the token that ended it aside; `ids` hold that one too."""

    text: str
    marked: str
    ids: list[int]


def answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Sequence[int]],
    ends: Sequence[int],
    most: int,
    leave: Callable[[], bool] = never,
) -> list[Answer]:
    """One answer of at most `most` tokens for each question, in order. An answer ends at any of the tokens `ends`.

    `leave` is asked before each token; raises GivenUp where it says so.
    """
    sampling = Sampling(new_tokens=most, ends=frozenset(ends), temperature=0.0)
    return told(tokenizer, tokens(model, questions, sampling, leave), sampling.ends)


def tokens(
    model: Any, questions: Sequence[Sequence[int]], sampling: Sampling, leave: Callable[[], bool] = never
) -> list[list[int]]:
    """The tokens of one greedy answer for each question, in order, with the token that ended it; `leave` as above."""
    greedy = replace(sampling, temperature=0.0)
    order = sorted(range(len(questions)), key=lambda number: -len(questions[number]))
    found: list[list[int]] = [[] for _ in questions]
    start = 0
    while start < len(order):
        longest = len(questions[order[start]]) + sampling.new_tokens
        some = order[start : start + at_once(model, longest)]
        decoded = generation.sample(model, [questions[number] for number in some], 1, greedy, 0, leave)
        for number, completion in zip(some, decoded, strict=True):
            found[number] = completion.tokens
        start += len(some)
    return found


def told(tokenizer: PreTrainedTokenizerBase, found: Sequence[list[int]], ends: frozenset[int]) -> list[Answer]:
    """Answers' tokens as text."""
    if not found:
        return []
    bodies = [ids[:-1] if ids and ids[-1] in ends else ids for ids in found]
    texts = tokenizer.batch_decode(bodies, skip_special_tokens=True)
    marked = tokenizer.batch_decode(bodies, skip_special_tokens=False)
    return [Answer(*each) for each in zip(texts, marked, found, strict=True)]


def at_once(model: Any, longest: int) -> int:
    """How many questions' keys and values fit, of so many tokens each, their answers included."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = base.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    groups = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 1) // heads
    of_token = 2 * (getattr(config, "num_hidden_layers", None) or 1) * groups * size * base.dtype.itemsize
    return int(min(max(SHARE_OF_FREE * _free(base.device) // (of_token * longest), 1), MOST_AT_ONCE))


def _free(device: torch.device) -> int:
    """Bytes of a device's memory that are not in use, those that torch holds in reserve included."""
    if device.type != "cuda":
        return ON_A_CPU
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + reserve)
