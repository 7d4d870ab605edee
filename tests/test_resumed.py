"""A run that is stopped and gone on with ends in the same adapter, bit for bit, whatever it trains and however."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import DEMO, ROOT

pytestmark = pytest.mark.slow

ADAPTERS = ("lora", "dora")
WHOLE = {
    "sft": list(itertools.product((0, 1, 2, 3), ADAPTERS, ("none", "bfd"))),
    "continued_pretraining": list(itertools.product((0, 1, 2, 3), ADAPTERS, ("wrapped", "document"))),
    "grpo": list(itertools.product((0, 1, 2), ADAPTERS, (1, 2))),
}
# Every pair of two settings of a fine-tuning, and each setting of the others; with TUNESMITH_TRY_ALL=1 all of them.
SOME = {
    "sft": [each for each in WHOLE["sft"] if (each[2] == "none") == ((each[0] % 2 == 0) == (each[1] == "lora"))],
    "continued_pretraining": [
        (0, "lora", "wrapped"), (1, "dora", "wrapped"), (2, "dora", "document"), (3, "lora", "document"),
    ],
    "grpo": [(0, "dora", 2), (1, "lora", 2), (1, "dora", 1), (2, "lora", 1)],
}  # fmt: skip
CASES = WHOLE if os.environ.get("TUNESMITH_TRY_ALL") else SOME

TOTAL = 6
BASE: dict[str, Any] = {
    "training": {"max_steps": TOTAL, "batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3},
    "evaluation": {"samples": 0, "metrics": ["loss"]},
}
SAMPLED = 20  # tokens of each completion, which is in the third of the samplings of eight
# What may change, with a second half that has it.
ALLOWED = {
    "another rate": ["training.learning_rate=1e-4"],
    "more steps": ["training.max_steps=9"],
    "smaller micro-batches": ["training.micro_batch_size=1"],
    "other dropout": ["adapter.dropout=0.2"],
}


def recipe(task: str, model: Path, stage: int, adapter: str, third: Any) -> dict[str, Any]:
    """A recipe of six steps with one of the settings that are tried."""
    found: dict[str, Any] = {
        **BASE,
        "task": task,
        "model": {"name": str(model)},
        "adapter": {"type": adapter, "dropout": 0.05},
        "deepspeed": {"zero_stage": stage},
        "output": {"directory": "outputs"},
    }
    if task == "grpo":
        found["dataset"] = {"train": str(DEMO / "train.jsonl"), "limit": 8}
        found["grpo"] = {"num_generations": 4, "max_completion_length": 8, "num_iterations": third, "beta": 0.01}
        found["rewards"] = [{"use": "length_between", "options": {"maximum": 2, "edge": 8}}]
        found["training"] = {**BASE["training"], "batch_size": 8}
        found["evaluation"] = {"samples": 0}
    elif task == "sft":
        found["dataset"] = {"train": str(DEMO / "train.jsonl"), "limit": 16, "max_length": 256}
        found["training"] = {**BASE["training"], "packing": third}
    else:
        found["evaluation"] = {"metrics": ["loss"]}
        found["dataset"] = {"train": str(ROOT / "docs" / "*.md"), "max_length": 64}
        found["dataset"] |= {"overflow": "split"} if third == "document" else {}
        found["training"] = {**BASE["training"], "packing": third}
    return found


@pytest.fixture(scope="module")
def trials(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each case ended in."""
    folder = tmp_path_factory.mktemp("resumed")
    wanted = []
    for task, cases in CASES.items():
        for case in cases:
            path = folder / f"{named(task, *case)}.yaml"
            path.write_text(yaml.safe_dump(recipe(task, tiny_model, *case)), encoding="utf-8")
            wanted.append({"name": path.stem, "file": str(path)})
    path = folder / "allowed.yaml"
    path.write_text(yaml.safe_dump(recipe("sft", tiny_model, 1, "lora", "none")), encoding="utf-8")
    wanted += [{"name": name, "file": str(path), "changes": changed} for name, changed in ALLOWED.items()]
    path = folder / "sampling.yaml"
    sampling = recipe("grpo", tiny_model, 1, "lora", 1)
    sampling["training"]["checkpoints"] = {"every": TOTAL}
    path.write_text(yaml.safe_dump(sampling), encoding="utf-8")
    wanted.append({"name": "sampling", "file": str(path), "tokens": SAMPLED})
    command = [sys.executable, str(ROOT / "tests" / "resumed_trials.py"), str(folder)]
    quiet = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, input=json.dumps(wanted), env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]
    return {each.pop("name"): each for each in told}


def named(task: str, stage: int, adapter: str, third: object) -> str:
    return f"{task}-{stage}-{adapter}-{third}"


@pytest.mark.parametrize("name", [named(task, *case) for task, cases in CASES.items() for case in cases])
def test_the_second_half_is_that_of_a_whole_run(trials: dict[str, dict[str, Any]], name: str) -> None:
    found = trials[name]
    assert "fault" not in found, found["fault"]
    assert [step for step, _, _ in found["whole"]["steps"]] == list(range(1, TOTAL + 1))
    assert found["halves"] == found["whole"]


def test_a_run_that_was_stopped_while_it_sampled(trials: dict[str, dict[str, Any]]) -> None:
    found = trials["sampling"]
    assert "fault" not in found, found["fault"]
    assert found["halves"] == found["whole"]
    assert found["stopped"] == "step-2"


def test_a_run_goes_on_with_another_rate(trials: dict[str, dict[str, Any]]) -> None:
    whole, halves = steps_of(trials, "another rate")
    assert [each[:2] for each in halves[:3]] == [
        each[:2] for each in whole[:3]
    ]  # the loss before its first step with it
    for (_, _, rate), (_, _, other) in zip(whole[2:], halves[2:], strict=True):
        assert other == pytest.approx(rate / 10)


def test_a_run_goes_on_for_longer(trials: dict[str, dict[str, Any]]) -> None:
    whole, halves = steps_of(trials, "more steps")
    assert [step for step, _, _ in halves] == list(range(1, 10))
    assert halves[:3] == whole[:3] and halves[5][2] > whole[5][2]  # the schedule is that of the longer run


def test_a_run_goes_on_in_smaller_micro_batches(trials: dict[str, dict[str, Any]]) -> None:
    whole, halves = steps_of(trials, "smaller micro-batches")
    assert [loss for _, loss, _ in halves] == pytest.approx([loss for _, loss, _ in whole], rel=0.05)


def test_a_run_goes_on_with_other_dropout(trials: dict[str, dict[str, Any]]) -> None:
    whole, halves = steps_of(trials, "other dropout")
    assert halves[:2] == whole[:2] and halves[2][1] != whole[2][1]
    assert [rate for _, _, rate in halves] == [rate for _, _, rate in whole]


def steps_of(trials: dict[str, dict[str, Any]], name: str) -> tuple[list[Any], list[Any]]:
    """Step, loss and rate of a whole run, and of one whose second half had other settings."""
    found = trials[name]
    assert "fault" not in found, found["fault"]
    assert found["halves"]["adapter"] != found["whole"]["adapter"]
    return found["whole"]["steps"], found["halves"]["steps"]
