"""Does Tunesmith learn what plain TRL learns? Both on tasks of reasoning-gym, scored by its own verifiers.

    .venv/bin/pip install reasoning-gym
    .venv/bin/python benchmarks/grpo_reasoning.py --task chain_sum --steps 40 --seeds 2

Both learn the same generated tasks with the same LoRA, completions a step, learning rate and reward, once for each
seed and in turns; plain TRL has the settings that were fastest in `benchmarks/grpo.py`. Each adapter, and the base
model, then answers held-out tasks greedily through transformers alone, and the verifier's mean score is the held-out
reward. Its error is that of a mean over the held-out tasks. Seconds are those of a step, without the first two.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

TASKS: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2},
    "basic_arithmetic": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "gcd": {"min_value": 2, "max_value": 60},
}
TRAIN, HELD_OUT, SKIPPED = 768, 200, 2
LENGTH, GROUP, BATCH, RATE, TEMPERATURE = 24, 8, 32, 5e-4, 0.8
ADAPTER = {"r": 16, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
CONTENDERS = ("trl", "tunesmith")
REWARD = """import json

import reasoning_gym


def verified(prompt, completion, example):
    entry = json.loads(example["entry"])
    score = reasoning_gym.get_score_answer_fn(entry["metadata"]["source_dataset"])
    return float(score(completion.strip(), entry))
