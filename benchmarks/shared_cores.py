"""A step and a sampled token on cores that other programs use too, by how long torch's threads spin at barriers.

    .venv/bin/python benchmarks/shared_cores.py --busy 2

`--busy` other processes compute all the time; 0 is an idle machine. Each setting runs in a process of its own.
Seconds of a forward and backward pass over 4 rows of 128 tokens, and of 20 tokens.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

SPINS = ("default", "100000", "30000", "10000", "2000")


def main() -> None:
    """Run every setting in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--measure", action="store_true", help="used by the script itself")
    options = parser.parse_args()
    if options.measure:
        _measure(options.model)
        return
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    try:
        print(f"{'spins':<10}{'step, s':>10}{'tokens, s':>12}")
        for spins in SPINS:
            environment = dict(os.environ, OMP_NUM_THREADS=str(len(os.sched_getaffinity(0))))
            environment |= {} if spins == "default" else {"GOMP_SPINCOUNT": spins}
            command = [sys.executable, __file__, "--measure", "--model", options.model]
            told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
            step, tokens = told.split()[-2:]
            print(f"{spins:<10}{step:>10}{tokens:>12}", flush=True)
    finally:
        for other in others:
            other.kill()
            other.wait()


def _measure(name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from runner import model, recipe

    where = model.locate(recipe.Model(str(Path(name).resolve()), None, "auto", "auto", "none", "auto", (), False))
    loaded = AutoModelForCausalLM.from_pretrained(where, dtype=torch.bfloat16)
    ids = torch.arange(512).reshape(4, 128)
    loaded(input_ids=ids, labels=ids).loss.backward()
    started = time.perf_counter()
    loaded(input_ids=ids, labels=ids).loss.backward()
    step = time.perf_counter() - started
    started = time.perf_counter()
    loaded.generate(ids[:1, :16], max_new_tokens=20, min_new_tokens=20, do_sample=False)
    print(f"{step:.2f} {time.perf_counter() - started:.2f}")


if __name__ == "__main__":
    main()
