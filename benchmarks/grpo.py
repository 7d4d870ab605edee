"""A step of GRPO by part: Tunesmith beside plain TRL, side by side in one run, on the same prompts and rewards.

    .venv/bin/python benchmarks/grpo.py --steps 12

Every contender learns the sums of `recipes/arithmetic` with the same LoRA (rank 16, all linear layers), 32 completions
a step (4 prompts, 8 times each), the same learning rate and the same two rewards, in a process of its own; they take
turns. Seconds are the means of all steps but the first two, which hold allocations. Completions get shorter as a
model learns, so the seconds of a thousand sampled tokens stand beside those of a step. The reward is the mean of
the last quarter of the steps: it says whether the contenders learn the same, as far as so few steps can.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "recipes" / "arithmetic" / "train.jsonl"
SKIPPED = 2
LENGTH, GROUP, BATCH, RATE, TEMPERATURE = 24, 8, 32, 5e-4, 0.8
BRIEF = {"minimum": 1, "maximum": 2, "unit": "words", "edge": 20}
ADAPTER = {"r": 16, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
FAST = {"gradient_checkpointing": False, "model_init_kwargs": {"dtype": "bfloat16"}}
TRL: dict[str, dict[str, Any]] = {
    "trl, defaults": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4},
    "trl, bf16, 8 at a time": FAST | {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4},
    "trl, bf16, all at once": FAST | {"per_device_train_batch_size": 32},
}
OURS = "tunesmith"
PARTS = ("generation", "rewards", "update")


def main() -> None:
    """Run all contenders in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--only", help="one contender, in this process; used by the script itself")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(_trl(options.only, options.model, options.steps, options.beta)))
        return
    directory = _converted(options.model)
    found: dict[str, list[dict[str, float]]] = {}
    for name in (*TRL, OURS):
        run = _ours if name == OURS else _in_process
        found[name] = run(name, directory, options.steps, options.beta)
        print(f"{name:<26}done", flush=True)
    _table(found)