"""


def main() -> None:
    """Run both contenders for each seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--task", choices=TASKS, default="chain_sum")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--train", nargs=3, metavar=("FOLDER", "SEED", "STEPS"), help="used by the script itself")
    parser.add_argument("--score", nargs=2, metavar=("FOLDER", "ADAPTER"), help="used by the script itself")
    options = parser.parse_args()
    if options.train:
        print(json.dumps(_trl(options.model, Path(options.train[0]), *map(int, options.train[1:]))))
        return
    if options.score:
        print(json.dumps(_scores(options.model, Path(options.score[0]), options.score[1])))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make(options.task, folder)
        model = _converted(options.model)
        base = _own(model, "--score", name, "")
        print(f"{options.task}, {options.steps} steps of {BATCH} completions, {HELD_OUT} held-out tasks")
        print(f"{'':<22}{'held out':>16}{'last training':>16}{'s a step':>10}\n{'base model':<22}{_mean(base):>16}")
        for seed in range(1, options.seeds + 1):
            for contender in CONTENDERS:
                if contender == "trl":
                    told = _own(model, "--train", name, str(seed), str(options.steps))
                else:
                    told = _ours(model, folder, seed, options.steps)
                scores = _own(model, "--score", name, told["adapter"])
                rewards = told["rewards"][-max(options.steps // 4, 1) :]
                row = f"{f'{contender}, seed {seed}':<22}{_mean(scores):>16}{fmean(rewards):>16.3f}"
                print(f"{row}{fmean(told['seconds'][SKIPPED:]):>10.2f}", flush=True)


def _mean(scores: list[float]) -> str:
    return f"{fmean(scores):.3f} ± {pstdev(scores) / math.sqrt(len(scores)):.3f}"


def _make(task: str, folder: Path) -> None:
    """Tasks to learn and others to be scored on: none stands in both."""
    import reasoning_gym

    def rows(seed: int, size: int) -> list[dict[str, str]]:
        made = reasoning_gym.create_dataset(task, size=size, seed=seed, **TASKS[task])
        return [{"prompt": entry["question"], "entry": json.dumps(entry)} for entry in made]

    train = rows(1, TRAIN)
    seen = {row["prompt"] for row in train}
    others = {row["prompt"]: row for row in rows(2, 20 * HELD_OUT) if row["prompt"] not in seen}
    for name, kept in (("train", train), ("held_out", list(others.values())[:HELD_OUT])):
        text = "".join(json.dumps(row) + "\n" for row in kept)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (folder / "verified.py").write_text(REWARD, encoding="utf-8")


def _rows(folder: Path, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def _score(completion: str, row: dict[str, str]) -> float:
    found: dict[str, Any] = {}
    exec(REWARD, found)
    return float(found["verified"](row["prompt"], completion, row))


def _converted(name: str) -> str:
    """The model as a directory that both can load."""
    from runner import model, recipe

    return model.locate(recipe.Model(str(Path(name).resolve()), None, "auto", "auto", "none", "auto", (), False))


def _own(model: str, *arguments: str) -> Any:
    """What this script says in a process of its own."""
    command = [sys.executable, __file__, "--model", model, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{answer.stderr[-3000:]}")
    return json.loads(answer.stdout.splitlines()[-1])


def _trl(model: str, folder: Path, seed: int, steps: int) -> dict[str, Any]:
    import datasets
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer

    told: dict[str, Any] = {"adapter": str(folder / f"trl-{seed}"), "rewards": [], "seconds": []}

    def verified(completions: list[Any], entry: list[str], **_: Any) -> list[float]:
        return [
            _score(said[0]["content"], {"prompt": "", "entry": each})
            for said, each in zip(completions, entry, strict=True)
        ]

    class Told(GRPOTrainer):
        last: float  # when the step before ended

        def log(self, logs: dict[str, float], *more: Any, **named: Any) -> None:
            super().log(logs, *more, **named)
            if "reward" in logs:
                told["rewards"].append(logs["reward"])
                told["seconds"].append(time.perf_counter() - self.last)
            self.last = time.perf_counter()

    chats = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in _rows(folder, "train")]
    trainer = Told(
        model,
        reward_funcs=verified,
        args=GRPOConfig(
            output_dir=told["adapter"],
            seed=seed,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            num_generations=GROUP,
            max_completion_length=LENGTH,
            temperature=TEMPERATURE,
            learning_rate=RATE,
            warmup_steps=1,
            beta=0.0,
            gradient_checkpointing=False,
            model_init_kwargs={"dtype": "bfloat16"},
            logging_steps=1,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_list(chats),
        peft_config=LoraConfig(**ADAPTER),
    )
    trainer.last = time.perf_counter()
    trainer.train()
    trainer.save_model(told["adapter"])
    return told


def _ours(model: str, folder: Path, seed: int, steps: int) -> dict[str, Any]:
    recipe = folder / f"tunesmith-{seed}.yaml"
    recipe.write_text(
        f"task: grpo\nmodel: {{name: {model}}}\ndataset: {{train: train.jsonl}}\n"
        f"adapter: {{rank: {ADAPTER['r']}, alpha: {ADAPTER['lora_alpha']}}}\n"
        f"grpo: {{num_generations: {GROUP}, max_completion_length: {LENGTH}, temperature: {TEMPERATURE}, beta: 0}}\n"
        "rewards: [{file: verified.py}]\n"
        f"training: {{max_steps: {steps}, batch_size: {BATCH}, learning_rate: {RATE}, warmup_ratio: {1 / steps}, "
        f"seed: {seed}, checkpoints: {{every: {steps}}}}}\noutput: {{directory: .}}\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "runner.cli", "train", str(recipe)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(f"tunesmith failed:\n{answer.stdout[-2000:]}\n{answer.stderr[-2000:]}")
    run = folder / recipe.stem
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = [event for event in events if event["event"] == "step"]
    return {
        "adapter": str(run / "adapter"),
        "rewards": [event["reward"] for event in kept],
        "seconds": [sum(event["seconds_of"].values()) for event in kept],
    }


def _scores(model: str, folder: Path, adapter: str) -> list[float]:
    """The verifier's score of each held-out task, answered greedily; `adapter` is empty for the base model."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    if adapter:
        loaded = PeftModel.from_pretrained(loaded, adapter)
    scores: list[float] = []
    rows = _rows(folder, "held_out")
    for start in range(0, len(rows), 50):
        some = rows[start : start + 50]
        chats = [[{"role": "user", "content": row["prompt"]}] for row in some]
        asked = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        found = loaded.generate(**asked, max_new_tokens=LENGTH, do_sample=False)
        said = tokenizer.batch_decode(found[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
        scores += [_score(text, row) for text, row in zip(said, some, strict=True)]
    return scores


if __name__ == "__main__":
    main()
