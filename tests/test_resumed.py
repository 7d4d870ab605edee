"""A run that is stopped and gone on with ends in the same adapter, bit for bit, whatever it trains and however."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import DEMO, ROOT, tried

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
# What a run was about when it was told to stop: the function, the time that it runs, how often it has asked by then;
# and the checkpoint of the first half.
DURING: dict[str, tuple[tuple[str, int, int], str]] = {
    "sampling": (("_generate_single_turn", 3, 4), "step-2"),
    "rewards": (("score", 3, 1), "step-2"),
    "evaluating": (("evaluate", 2, 2), "step-4"),
    "the last evaluation": (("evaluate", 3, 2), "step-6"),
    "before an early stop": (("evaluate", 2, 2), "step-4"),
    "evaluating answers": (("mean_score", 1, 3), "step-2"),
    "evaluating by rewards": (("evaluate", 2, 3), "step-4"),
}
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
    for name, (during, _) in DURING.items():
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(disturbed(name, tiny_model)), encoding="utf-8")
        wanted.append({"name": name, "file": str(path), "during": during})
    return tried(folder, wanted)


def disturbed(name: str, model: Path) -> dict[str, Any]:
    """A recipe that saves at its end, unless it is told to stop, and where an evaluation changes what follows."""
    learns_by_rewards = name in ("sampling", "rewards", "evaluating by rewards")
    found = recipe("grpo", model, 1, "lora", 1) if learns_by_rewards else recipe("sft", model, 1, "lora", "none")
    found["training"] = {**found["training"], "checkpoints": {"every": TOTAL}}
    if name in ("sampling", "rewards"):
        return found
    found["dataset"] = {**found["dataset"], "evaluation": str(DEMO / "evaluation.jsonl")}
    found["evaluation"] = {"samples": 4, "max_new_tokens": 4}
    found["training"]["evaluate_every"] = 2
    if name == "before an early stop":
        found["training"]["early_stopping"] = {"patience": 1, "min_delta": 1000}
    elif name == "evaluating answers":
        found["training"]["early_stopping"] = {"metric": "exact_match", "patience": 9}
    elif not learns_by_rewards:
        found["training"] |= {"scheduler": "reduce_lr_on_plateau", "warmup_ratio": 0}
    return found


def named(task: str, stage: int, adapter: str, third: object) -> str:
    return f"{task}-{stage}-{adapter}-{third}"


@pytest.mark.parametrize("name", [named(task, *case) for task, cases in CASES.items() for case in cases])
def test_the_second_half_is_that_of_a_whole_run(trials: dict[str, dict[str, Any]], name: str) -> None:
    found = trials[name]
    assert "fault" not in found, found["fault"]
    assert [step for step, _, _ in found["whole"]["steps"]] == list(range(1, TOTAL + 1))
    assert found["halves"] == found["whole"]


@pytest.mark.parametrize("name", DURING)
def test_a_run_that_was_stopped_in_the_middle_of_it(trials: dict[str, dict[str, Any]], name: str) -> None:
    found = trials[name]
    assert "fault" not in found, found["fault"]
    assert found["stopped"] == DURING[name][1]
    assert found["halves"] == found["whole"]
    evaluated = [event["step"] for event in found["whole"]["evaluations"]]
    assert evaluated == ([] if name in ("sampling", "rewards") else [2, 4, 6][: 2 if "early stop" in name else 3])


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