def _table(found: dict[str, list[dict[str, float]]]) -> None:
    print(
        f"\n{'':<26}"
        + "".join(f"{part:>12}" for part in PARTS)
        + f"{'step':>10}{'s/1000 tok':>12}{'×':>8}{'reward':>9}"
    )
    reference = None
    for name, steps in found.items():
        kept = steps[SKIPPED:]
        seconds = {part: sum(step[part] for step in kept) / len(kept) for part in PARTS}
        whole = sum(seconds.values())
        cost = 1000 * whole * len(kept) / sum(step["tokens"] for step in kept)
        reference = reference or cost
        last = steps[-max(len(steps) // 4, 1) :]
        reward = sum(step["reward"] for step in last) / len(last)
        parts = "".join(f"{seconds[part]:12.2f}" for part in PARTS)
        print(f"{name:<26}{parts}{whole:10.2f}{cost:12.2f}{reference / cost:8.2f}{reward:9.3f}")


def _converted(name: str) -> str:
    """The model as a directory that every contender can load."""
    from runner import model, recipe

    return model.locate(recipe.Model(str(Path(name).resolve()), None, "auto", "auto", "none", "auto", (), False))


def _in_process(name: str, directory: str, steps: int, beta: float) -> list[dict[str, float]]:
    command = [sys.executable, __file__, "--only", name, "--model", directory]
    command += ["--steps", str(steps), "--beta", str(beta)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(f"{name} failed:\n{answer.stderr[-3000:]}")
    steps_of: list[dict[str, float]] = json.loads(answer.stdout.splitlines()[-1])
    return steps_of


def _reward(name: str) -> Callable[..., float]:
    """A reward that ships, loaded as anybody would load a file."""
    specification = importlib.util.spec_from_file_location(name, ROOT / "rewards" / f"{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    function: Callable[..., float] = getattr(module, name)
    return function


def _trl(name: str, directory: str, steps: int, beta: float) -> list[dict[str, float]]:
    """The steps of plain TRL with one of its settings."""
    import datasets
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer

    numeric, brief = _reward("numeric_answer"), _reward("length_between")
    seconds = dict.fromkeys(PARTS, 0.0)
    found: list[dict[str, float]] = []

    def right(completions: list[Any], answer: list[int], **_: Any) -> list[float]:
        return [
            numeric("", said[0]["content"], {"answer": wanted})
            for said, wanted in zip(completions, answer, strict=True)
        ]

    def short(completions: list[Any], **_: Any) -> list[float]:
        return [brief("", said[0]["content"], {}, **BRIEF) for said in completions]

    class Timed(GRPOTrainer):
        def _generate_single_turn(self, *positional: Any, **named: Any) -> Any:
            return self._clocked("generation", super()._generate_single_turn, *positional, **named)

        def _calculate_rewards(self, *positional: Any, **named: Any) -> Any:
            return self._clocked("rewards", super()._calculate_rewards, *positional, **named)

        def _clocked(self, part: str, act: Callable[..., Any], *positional: Any, **named: Any) -> Any:
            started = time.perf_counter()
            answer = act(*positional, **named)
            seconds[part] += time.perf_counter() - started
            return answer

        def log(self, logs: dict[str, float], *more: Any, **named: Any) -> None:
            super().log(logs, *more, **named)
            if "reward" in logs:
                rest = logs["step_time"] - seconds["generation"] - seconds["rewards"]
                tokens = logs["completions/mean_length"] * BATCH
                found.append({**seconds, "update": rest, "tokens": tokens, "reward": logs["reward"]})
                seconds.update(dict.fromkeys(PARTS, 0.0))

    rows = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
    chats = [{"prompt": [{"role": "user", "content": row["prompt"]}], "answer": row["answer"]} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        settings = GRPOConfig(
            output_dir=folder,
            max_steps=steps,
            num_generations=GROUP,
            max_completion_length=LENGTH,
            temperature=TEMPERATURE,
            learning_rate=RATE,
            beta=beta,
            reward_weights=[1.0, 0.5],
            warmup_steps=1,
            logging_steps=1,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **TRL[name],
        )
        trainer = Timed(
            directory,
            reward_funcs=[right, short],
            args=settings,
            train_dataset=datasets.Dataset.from_list(chats),
            peft_config=LoraConfig(**ADAPTER),
        )
        trainer.train()
    return found


def _ours(name: str, directory: str, steps: int, beta: float) -> list[dict[str, float]]:
    """The steps of a whole Tunesmith run, from its own `metrics.jsonl`."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(
            f"task: grpo\nmodel: {{name: {directory}}}\ndataset: {{train: {DATA}}}\n"
            f"adapter: {{rank: {ADAPTER['r']}, alpha: {ADAPTER['lora_alpha']}}}\n"
            f"grpo: {{num_generations: {GROUP}, max_completion_length: {LENGTH}, temperature: {TEMPERATURE}, "
            f"beta: {beta}}}\n"
            f"rewards: [{{use: numeric_answer}}, {{use: length_between, weight: 0.5, options: {json.dumps(BRIEF)}}}]\n"
            f"training: {{max_steps: {steps}, batch_size: {BATCH}, learning_rate: {RATE}, warmup_ratio: {1 / steps}, "
            f"checkpoints: {{every: {steps}}}}}\n"
            f"output: {{directory: {folder}}}\n",
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "runner.cli", "train", str(recipe)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            sys.exit(f"{name} failed:\n{answer.stdout[-2000:]}\n{answer.stderr[-2000:]}")
        lines = (Path(folder) / "recipe" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    events = [event for line in lines if (event := json.loads(line))["event"] == "step"]
    return [{**event["seconds_of"], "tokens": event["tokens"], "reward": event["reward"]} for event in events]


if __name__ == "__main__":
    main()
