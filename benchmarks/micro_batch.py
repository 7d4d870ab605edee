"""What a micro-batch costs on this machine: a fixed share and a share a token; and which attention is the fastest.

    .venv/bin/python benchmarks/micro_batch.py [--rows 1 4 16 64] [--length 100]

Forward and backward passes of a LoRA (rank 16, all linear layers) on the small model in bfloat16, the best of a few, on
a GPU where there is one. The fixed share, counted in tokens, is `OVERHEAD` in `runner/microbatch.py`; the length up to
which plain attention is the faster one on a CPU is `SHORT_ROW` in `runner/choices.py`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import AutoModelForCausalLM

from runner import model, recipe

REPEATS = 4
LENGTHS = (100, 200, 400, 800)  # of the rows where attention is compared, with 800 tokens together
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--length", type=int, default=100, help="tokens of a row where the number of rows varies")
    options = parser.parse_args()
    name, rows_of, length_of = str(Path(options.model).resolve()), options.rows, options.length
    directory = model.locate(recipe.Model(name, None, "auto", "auto", "none", "auto", (), False))
    adapted = {attention: _adapted(directory, attention) for attention in ("eager", "sdpa")}

    print(f"{'rows':>6}{'tokens':>8}{'seconds':>9}   of {length_of} tokens each")
    seconds = {rows: _best(adapted["sdpa"], rows, length_of) for rows in rows_of}
    for rows, taken in seconds.items():
        print(f"{rows:6}{rows * length_of:8}{taken:9.4f}")
    each = (seconds[rows_of[-1]] - seconds[rows_of[0]]) / ((rows_of[-1] - rows_of[0]) * length_of)
    print(
        f"fixed share of a micro-batch: as much as {seconds[rows_of[0]] / each - rows_of[0] * length_of:.0f} tokens\n"
    )

    print(f"{'length':>6}{'eager':>9}{'sdpa':>9}   seconds, for {LENGTHS[-1]} tokens together")
    for length in LENGTHS:
        times = [_best(each_model, LENGTHS[-1] // length, length) for each_model in adapted.values()]
        print(f"{length:6}{times[0]:9.4f}{times[1]:9.4f}")


def _adapted(directory: str, attention: str) -> Any:
    base = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, attn_implementation=attention).to(
        DEVICE
    )
    settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(base, settings, autocast_adapter_dtype=False).train()


def _best(adapted: Any, rows: int, length: int) -> float:
    """Seconds of the fastest of a few forward and backward passes; a third of each row is learned."""
    ids = torch.randint(10, 40_000, (rows, length), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    mask = torch.ones_like(ids)
    mask[-1, length // 2 :] = 0 if rows > 1 else 1  # real batches are padded, and then take another path
    base = adapted.get_base_model()
    fastest = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        hidden = base.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        learned = slice(length - length // 3, length)
        logits = base.lm_head(hidden[:, learned].flatten(0, 1)).float()
        functional.cross_entropy(logits, ids[:, learned].flatten()).backward()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest


if __name__ == "__main__":
    main()
