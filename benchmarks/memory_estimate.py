"""The memory that a plan says a step takes, beside what the run took: a check of `runner/memory.py` on a GPU.

    .venv/bin/python benchmarks/memory_estimate.py --tokenizer models/SmolLM2-135M-Instruct.Q4_1.gguf

A Llama of about 1.2 billion random weights (`--layers`, `--hidden` and so on change it) is trained for a few steps with
rows of one length, in several ways. What a run took is the most that torch held on the device at once, in GiB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

GIB = 2**30
STEPS = 3
# name -> lines of a recipe, rows a micro-batch, tokens a row
CASES: dict[str, tuple[str, int, int]] = {
    "lora, 4 × 1024": ("", 4, 1024),
    "lora, 1 × 4096": ("", 1, 4096),
    "lora, 8 × 2048": ("", 8, 2048),
    "lora, checkpointing": ("  gradient_checkpointing: true\n", 8, 2048),
    "all weights, 2 × 1024": ("  gradient_checkpointing: false\nadapter: {type: full}\n", 2, 1024),
}


def main() -> None:
    """Train in each way and print both numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokenizer", required=True, help="a directory or a .gguf file")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--inner", type=int, default=8192)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--keys", type=int, default=8, help="heads of keys and values")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "model", options)
        print(f"{'':<24}{'planned':>9}{'taken':>9}{'planned / taken':>18}", flush=True)
        for number, name in enumerate(options.only):
            planned, taken = measured(Path(folder) / str(number), model, *CASES[name])
            print(f"{name:<24}{planned / GIB:9.2f}{taken / GIB:9.2f}{planned / taken:18.2f}", flush=True)


def write_model(folder: Path, options: argparse.Namespace) -> Path:
    """A model of the shape that the options say, in bfloat16, with the tokenizer of another one."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    given = Path(options.tokenizer)
    words = (
        AutoTokenizer.from_pretrained(given.parent, gguf_file=given.name)
        if given.suffix == ".gguf"
        else AutoTokenizer.from_pretrained(given)
    )
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=options.hidden,
        intermediate_size=options.inner,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.keys,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        dtype="bfloat16",
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def measured(folder: Path, model: Path, settings: str, micro: int, length: int) -> tuple[int, int]:
    """The bytes that the plan says a step takes, and those that it took."""
    folder.mkdir()
    row = {"prompt": "Say it.", "completion": " yes" * length}
    (folder / "rows.jsonl").write_text((json.dumps(row) + "\n") * (micro * STEPS), encoding="utf-8")
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"task: sft\nmodel: {{name: {model}}}\n"
        f"dataset: {{train: rows.jsonl, max_length: {length}, overflow: truncate, "
        "apply_chat_template: false}\n"
        f"evaluation: {{samples: 0, metrics: [loss]}}\noutput: {{directory: {folder}}}\n"
        f"training:\n  max_steps: {STEPS}\n  batch_size: {micro}\n  micro_batch_size: {micro}\n{settings}",
        encoding="utf-8",
    )
    ended = subprocess.run(
        [sys.executable, "-m", "runner.cli", "train", str(recipe)], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        sys.exit(ended.stdout[-2000:] + ended.stderr[-2000:])
    lines = (folder / "recipe" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [event for line in lines if (event := json.loads(line))["event"] == "step"]
    planned = json.loads((folder / "recipe" / "plan.json").read_text(encoding="utf-8"))["memory"]
    return sum(planned.values()), steps[-1]["memory"]


if __name__ == "__main__":
    main()
