"""Learned tokens per second of supervised fine-tuning: Tunesmith beside TRL, side by side in one run.

    .venv/bin/python benchmarks/sft_throughput.py --rounds 3

Every contender trains the same rows (prompts and completions of mixed lengths), the same LoRA (rank 16, all linear
layers) and the same 16 rows a step, in a process of its own. The contenders take turns, so that whatever else the
machine does falls on all of them; what counts is the ratio within one run. Step times come from between the steps,
without loading and without the first two. TRL is run with its defaults, and with each of the settings that its
documentation recommends for speed; the fastest of those is its best.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH = 16
SKIPPED = 2  # first steps, in which buffers are allocated and kernels are chosen
ADAPTER = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
FAST = {"gradient_checkpointing": False, "model_init_kwargs": {"dtype": "bfloat16"}}
TRL: dict[str, dict[str, Any]] = {
    "trl, defaults": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2},
    "trl, bf16 weights": FAST | {"per_device_train_batch_size": 16},
    "trl, bf16, by length": FAST
    | {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "train_sampling_strategy": "group_by_length",
    },
    "trl, bf16, padding free": FAST | {"per_device_train_batch_size": 16, "padding_free": True, "max_length": None},
    "trl, bf16, packed": FAST | {"per_device_train_batch_size": 1, "packing": True, "max_length": 1024},
}
OURS = "tunesmith"
WORDS = "the model reads a row and learns the answer that stands at its end while all before it is only read".split()


def main() -> None:
    """Run all contenders in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--only", help="one contender, in this process; used by the script itself")
    parser.add_argument("--data")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(_trl(options.only, options.model, options.data, options.steps)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = _write_rows(Path(folder) / "rows.jsonl", BATCH * options.steps)
        directory = _converted(options.model)
        speeds: dict[str, list[float]] = {name: [] for name in (*TRL, OURS)}
        for number in range(options.rounds):
            for name in speeds:
                speed = (
                    _ours(directory, data, options.steps, Path(folder) / str(number))
                    if name == OURS
                    else _in_process(name, directory, data, options.steps)
                )
                speeds[name].append(speed)
                print(f"round {number + 1}  {name:<26}{speed:8.0f} learned tokens/s", flush=True)
    _table(speeds)


def _table(speeds: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    defaults = medians["trl, defaults"]
    best = max(value for name, value in medians.items() if name in TRL)
    print(f"\n{'':<26}{'median':>8}{'× defaults':>12}{'× TRL best':>12}   learned tokens/s")
    for name, value in medians.items():
        print(f"{name:<26}{value:8.0f}{value / defaults:12.2f}{value / best:12.2f}")


def _write_rows(path: Path, count: int) -> Path:
    """Rows of 20 to 150 words, a third of them in the completion; most are short, as in real data."""
    source = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            words = [source.choice(WORDS) for _ in range(int(20 + 130 * source.random() ** 2))]
            third = len(words) // 3
            row = {"prompt": " ".join(words[third:]), "completion": " ".join(words[:third])}
            file.write(json.dumps(row) + "\n")
    return path


def _converted(name: str) -> str:
    """The model as a directory that every contender can load."""
    from runner import model, recipe

    return model.locate(recipe.Model(str(Path(name).resolve()), None, "auto", "auto", "none", "auto", (), False))


def _in_process(name: str, directory: str, data: Path, steps: int) -> float:
    command = [
        sys.executable,
        __file__,
        "--only",
        name,
        "--model",
        directory,
        "--data",
        str(data),
        "--steps",
        str(steps),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(f"{name} failed:\n{answer.stderr[-3000:]}")
    return float(json.loads(answer.stdout.splitlines()[-1]))


def _trl(name: str, directory: str, data: str, steps: int) -> float:
    """Learned tokens a second of TRL with one of its settings."""
    import datasets
    import torch
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    times: list[float] = []
    learned: list[int] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    class Counting(SFTTrainer):
        def get_batch_samples(self, *positional: Any, **named: Any) -> Any:
            batches, items = super().get_batch_samples(*positional, **named)
            learned.append(sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in batches))
            return batches, items

    rows = [json.loads(line) for line in Path(data).read_text(encoding="utf-8").splitlines()]
    chats = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["completion"]}],
        }
        for row in rows
    ]
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            num_train_epochs=8 if TRL[name].get("packing") else 1,
            max_steps=steps,
            use_cpu=not torch.cuda.is_available(),
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **TRL[name],
        )
        trainer = Counting(
            directory,
            settings,
            train_dataset=datasets.Dataset.from_list(chats),
            peft_config=LoraConfig(**ADAPTER),
            callbacks=[Clock()],
        )
        trainer.train()
    return sum(learned[SKIPPED : len(times)]) / (times[-1] - times[SKIPPED - 1])


def _ours(directory: str, data: Path, steps: int, folder: Path) -> float:
    """Learned tokens a second of a whole Tunesmith run, from its own `metrics.jsonl`."""
    recipe = folder / "recipe.yaml"
    folder.mkdir()
    recipe.write_text(
        f"task: sft\nmodel: {{name: {directory}}}\ndataset: {{train: {data}}}\nadapter: {{rank: 16}}\n"
        f"training: {{max_steps: {steps}, batch_size: {BATCH}, checkpoints: {{every: {steps}}}}}\n"
        f"output: {{directory: {folder}}}\n",
        encoding="utf-8",
    )
    answer = subprocess.run(
        [sys.executable, "-m", "runner.cli", "train", str(recipe)], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        sys.exit(f"{OURS} failed:\n{answer.stdout[-2000:]}\n{answer.stderr[-2000:]}")
    lines = (folder / "recipe" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    events = [event for line in lines if (event := json.loads(line))["event"] == "step"][SKIPPED:]
    return float(sum(event["learned_tokens"] for event in events) / sum(event["elapsed"] for event in events))


if __name__ == "__main__":
    main()
