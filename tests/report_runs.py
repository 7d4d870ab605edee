"""Runs as they leave their files, for the tests of the page: of every task, in every state, with every kind of text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.reading import check

GIB = 1024**3
RECIPE = """task: {task}
model: {{name: owner/model}}
dataset: {{train: rows.jsonl}}
training: {{max_steps: 3, learning_rate: 1.0e-4}}
"""
SCORE = {
    "base": 2.25,
    "adapter": 1.5,
    "base_interval": [2.1, 2.4],
    "adapter_interval": [1.4, 1.6],
    "difference": -0.75,
    "difference_interval": [-0.9, -0.6],
    "rows": 40,
    "verdict": "better",
}
LEDGER = {
    "read": 45,
    "kept": 43,
    "dropped": {"not readable": 1, "too long": 1},
    "files": [{"file": "rows.jsonl", "read": 45, "kept": 43, "dropped": {"too long": 2}, "format": "messages"}],
    "repeats": 0,
    "in_both_splits": 2,
    "ending_on_a_question": 0,
    "calls": {},
    "splits": {
        "train": {"samples": 40, "dropped": {}, "truncated": 1, "windows": 0, "rewritten_turns": 0, "rows": 40,
                  "tokens": 12345, "learned_tokens": 4321, "longest": 500},
        "evaluation": {"samples": 3, "dropped": {}, "truncated": 0, "windows": 0, "rewritten_turns": 0, "rows": 3,
                       "tokens": 100, "learned_tokens": 50, "longest": 40},
    },
}  # fmt: skip
SAMPLE = {
    "file": "rows.jsonl",
    "line": 7,
    "prompt": "What is the capital of France?",
    "answer": "Paris.",
    "base": "I think that it is Lyon.",
    "adapter": "I know that it is Paris.",
    "base_scores": {"exact_match": 0.0},
    "adapter_scores": {"exact_match": 1.0},
}
CALL = {"name": "dim", "arguments": {"room": "hall", "level": 3}}
CALLING_SAMPLE = SAMPLE | {
    "calls": [CALL],
    "base_calls": {"read": [], "fault": "the call is no JSON"},
    "adapter_calls": {"read": [CALL], "fault": None},
}


def step(number: int, **more: Any) -> dict[str, Any]:
    return {
        "step": number, "epoch": number / 3, "event": "step", "loss": 3.0 / number, "learning_rate": 1e-4,
        "gradient_norm": 0.5, "tokens": 900, "learned_tokens": 300, "seconds": 2.0, "elapsed": 2.5, "memory": GIB * 3,
    } | more  # fmt: skip


def rewarded(number: int) -> dict[str, Any]:
    """A step of GRPO."""
    return step(
        number,
        reward=0.1 * number,
        reward_std=0.05,
        rewards={"polite": {"mean": 0.2 * number, "std": 0.1}, "short": {"mean": None, "std": None}},
        kl=0.01,
        entropy=1.5,
        length=40.0,
        without_signal=0.25,
        cut=0.125,
        faults=0.0,
        seconds_of={"generation": 1.0, "rewards": 0.2, "update": 0.8},
        reward_seconds=0.2,
        warnings=["no completion ends by itself"] if number == 2 else [],
    )


def completion(number: int, **more: Any) -> dict[str, Any]:
    """One of four completions a prompt and two prompts a step."""
    prompt = number // 4 % 50
    return {
        "step": 1 + number // 8, "prompt": f"question {prompt}", "completion": f"answer {number}", "file": "rows.jsonl",
        "line": prompt + 1, "scores": {"polite": number % 7 / 7, "short": None}, "total": number % 7 / 7,
        "advantage": 0.5, "tokens": 12, "cut": number % 3 == 0,
    } | more  # fmt: skip


def told(kind: str, reward: str, number: int, **more: Any) -> dict[str, Any]:
    """A line of `rewards.jsonl`."""
    return {"kind": kind, "reward": reward, "step": number, "epoch": 0.0, "row": None, **more}


REWARD_LINES = [
    told("printed", "polite", 1, text="hello from a reward", cut=False),
    told("fault", "short", 1, fault="raised ValueError", line=4, seconds=0.1),
    told("fault", "short", 3, fault="raised ValueError", line=4, seconds=0.1),
    told("logged", "polite", 2, metrics={"words": 3.0}),
]


def lines(path: Path, values: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def a_run(folder: Path, task: str = "sft", **state: Any) -> Path:
    """A finished run of a task, or one in another state."""
    directory = folder / "outputs" / "demo"
    directory.mkdir(parents=True)
    settled = json.loads(json.dumps(asdict(check.bare(task, "owner/model"))))
    settled["name"] = "demo"
    settled["training"] |= {"max_steps": 3, "learning_rate": 1e-4, "seed": 7}  # the last by `--set`
    found = {
        "status": "done",
        "exit_code": 0,
        "name": "demo",
        "started": "2026-01-02T03:04:05Z",
        "recipe": settled,
        "overrides": ["training.seed=7"],
        "model": {"name": "owner/model", "revision": None},
        "versions": {"tunesmith": "0.1.0", "torch": "2.13.0"},
        "commit": None,
        "timings": {"prepare": 3.0, "train": 100.0, "evaluate": 20.0},
        "data": {"rows.jsonl": "25a22a1b"},
        "rewards": {"polite": "99aa"} if task == "grpo" else {},
        "result": {"event": None, "loss": 1.5, "training_loss": 1.5, "step": 3},
    }
    (directory / "run.json").write_text(json.dumps(found | state))
    plan = {
        "recipe": settled,
        "device_name": "NVIDIA H100",
        "processes": 2,
        "batch": {"effective": 16, "micro": 4, "accumulation": 2, "processes": 2, "reason": "the recipe says so"},
        "precision": {"value": "bfloat16", "reason": "the device has it"},
        "rows": {"train": 40, "evaluation": 3, "longest": 500, "lengths": [10, 20, 500]},
        "steps": {"total": 3},
        "memory": {"weights": GIB, "adapter": GIB, "gradients": 0, "optimizer": 0, "activations": GIB, "logits": GIB},
    }
    (directory / "plan.json").write_text(json.dumps(plan))
    (directory / "recipe.yaml").write_text(RECIPE.format(task=task))
    (directory / "ledger.json").write_text(json.dumps(LEDGER))
    rejects = [{"file": "rows.jsonl", "line": 3, "reason": "the row is no object", "row": "[1, 2]"}]
    lines(directory / "rejects.jsonl", rejects)
    held_out = {"step": 3, "epoch": 1.0, "event": "evaluation", "evaluation_loss": 1.2}
    metrics: dict[str, Any] = {"loss": SCORE, "exact_match": SCORE | {"verdict": "within noise"}}
    if task == "grpo":
        held_out = {"step": 3, "epoch": 1.0, "event": "evaluation", "measured": {"reward": 0.4, "reward/polite": 0.5}}
        metrics = {"reward": SCORE, "reward/polite": SCORE | {"base": None, "base_interval": None, "verdict": None}}
        lines(directory / "completions.jsonl", map(completion, range(24)))
        lines(directory / "rewards.jsonl", REWARD_LINES)
    events = [rewarded(number) if task == "grpo" else step(number) for number in (1, 2, 3)]
    lines(directory / "metrics.jsonl", [*events, held_out])
    scores = {"step": 3, "metrics": metrics, "rows": 40, "not_measured": ["rouge_l"], "questions": 8}
    (directory / "evaluation.json").write_text(json.dumps(scores))
    lines(directory / "samples.jsonl", [CALLING_SAMPLE if task == "function_calling" else SAMPLE])
    return directory
